"""Terminologies: the short names of code systems, and each code's parents."""
