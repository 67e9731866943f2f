"""Records in: from a hospital's export to a de-identified data set.

Read in this order: `sources` (what stands in a file), `ingest` (the whole way), then its steps `spill`, `settle`,
`tally` and `publish`, with `deidentify` beside them; `account` (what became of everything), `shards` (the data set on
disk), `cohort` (who is in it). `units` brings values to one unit a code, `notes` lets de-identified prose in, `images`
keeps arrays beside the data set; `engines` runs the steps on this machine or on a cluster, `vault` encrypts what they
made. Then who may be in it and where those who withdrew still are (`consent`), how likely
somebody is to be recognised (`deidentify.risk`), and how long it is kept (`retention`).
"""
