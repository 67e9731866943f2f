"""When something went wrong: incidents, and recalls of what was said.

Read in this order:

- `policy`    severities with their clocks, kinds of problem and cause, regulators (policy.toml)
- `words`     what people write, kept outside the ledger
- `course`    one incident, replayed from its statements
- `scope`     which answers a recall is about, and whom they reached
- `book`      all incidents and recalls, kept up with the ledger
- `recall`    notices, and who has acknowledged them
- `register`  report, triage, root cause, corrective action, closure
- `export`    the fields that a regulator asks for
"""
