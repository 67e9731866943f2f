"""De-identifies free text."""
