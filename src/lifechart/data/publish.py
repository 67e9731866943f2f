"""Last pass of ingestion: what too few patients share is widened or held back, and the shards are written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import polars as pl

from lifechart.codes import parents
from lifechart.core import durable
from lifechart.data import shards, units
from lifechart.data.deidentify import structured
from lifechart.data.settle import EVENTS
from lifechart.data.spill import Plan
from lifechart.data.tally import Rules


def publish_bucket(plan: Plan, bucket: int, rules: Rules) -> None:
    """Write one bucket's shards, and beside its events what the metadata need to know."""
    file = plan.bucket_file(bucket)
    note = file.with_suffix(".held_back")
    if note.exists():
        return
    settled = pl.read_ipc(file)
    # Doing it again changes nothing in what settle already put right.
    usual = units.canonical(settled, rules.usual) if rules.usual else None
    events, held_back = apply(usual.events if usual else settled, rules)
    splits = shards.write_shards(plan.dataset, f"{bucket:04d}", events)
    codes, code_units = describe(events)
    again = usual.conversions if usual else pl.DataFrame(schema=units.CONVERSIONS)
    frames = (splits, ".splits"), (codes, ".described"), (code_units, ".described_units"), (again, ".usual_conversions")
    for frame, suffix in frames:
        with durable.replacing(file.with_suffix(suffix)) as aside:
            frame.write_ipc(aside)
    values = {name: number for name, number in usual.counts.items() if name in units.CHANGED} if usual else {}
    durable.write_json(file.with_suffix(".usual_values"), values)
    durable.write_json(note, held_back)


def apply(events: pl.DataFrame, rules: Rules) -> tuple[pl.DataFrame, Counter[str]]:
    """Return events (columns of a shard) as the rules let them be, and how many of what was held back."""
    changes = pl.DataFrame(
        {"code": list(rules.becomes), "wider": list(rules.becomes.values())},
        schema={"code": pl.String, "wider": pl.String},
    )
    joined = events.join(
        changes.with_columns(rare=pl.lit(True)), on="code", how="left", maintain_order="left"
    ).with_columns(rare=pl.col("rare").fill_null(False))
    number = structured.may_be_identifier(pl.col("code"), pl.col("numeric_value"), pl.col("unit")).fill_null(False)
    strange = pl.col("unit").is_not_null() & ~pl.col("unit").is_in(list(rules.units))
    held_back = joined.select(
        pl.col("rare").sum().alias("code backed off"),
        (pl.col("rare") & pl.col("wider").is_null()).sum().alias("code withheld"),
        number.sum().alias("number held back"),
        strange.sum().alias("unit held back"),
    )
    empty = pl.col("rare")
    allowed = joined.with_columns(
        # What a value meant went with its code.
        numeric_value=pl.when(~empty & ~number).then("numeric_value"),
        text_value=pl.when(~empty).then("text_value"),
        unit=pl.when(~empty & ~strange).then("unit"),
        code=pl.when("rare").then("wider").otherwise("code"),
    ).filter(pl.col("code").is_not_null())
    kept = allowed.select(name for name in EVENTS if name != "name")
    return kept, +Counter(held_back.row(0, named=True))


def describe(events: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return (code, kind, num_subjects, num_events) and (code, unit, num) of one bucket's written events."""
    codes = events.group_by("code").agg(
        kind=pl.col("kind").min(),
        num_subjects=pl.col("subject_id").n_unique().cast(pl.Int64),
        num_events=pl.len().cast(pl.Int64),
    )
    measured = events.filter(pl.col("unit").is_not_null()).group_by("code", "unit").agg(num=pl.len().cast(pl.Int64))
    return codes, measured


def conversions_table(parts: Iterable[pl.DataFrame], codes: pl.DataFrame) -> pl.DataFrame:
    """Return metadata/units.parquet (columns units.CONVERSIONS) for the codes that are written."""
    done = pl.concat([pl.DataFrame(schema=units.CONVERSIONS), *parts]).unique()
    return done.join(codes.select("code"), on="code", how="semi").sort("code", "written", "unit")


def codes_table(parts: Iterable[tuple[pl.DataFrame, pl.DataFrame]], descriptions: Mapping[str, str]) -> pl.DataFrame:
    """Return metadata/codes.parquet (columns shards.CODES) from the buckets' descriptions."""
    described, counted = (pl.concat(frames) for frames in zip(*parts, strict=True))
    usual = (
        counted.group_by("code", "unit")
        .agg(pl.col("num").sum())
        .sort("num", "unit", descending=[True, False])
        .unique("code", keep="first", maintain_order=True)
        .select("code", "unit")
    )
    codes = described.group_by("code").agg(
        pl.col("kind").min(), pl.col("num_subjects").sum(), pl.col("num_events").sum()
    )
    known = codes.join(usual, on="code", how="left").sort("code")
    each = known.get_column("code").to_list()
    described_codes: pl.DataFrame = known.with_columns(
        description=pl.Series([_description(code, descriptions) for code in each], dtype=pl.String),
        parent_codes=pl.Series([_parents(code) for code in each], dtype=pl.List(pl.String)),
    )
    return described_codes.select(list(shards.CODES.names))


def _description(code: str, descriptions: Mapping[str, str]) -> str | None:
    if code.endswith("//*"):
        return f"Any other {code.removesuffix('//*')} code"
    return descriptions.get(code) or parents.name(code)


def _parents(code: str) -> list[str] | None:
    return list(parents.parents(code)) or None
