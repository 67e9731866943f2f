"""A hospital whose truth is known: lives, their records, and the best that any model could say of them."""
