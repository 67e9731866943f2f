"""One file a modality; each turns events into vectors."""
