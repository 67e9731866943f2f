"""What may leave, on what evidence, and how far.

Read in this order:

- `criteria`    what is demanded of a capability: one TOML file each
- `gate`        the demands held against a Report
- `manifest`    what a release consists of, signed
- `case`        Report, verdict and ledger statements together: what a release is made from
- `history`     what the ledger says of each capability: the only source of what is current
- `shelf`       release, verify, roll back, set phases, switch off
- `people`      who may sign, in which offices
- `approvals`   signatures of named people over exact bytes
- `protocol`    what will be examined, sealed before anybody looks
- `validation`  a protocol carried out
- `stages`      what a phase demands: evidence and signatures
- `trial`       randomised trials, from allocation to result; `sequential` has their stopping bounds
- `incidents`   harms and bad answers, from report to closure, and recalls
- `change_control`  which retrained models may take their predecessor's place
- `monitoring`  what follows from an alarm: a statement, and a lower phase
- `documents`   what a release tells others, each sentence with its evidence
"""
