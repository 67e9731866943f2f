"""Records in: sources read them, deidentify strips them, shards hold them."""
