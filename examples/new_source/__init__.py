"""A source of one's own: `pipes` reads a small format that nobody else has; docs/how-to-add/source.md explains it."""
