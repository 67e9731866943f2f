"""Lifechart: a clinical foundation model that a health institution owns, from the first record to the last answer.

The rooms, from the ground up; each may import only what stands below it (tests/test_import_law.py):

- `core`      the nouns: Timeline, Forecast, Answer, Report, and the contract Capability
- `codes`     terminologies; `ledger`: the append-only log of signed statements
- `data`      records in; `simulate`: a hospital whose truth is known; `release`: what may leave, and how far
- `model`     the network (torch lives here alone); `evaluate`: what it is worth; `care`: what it may say
- `serve`     the web; `cli`: one verb a stage
"""

__version__ = "0.1.0"
