"""Second pass of ingestion: all rows of one bucket of subjects, put right and in order.

Each rule here is a stated outcome: of two versions of a resource the newer counts; who has no Patient resource is
quarantined; a row without a date takes its encounter's; nothing is kept from after the observation's end or before the
birth; the same event twice is one event. The result does not depend on the order of files or lines.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import polars as pl
import pyarrow.ipc as ipc

from lifechart.core import durable
from lifechart.core.timeline import BIRTH, RECORD_END, UNDATED
from lifechart.data import deaths, tally, units
from lifechart.data.deidentify import dates
from lifechart.data.sources import AFTER_END, DUPLICATE, HELD_BACK, LINKED, OLDER_VERSION, order
from lifechart.data.spill import Plan

EVENTS: dict[str, Any] = {
    "subject_id": pl.Int64,
    "time": pl.Datetime("us"),
    "code": pl.String,
    "numeric_value": pl.Float32,
    "text_value": pl.String,
    "unit": pl.String,
    "kind": pl.String,
    "name": pl.String,
}
"""Columns of a settled event: those of a data set, and the display that stood beside the code."""

_RESOURCE = ("number", "position")
_OPEN_END = dates.OLDEST - pl.duration(days=1)


@dataclass(slots=True)
class Settled:
    """What became of one bucket."""

    events: pl.DataFrame
    """Columns EVENTS, sorted by subject and time; the same whatever the order in which rows came."""
    left_out: pl.DataFrame
    """Columns number (of the unit), position, type, outcome: resources of which no event stayed. The outcome is one of
    sources.OUTCOMES or, for the quarantined, the reason."""
    dropped: Counter[str]
    """Reason -> single events left out."""
    values: Counter[str] = field(default_factory=Counter)
    """What became of values and their units (units.Converted.counts)."""
    conversions: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=units.CONVERSIONS))


def read_bucket(plan: Plan, bucket: int, units: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return a bucket's rows (columns SPILLED and `number`, the unit), and (subject_id, offset, curtailment)."""
    frames = []
    for number in range(units):
        file = plan.spill_file(number)
        with ipc.open_file(str(file)) as reader:
            frame = pl.from_arrow(reader.get_batch(bucket))
        assert isinstance(frame, pl.DataFrame)
        frames.append(frame.with_columns(number=pl.lit(number, pl.Int32)))
    subjects = pl.read_ipc(plan.subjects_file).filter(pl.col("subject_id") % plan.buckets == bucket)
    return pl.concat(frames), subjects


def settle_bucket(plan: Plan, bucket: int, num_units: int, anchor: str, end: datetime) -> None:
    """Settle one bucket and write its events, what was left out, and its counts, unless an earlier run already did."""
    file = plan.bucket_file(bucket)
    note = file.with_suffix(".json")
    if note.exists():
        return
    rows, subjects = read_bucket(plan, bucket, num_units)
    linked = pl.read_ipc(plan.linked_file)
    settled = settle(rows, subjects, linked, anchor=anchor, end=end, mode=plan.dates)
    tally.count(settled.events, plan.min_patients).save(file)
    written = ((settled.events, ".arrow"), (settled.left_out, ".left_out"), (settled.conversions, ".conversions"))
    for frame, suffix in written:
        with durable.replacing(file.with_suffix(suffix)) as aside:
            frame.write_ipc(aside)
    durable.write_json(file.with_suffix(".values"), settled.values)
    durable.write_json(note, settled.dropped)


