"""A forecaster of labels that somebody gives: `lifechart train DATASET --labels LABELS`.

Read in this order: `target` (what is learnt: a yes or no, or a time to an event), `folds` (subjects in parts), `trees`,
`linear`, `dense` (three kinds of member, each fitted in folds), `scaling` (what the last two read), `blend` (how much
each member counts, from what each said of people it had not seen), `fit` (all of it), `folder` and `forecaster` (on
disk, and behind core's Forecaster protocol).
"""
