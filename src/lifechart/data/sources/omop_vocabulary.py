"""Concept ids to codes and names, by the concept table that lies with an OMOP export (Athena's, or the database's own).

The table is held once a process, sorted by id: about 0.1 GB for a million concepts. An export without one still reads:
its concepts are then `OMOP//ID`.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import polars as pl

from lifechart.codes.systems import UNLISTED
from lifechart.data.sources import cells, omop_files
from lifechart.data.sources.omop_mapping import CONCEPT, systems

FIRST_LOCAL = 2_000_000_000
"""Concept ids from here on are a site's own; what they stand for is known to it alone."""
_COLUMNS = ["concept_id", "concept_code", "concept_name", "vocabulary_id", "concept_class_id"]
_SCHEMA = {
    "concept_id": pl.Int64,
    "code": pl.String,
    "name": pl.String,
    "class": pl.Categorical,
}


class Vocabulary:
    """Answers for the concepts of one export."""

    def __init__(self, concepts: pl.DataFrame) -> None:
        if not (concepts.get_column("concept_id").is_sorted() and concepts.get_column("concept_id").is_unique().all()):
            concepts = concepts.unique("concept_id", keep="first", maintain_order=True).sort("concept_id")
        self._concepts = concepts
        self._ids = self._concepts.get_column("concept_id")

    def of(self, ids: pl.Series) -> pl.DataFrame:
        """Return columns concept_id, code, name, class of those among `ids` (null and 0 left out) that have a code."""
        wanted = ids.filter(ids.is_not_null() & (ids > 0)).unique().sort().alias("concept_id")
        at = self._ids.search_sorted(wanted)
        found = self._concepts[at.filter(at < len(self._ids))] if len(self._ids) else self._concepts
        known = found.filter(pl.col("concept_id").is_in(wanted.implode())).with_columns(pl.col("class").cast(pl.String))
        rest = wanted.to_frame().join(known, on="concept_id", how="anti").filter(pl.col("concept_id") < FIRST_LOCAL)
        unknown = rest.with_columns(
            code=pl.lit("OMOP//") + pl.col("concept_id").cast(pl.String),
            name=pl.lit(None, pl.String),
            **{"class": pl.lit(None, pl.String)},
        )
        return pl.concat([known.unique("concept_id"), unknown])


@lru_cache(maxsize=1)
def vocabulary(root: Path, stamp: tuple[int, ...]) -> Vocabulary:
    """Return the vocabulary of the export at `root`; `stamp` tells one state of its files from another."""
    parts = [
        _coded(piece.frame)
        for span in omop_files.spans(root, CONCEPT)
        for piece in omop_files.read(span, CONCEPT, _COLUMNS)
    ]
    return Vocabulary(pl.concat(parts) if parts else pl.DataFrame(schema=_SCHEMA))


def _coded(frame: pl.DataFrame) -> pl.DataFrame:
    id_ = cells.whole("concept_id", frame)
    code, vocabulary_id = cells.text("concept_code", frame), cells.text("vocabulary_id", frame)
    system = vocabulary_id.replace_strict(systems(), default=None, return_dtype=pl.String)
    local = pl.when(id_ >= FIRST_LOCAL).then(pl.lit(UNLISTED + "//") + code)
    public = pl.lit("OMOP//") + id_.cast(pl.String)
    return frame.select(
        concept_id=id_,
        code=pl.coalesce(
            pl.when(system.is_not_null() & code.is_not_null()).then(system + pl.lit("//") + code), local, public
        ),
        name=cells.text("concept_name", frame),
        **{"class": cells.text("concept_class_id", frame).cast(pl.Categorical)},
    ).filter(pl.col("concept_id") > 0)