def settle(
    rows: pl.DataFrame, subjects: pl.DataFrame, linked: pl.DataFrame, *, anchor: str, end: datetime, mode: str
) -> Settled:
    """Return the events of a bucket.

    `linked`: columns link, supplied, supplied_name (what linked resources supply). `anchor`: the type that proves a
    patient. `end`: when observation ended, before any shift. `mode`: as in deidentify.dates.
    """
    rows, superseded = _newest(rows)
    rows, superseded = _one_death(rows, superseded)
    rows = _supply(rows.drop("updated", "revision"), linked)
    limits = _limits(rows, subjects, end)
    flagged = rows.join(limits, on="subject_id", how="left", maintain_order="left")
    flagged = flagged.with_columns(outcome=_outcome(rows, anchor))
    kept = flagged.filter(pl.col("outcome").is_null())
    out = pl.concat([superseded, flagged.filter(pl.col("outcome").is_not_null()).select(superseded.columns)])
    dropped = Counter(dict(out.get_column("outcome").value_counts().iter_rows()))
    # Somebody of whom nothing dated is left was not observed.
    seen = kept.filter(pl.col("time").is_not_null()).get_column("subject_id").unique()
    dated = pl.col("subject_id").is_in(seen.to_list())
    unseen = kept.filter(~dated).with_columns(outcome=pl.lit(AFTER_END)).select(superseded.columns)
    converted = units.canonical(kept.filter(dated))
    kept = converted.events
    left_out = (
        pl.concat([out, unseen])
        .unique(_RESOURCE, keep="first", maintain_order=True)
        .join(kept.select(_RESOURCE), on=_RESOURCE, how="anti")
    )
    observed = kept.filter(pl.col("code") != RECORD_END)
    capped = dates.cap_ages(observed)
    events = _in_order(pl.concat([capped.select(list(EVENTS)), _record_ends(capped)]))
    dropped["before the age cap"] += observed.height - capped.height
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).shift(1)) for name in EVENTS if name != "name")
    single = events.filter(~same.fill_null(False))
    dropped["repeated"] += events.height - single.height
    if mode == "year":
        single = single.with_columns(time=dates.years(pl.col("time")))
    return Settled(single, left_out, +dropped, converted.counts, converted.conversions)


def _limits(rows: pl.DataFrame, subjects: pl.DataFrame, end: datetime) -> pl.DataFrame:
    """Return subject_id, birth and cut of each subject: between them lies what may be kept."""
    times = rows.filter(pl.col("code").is_in([BIRTH, RECORD_END])).select("subject_id", "code", "time")
    births = (
        times.filter(pl.col("code") == BIRTH).group_by("subject_id", maintain_order=True).agg(birth=pl.first("time"))
    )
    stated = times.filter(pl.col("code") == RECORD_END).group_by("subject_id").agg(stated=pl.col("time").max())
    found = subjects.join(births, on="subject_id", how="left").join(stated, on="subject_id", how="left")
    cut = pl.lit(end, pl.Datetime("us")) + pl.col("offset") - pl.col("curtailment")
    return found.select("subject_id", "birth", cut=pl.coalesce("stated", cut))


