"""From a person's record to one that no longer names a person."""
