"""The web: access, audit, pages and hooks."""
