"""Benchmarks: `python -m bench NAME` prints a table, then one line of JSON."""
