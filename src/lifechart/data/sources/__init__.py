"""One file a format; each turns records into the rows of timelines."""
