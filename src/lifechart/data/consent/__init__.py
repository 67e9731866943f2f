"""Who may be in a data set: what patients decided, and where those who withdrew still are.

Read in this order: `register` (the decisions, under home, readable by its owner alone), `fhir` (FHIR Consent as
decisions), `admission` (who may enter a build), `members` (which data sets hold whom, provable and telling nothing),
`holdings` (where one patient still is), `standing` (what the ledger alone says, for the steward).
"""
