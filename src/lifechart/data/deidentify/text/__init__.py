"""Takes identifiers out of free text: rules as data, lists of names, and a small learned tagger, united.

Read in this order: `redact` (the whole way of a text), `spans` (what is called what, how findings are joined),
`rules` and their tables in `rules/`, `words` (tokens, the lists in `lists/`), `tagger` with `features` (the network,
its weights in `weights/`), `known` (the patient's own identifiers), `surrogates` with `moved_dates` (what stands in for
them), `language`, `lines` (the command's JSON). For training, in `lifechart.model.tagger`: `corpora` (marked texts),
`augment` and `fill` (texts made up). The guide is docs/guides/text.md.
"""
