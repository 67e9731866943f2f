"""A forecaster of labels that somebody gives: `lifechart train DATASET --labels LABELS`.

Read in this order: `target` (what is learnt: a yes or no, or a time to an event), `folds` (subjects in parts), `trees`,
`linear`, `dense` (three kinds of member: folds say how each is best fitted, and the first two are then fitted to
everybody), `scaling` (what the last two read), `blend` (how much each member counts, from what each said of people it
had not seen), `fit` (all of it), `folder` and `forecaster` (on disk, and behind core's Forecaster protocol).
"""
