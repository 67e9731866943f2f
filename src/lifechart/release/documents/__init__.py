"""Documents written from evidence, which refuse to print what has none behind it.

Read in this order:

- `evidence`   what is known of a release, each thing by its digest; a sentence without a source cannot be made
- `facts`      the sentences that evidence can make: what it is, how it was made, released, tried and used
- `worth`, `studies`, `use`   the same for its Report, for registered protocols and the trial, and for answers in use
- `checklist`  a standard's items (lists/*.toml) filled with facts, or marked open for a named office
- `consort`    the flow of a trial's participants, counted from the ledger
- `card`       the model card as XML (CHAI schema v0.2)
- `page`, `print`  a document as HTML and as PDF
- `write`      all documents of a release, and the reason for each that cannot be written
"""
