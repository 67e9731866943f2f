"""What may leave, on what evidence, and how far."""