def _newest(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Keep each resource's newest version; of equal ones, the first met."""
    columns = (*_RESOURCE, "type", "outcome")
    named = rows.filter(pl.col("resource").is_not_null()).unique(_RESOURCE, maintain_order=True)
    if not named.get_column("resource").is_duplicated().any():
        return rows, rows.clear().with_columns(outcome=pl.lit(None, pl.String)).select(columns)
    version = ["updated", "revision"]
    ranked = named.select(*_RESOURCE, "resource", *version).sort(
        *version, *_RESOURCE, descending=[True, True, False, False], nulls_last=True
    )
    first = ranked.unique("resource", keep="first", maintain_order=True)
    others = ranked.join(first.select(_RESOURCE), on=_RESOURCE, how="anti").join(
        first.select("resource", newest_updated="updated", newest_revision="revision"), on="resource"
    )
    equal = pl.all_horizontal(pl.col(name).eq_missing(pl.col(f"newest_{name}")) for name in version)
    verdicts = others.select(
        *_RESOURCE, outcome=pl.when(equal).then(pl.lit(DUPLICATE)).otherwise(pl.lit(OLDER_VERSION))
    )
    return (
        rows.join(verdicts, on=_RESOURCE, how="anti", maintain_order="left"),
        rows.join(verdicts, on=_RESOURCE, maintain_order="left").select(columns),
    )


def _one_death(rows: pl.DataFrame, superseded: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Take out the deaths that give way to another; as (rows, superseded), as `_newest` returns them."""
    others = deaths.superseded(rows)
    if others is None:
        return rows, superseded
    keys = (*_RESOURCE, "code")
    more = others.with_columns(outcome=pl.lit(DUPLICATE)).select(superseded.columns)
    return rows.join(others.select(keys), on=keys, how="anti", maintain_order="left"), pl.concat([superseded, more])


def _supply(rows: pl.DataFrame, linked: pl.DataFrame) -> pl.DataFrame:
    """Give undated rows their encounter's last time, and rows without a code their medication's."""
    if rows.get_column("link").is_null().all():
        return rows
    visits = (
        rows.filter(pl.col("type") == "Encounter", pl.col("resource").is_not_null())
        .group_by("subject_id", link="resource")
        .agg(visit=pl.col("time").max())
    )
    found = rows.join(visits, on=["subject_id", "link"], how="left", maintain_order="left").join(
        linked, on="link", how="left", maintain_order="left"
    )
    code, supplied = pl.col("code"), pl.col("supplied")
    wanting = code.str.ends_with(LINKED)
    return found.with_columns(
        time=pl.coalesce("time", "visit"),
        code=pl.when(wanting & supplied.is_not_null()).then(code.str.strip_suffix(LINKED) + supplied).otherwise(code),
        name=pl.when(wanting & (code == LINKED)).then("supplied_name").otherwise("name"),
    ).drop("visit", "supplied", "supplied_name")


def _outcome(rows: pl.DataFrame, anchor: str) -> pl.Expr:
    """Return why a row does not stay, or null. Reads the columns `cut` and `birth`."""
    proofs = rows if not anchor else rows.filter(pl.col("type") == anchor)
    present = pl.col("subject_id").is_in(proofs.get_column("subject_id").unique().to_list())
    undated = pl.col("time").is_null() & ~pl.col("kind").is_in(UNDATED)
    return (
        pl.when(~present)
        .then(pl.lit("patient absent"))
        .when((pl.col("kind") == "note") & pl.col("text_value").is_null())
        .then(pl.lit(HELD_BACK))
        .when(pl.col("code").str.ends_with(LINKED))
        .then(pl.lit("medication or device absent"))
        .when(undated)
        .then(pl.lit("no date"))
        .when(pl.col("time") > pl.col("cut"))
        .then(pl.lit(AFTER_END))
        .when(pl.col("time") < pl.col("birth") - pl.duration(days=1))
        .then(pl.lit("before birth"))
    )


def _record_ends(events: pl.DataFrame) -> pl.DataFrame:
    """Return each subject's RECORD_END: at the cut, of the dead too, and never past the age of 90.

    Of the dead too: a window that is still open at the cut is unknown whoever it belongs to. Were the dead observed to
    their death only, such windows would be known of them alone, and deaths be over-counted.
    """
    last = pl.col("time").max()
    birth = pl.col("time").filter(pl.col("code") == BIRTH).first()
    ends = events.group_by("subject_id").agg(last=last, birth=birth, cut=pl.col("cut").first())
    before_ninety = pl.max_horizontal("last", pl.col("birth") + _OPEN_END)
    return ends.select(
        "subject_id",
        time=pl.min_horizontal("cut", before_ninety),
        code=pl.lit(RECORD_END),
        numeric_value=pl.lit(None, pl.Float32),
        text_value=pl.lit(None, pl.String),
        unit=pl.lit(None, pl.String),
        kind=pl.lit("record"),
        name=pl.lit("End of observation"),
    )


def _in_order(events: pl.DataFrame) -> pl.DataFrame:
    """Sort by subject and time, undated first, and within a moment as sources.order says."""
    return events.with_columns(rank=order.rank_expression()).sort("subject_id", *order.KEYS, "name").drop("rank")
