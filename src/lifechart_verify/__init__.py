"""Checks a log of signed statements offline. A program of its own: it shares no line with the one that writes the log.

It needs a copy of the log, the log's public key, Python and `cryptography`; an auditor may carry this folder alone:

    python -m lifechart_verify COPY --key ledger.pub

Read in this order:

- `merkle`      hashes, roots and proofs as RFC 6962 and RFC 9162 define them, by recursion as they are written there
- `notes`       public keys, signed notes, checkpoints, witnesses' cosignatures (C2SP)
- `files`       the log's files: tiles and bundles (C2SP tlog-tiles), the journal of what is not in tiles yet
- `statements`  one entry: a DSSE envelope around an in-toto statement
- `findings`    what can be wrong, and what a check found
- `audit`       the whole check
- `inclusion`   one entry's proof, without reading the rest
- `__main__`    the command
"""
