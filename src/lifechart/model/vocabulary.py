"""What the model can read and forecast: codes with parents and value scales, and outcomes. Built from train only."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
from numpy.typing import NDArray

from lifechart.codes.parents import ancestors
from lifechart.core import durable
from lifechart.core.errors import InputError
from lifechart.core.timeline import BIRTH, DEATH, RECORD_END, believable
from lifechart.model.usual import no_usual, usual_levels

UNKNOWN, START = 0, 1
"""Rows of the vocabulary that stand for any code it does not hold, and for the beginning of a record."""
ADMISSION = "ENCOUNTER//inpatient"
QUANTILES = (0.005, 0.05, 0.15, 0.325, 0.5, 0.675, 0.85, 0.95, 0.995)
"""Where the knots of a code's value scale lie among its training values."""

_NOT_AN_ONSET = ("ABATED//", "STOPPED//", "FAMILY//", "ALLERGY//")
UNREAD_KINDS = ("note", "report")
"""Kinds that say nothing here which their encounter and results do not: a note's text has its own encoder."""
_TEXT_KINDS = ("demographic", "laboratory", "vital", "survey")
_TEXT_LIMIT = 64
_FEWEST_VALUES = 20


@dataclass(frozen=True)
class Vocabulary:
    """Codes by row. `knots` is NaN-filled where a code carries no values; `parents` lists rows, -1 padded.

    `usual` [V, A] is the level that is usual at each of usual.USUAL_AGES.
    """

    codes: tuple[str, ...]
    units: tuple[str | None, ...]
    knots: NDArray[np.float32]
    parents: NDArray[np.int64]
    outcomes: tuple[str, ...]
    usual: NDArray[np.float32]
    modalities: dict[str, Any] = field(default_factory=dict)
    """What each modality besides coded events has to know (lifechart.model.modalities)."""
    rows: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", {code: row for row, code in enumerate(self.codes)})

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def valued(self) -> NDArray[np.int64]:
        """For each row, its index among the codes that carry values, or -1."""
        has_values = ~np.isnan(self.knots[:, 0])
        return np.where(has_values, np.cumsum(has_values) - 1, -1)

    def row(self, code: str) -> int:
        """Return the row of `code`, of its nearest known ancestor, or UNKNOWN.

        A code with a text value is written `CODE=TEXT`; its first ancestor is the bare code.
        """
        if (row := self.rows.get(code)) is not None:
            return row
        return next((self.rows[wider] for wider in wider_codes(code) if wider in self.rows), UNKNOWN)

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        rows = [
            {
                "code": code,
                "unit": self.units[row],
                "knots": None if np.isnan(self.knots[row, 0]) else self.knots[row].tolist(),
                "usual": None if np.isnan(self.knots[row, 0]) else self.usual[row].tolist(),
                "parents": [int(wider) for wider in self.parents[row] if wider >= 0],
            }
            for row, code in enumerate(self.codes)
        ]
        modalities = {"modalities": self.modalities} if self.modalities else {}
        durable.write_json(path, {"codes": rows, "outcomes": list(self.outcomes), **modalities})

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read what `save` wrote; raises InputError if it is not that."""
        try:
            content = orjson.loads(path.read_bytes())
            codes = [row["code"] for row in content["codes"]]
            units = [row["unit"] for row in content["codes"]]
            knots = [row["knots"] or [np.nan] * len(QUANTILES) for row in content["codes"]]
            # As they were when it was trained, whatever terminologies this institution has.
            parents = [row["parents"] for row in content["codes"]] if "parents" in content["codes"][0] else None
            usual = no_usual(len(codes), len(QUANTILES))
            for row, each in enumerate(content["codes"]):
                usual[row] = each.get("usual") or usual[row]
            scales = np.array(knots, dtype=np.float32)
            found = assemble(codes, units, scales, tuple(content["outcomes"]), parents, usual)
            return replace(found, modalities=content.get("modalities", {}))
        except (OSError, orjson.JSONDecodeError, KeyError, TypeError, IndexError) as error:
            raise InputError("vocabulary", str(path), f"a vocabulary written by `lifechart train` ({error})") from error


def wider_codes(code: str) -> list[str]:
    """Return the ancestors of a code as events carry it, nearest first.

    >>> wider_codes("LOINC//72166-2=Never smoker")
    ['LOINC//72166-2', 'LOINC//*']
    """
    bare, mark, _ = code.partition("=")
    return ([bare] if mark else []) + ancestors(bare)


def event_codes() -> pl.Expr:
    """Return the code as the model reads it: a short categorical text value becomes part of it."""
    is_category = (
        pl.col("text_value").is_not_null()
        & pl.col("numeric_value").is_null()
        & pl.col("kind").is_in(_TEXT_KINDS)
        & (pl.col("text_value").str.len_chars() <= _TEXT_LIMIT)
    )
    joined = pl.concat_str("code", pl.lit("="), "text_value")
    return pl.when(is_category).then(joined).otherwise(pl.col("code"))


def assemble(
    codes: list[str],
    units: list[str | None],
    knots: NDArray[np.float32],
    outcomes: tuple[str, ...],
    known: list[list[int]] | None = None,
    usual: NDArray[np.float32] | None = None,
) -> Vocabulary:
    """Build a vocabulary from its columns, resolving each code's ancestors to rows unless they are `known`.

    `usual` [V, A]: the usual levels by age; by default the middle of every scale.
    """
    if known is None:
        rows = {code: row for row, code in enumerate(codes)}
        known = [[rows[wider] for wider in wider_codes(code) if wider in rows] for code in codes]
    parents = np.full((len(codes), max(1, *(len(each) for each in known))), -1, dtype=np.int64)
    for row, each in enumerate(known):
        parents[row, : len(each)] = each
    usual = no_usual(len(codes), len(QUANTILES)) if usual is None else usual
    return Vocabulary(tuple(codes), tuple(units), knots, parents, outcomes, usual)


def build_vocabulary(events: pl.DataFrame, *, fewest_subjects: int = 10, fewest_onsets: int = 20) -> Vocabulary:
    """Count the training events into a vocabulary.

    A code needs `fewest_subjects` people to have its own row; rarer ones count towards their ancestors. A condition
    needs `fewest_onsets` people to be an outcome; death and admission to hospital always are, if they occur.
    """
    unread = pl.col("code").is_in([BIRTH, RECORD_END]) | pl.col("kind").is_in(UNREAD_KINDS)
    read = events.filter(~unread.fill_null(False)).with_columns(token=event_codes())
    holders = read.select("token", "subject_id").unique()
    counts = dict(holders.group_by("token").len().iter_rows())
    descendants: dict[str, int] = defaultdict(int)
    for code, count in counts.items():
        for wider in wider_codes(code):
            descendants[wider] += count
    kept = {code for code, count in counts.items() if count >= fewest_subjects}
    kept |= {code for code, count in descendants.items() if count >= fewest_subjects}
    codes = ["UNKNOWN", "START", *sorted(kept)]
    units, knots, usual = _value_scales(read, events, codes)
    return assemble(codes, units, knots, _outcomes(events, fewest_onsets), usual=usual)


def is_onset() -> pl.Expr:
    """Return whether an event may be an outcome: a condition that begins, a death, an admission."""
    begins = ~pl.any_horizontal(pl.col("code").str.starts_with(prefix) for prefix in _NOT_AN_ONSET)
    return ((pl.col("kind") == "condition") & begins) | pl.col("code").is_in([DEATH, ADMISSION])


def _outcomes(events: pl.DataFrame, fewest_onsets: int) -> tuple[str, ...]:
    counts = (
        events.filter(is_onset() & pl.col("time").is_not_null())
        .group_by("code")
        .agg(pl.col("subject_id").n_unique().alias("people"))
    )
    frequent = set(counts.filter(pl.col("people") >= fewest_onsets)["code"])
    conditions = sorted(frequent - {DEATH, ADMISSION})
    return tuple([code for code in (DEATH, ADMISSION) if code in set(counts["code"])] + conditions)


def _value_scales(
    read: pl.DataFrame, events: pl.DataFrame, codes: list[str]
) -> tuple[list[str | None], NDArray[np.float32], NDArray[np.float32]]:
    """Return each code's unit, the knots of its values in it, and their usual levels by age."""
    valued = read.with_columns(numeric_value=believable()).filter(pl.col("numeric_value").is_finite())
    commonest = (
        valued.group_by("token", "unit")
        .len()
        .sort("len", "unit", descending=[True, False], nulls_last=True)
        .unique("token", keep="first", maintain_order=True)
        .select("token", common_unit="unit")
    )
    comparable = valued.join(commonest, on="token").filter(pl.col("unit").eq_missing(pl.col("common_unit")))
    scales = (
        comparable.group_by("token", "common_unit")
        .agg(
            pl.len().alias("count"),
            *(pl.col("numeric_value").quantile(q, "linear").alias(str(q)) for q in QUANTILES),
        )
        .filter(pl.col("count") >= _FEWEST_VALUES)
    )
    rows = {code: row for row, code in enumerate(codes)}
    units: list[str | None] = [None] * len(codes)
    knots = np.full((len(codes), len(QUANTILES)), np.nan, dtype=np.float32)
    for scale in scales.iter_rows(named=True):
        if (row := rows.get(scale["token"])) is not None:
            units[row] = scale["common_unit"]
            knots[row] = [scale[str(q)] for q in QUANTILES]
    placed = comparable.with_columns(row=pl.col("token").replace_strict(rows, default=None, return_dtype=pl.Int64))
    return units, knots, usual_levels(placed.drop_nulls("row"), events, knots)
