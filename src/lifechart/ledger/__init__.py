"""The append-only log: signed statements in a Merkle tree that anyone can check offline."""
