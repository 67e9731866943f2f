"""The web: who may ask, how an answer is made and audited, and the outlets that show it.

Read in this order: `bedside` (one question, from chart to audited answer), then what it calls: `access`, `records`,
`predict`, `audit`; then `store`, `pages` and `app`, which put them together; then `surfaces`, one file an outlet.
"""
