"""What may leave, on what evidence, and how far.

Read in this order:

- `criteria`    what is demanded of a capability: one TOML file each
- `gate`        the demands held against a Report
- `manifest`    what a release consists of, signed
- `case`        Report, verdict and ledger statements together: what a release is made from
- `history`     what the ledger says of each capability: the only source of what is current
- `shelf`       release, verify, roll back, set phases, switch off
- `approvals`   signatures of named people over a release
"""
