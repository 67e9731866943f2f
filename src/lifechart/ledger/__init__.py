"""The append-only log: signed statements in a Merkle tree that anyone can check offline.

Read in this order:

- `merkle`      the tree and its proofs, pure (RFC 6962)
- `keys`        who signs, and how a signer is recognised
- `statement`   the signed sentences (in-toto in DSSE)
- `checkpoint`  the log's signed head (C2SP)
- `tiles`       the published form on disk (C2SP tlog-tiles)
- `journal`     what makes an append durable
- `replica`     what one process knows of a log, and how it catches up
- `log`         who may append: threads, processes, group commit
- `index`       entries by kind and digest
- `trace`       what a thing rests on
"""
