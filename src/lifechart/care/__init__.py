"""What Lifechart may do for someone: one capability a file."""
