"""The separate verifier."""
