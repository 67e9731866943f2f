"""Notes of a live chart as a model learnt to read them: with tags in the place of what identifies the patient.

A data set's notes have been through de-identification, a chart's at the bedside have not. Its events carry a
`reference`, which de-identified data lack, so the two are told apart.
"""

from __future__ import annotations

import polars as pl

from lifechart.core.timeline import Timeline
from lifechart.model.vocabulary import UNREAD_KINDS, Vocabulary


def as_learnt(timeline: Timeline, vocabulary: Vocabulary) -> Timeline:
    """Return the chart with its notes' text de-identified, if the model reads notes and learnt from such text."""
    pieces = vocabulary.modalities.get("note", {}).get("pieces", ())
    if not any(piece.startswith("[") and len(piece) > len("[</w>") for piece in pieces):
        return timeline
    events = timeline.events
    prose = pl.col("kind").is_in(UNREAD_KINDS) & pl.col("text_value").is_not_null() & pl.col("reference").is_not_null()
    where = events.select(prose.alias("live")).get_column("live").arg_true()
    if not len(where):
        return timeline
    from lifechart.data.deidentify.text.redact import Request, redact

    told = [result.text for result in redact([Request(text) for text in events["text_value"].gather(where)])]
    texts = events["text_value"].scatter(where, pl.Series(told, dtype=pl.String))
    return Timeline(timeline.subject_id, events.with_columns(text_value=texts))
