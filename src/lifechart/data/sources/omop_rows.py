"""Turns a frame of one OMOP table into rows: one expression a column, whatever the number of records."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

import polars as pl

from lifechart.core.timeline import BIRTH, RECORD_END
from lifechart.data.sources import ENTRY_BITS, KEPT, QUARANTINED, ROWS, Batch, Fault, cells, results
from lifechart.data.sources.frames import LINE, Piece
from lifechart.data.sources.omop_mapping import (
    ANSWER,
    NUMBER,
    OPERATOR,
    PERIODS,
    PERSON,
    RANGE,
    UNITS,
    Groups,
    Table,
    operators,
    people,
    visits,
)
from lifechart.data.sources.omop_vocabulary import Vocabulary

UNCODED = "OTHER//*"
_LOCAL_CODE = r"^[A-Za-z0-9][A-Za-z0-9._:/^-]{0,31}$"
"""What a source value must look like to be a code of the hospital's own rather than words about somebody."""
_NONE = pl.lit(None, pl.String)


def batch(piece: Piece, table: Table, vocabulary: Vocabulary, *, latest: datetime | None, zips: pl.DataFrame) -> Batch:
    """Return what becomes of some rows of a table.

    `latest`: for observation_period, up to when its ends are believed (omop.Omop.read). `zips`: columns location_id,
    zip3, for persons.
    """
    patient = cells.text("person_id", piece.frame)
    position = pl.col(LINE) * (1 << ENTRY_BITS)
    frame = _timed(piece.frame, table).with_columns(position=position, patient=patient)
    marked = _with_birth(frame) if table.name == PERSON else frame.with_columns(time=_latest(table.times, frame))
    reason = (
        pl.when(pl.col("patient").is_null())
        .then(pl.lit("no patient"))
        .when("wrong")
        .then(pl.lit("date not valid"))
        .when(pl.col("time").is_null() & pl.lit(table.name != PERSON))
        .then(pl.lit("no date"))
    )
    if table.value:
        number = cells.text(NUMBER, frame).is_not_null() & cells.number(NUMBER, frame).is_null()
        reason = reason.when(number).then(pl.lit("value is not a number"))
    judged = marked.with_columns(reason=reason)
    good = judged.filter(pl.col("reason").is_null())
    if table.name == PERSON:
        rows = _person(good, zips)
    elif table.name == PERIODS:
        rows = _fixed(good.filter(pl.col("time") <= latest) if latest else good.clear(), table, RECORD_END)
    else:
        rows = _events(good, table, vocabulary)
    faulty = judged.filter(pl.col("reason").is_not_null()).select("position", "reason")
    faults = [Fault(position, table.name, reason) for position, reason in faulty.iter_rows()]
    faults += [Fault(line << ENTRY_BITS, table.name, reason) for line, reason in piece.broken]
    counts = Counter({(table.name, KEPT): good.height, (table.name, QUARANTINED): len(faults)})
    return Batch(rows, counts, faults=faults, starts=[0], lines=piece.lines)


def _latest(groups: Groups, frame: pl.DataFrame) -> pl.Expr:
    """Return the latest of the times that the groups give, of each group the first that is filled."""
    firsts = [pl.coalesce(cells.moment(name, frame) for name in group) for group in groups]
    return pl.max_horizontal(firsts) if firsts else pl.lit(None, pl.Datetime("us"))


def _timed(frame: pl.DataFrame, table: Table) -> pl.DataFrame:
    """Return the frame with its columns of times parsed once, and `wrong`: whether a time is written that is none."""
    wrong = pl.Series("wrong", [False], dtype=pl.Boolean).new_from_index(0, frame.height)
    found: list[pl.Series] = []
    judged = {name for group in table.times for name in group}
    for name in {*judged, *(name for group in table.ends for name in group)}:
        if frame.schema[name] == pl.String:
            words = frame.select(cells.text(name, frame).alias(name)).to_series()
            found.append(cells.parsed(words))
            if name in judged:
                wrong = wrong | (words.is_not_null() & found[-1].is_null())
    return frame.with_columns(*found, wrong.alias("wrong"))


def _with_birth(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the frame with the time of birth: to the day where it is known, else its month's or year's first."""
    year, month, day = (cells.whole(f"{part}_of_birth", frame) for part in ("year", "month", "day"))
    digits = (part.fill_null(1).cast(pl.String).str.zfill(width) for part, width in ((year, 4), (month, 2), (day, 2)))
    parts = pl.concat_str(*digits, separator="-").str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us"))
    exact = cells.moment("birth_datetime", frame).dt.truncate("1d")
    time = pl.coalesce(exact, pl.when(year.is_not_null()).then(parts))
    given = cells.text("birth_datetime", frame).is_not_null() | cells.text("year_of_birth", frame).is_not_null()
    return frame.with_columns(time=time, wrong=time.is_null() & given)


def _person(frame: pl.DataFrame, zips: pl.DataFrame) -> pl.DataFrame:
    """Return birth, gender, race, ethnicity and three digits of the ZIP code."""
    known = people()
    born = frame.filter(pl.col("time").is_not_null())
    parts = [_rows(born, code=pl.lit(BIRTH), name=pl.lit("Birth"), time=pl.col("time"))]
    for column in ("gender_concept_id", "race_concept_id", "ethnicity_concept_id"):
        ids = cells.whole(column, frame)
        code = ids.replace_strict({id_: code for id_, (code, _) in known.items()}, default=None, return_dtype=pl.String)
        name = ids.replace_strict({id_: name for id_, (_, name) in known.items()}, default=None, return_dtype=pl.String)
        if column.startswith("gender"):
            code, name = code.fill_null("GENDER//unknown"), name.fill_null("Unknown")
        coded = frame.with_columns(_code=code, _name=name).filter(pl.col("_code").is_not_null())
        parts.append(_rows(coded, code=pl.col("_code"), name=pl.col("_name")))
    if zips.height:
        located = frame.with_columns(_at=cells.text("location_id", frame)).join(
            zips, left_on="_at", right_on="location_id"
        )
        parts.append(_rows(located, code=pl.lit("ZIP3//") + pl.col("zip3")))
    found: pl.DataFrame = pl.concat(parts)
    return found.with_columns(type=pl.lit(PERSON), kind=pl.lit("demographic")).select(list(ROWS))


def _fixed(frame: pl.DataFrame, table: Table, code: str) -> pl.DataFrame:
    return _rows(
        frame,
        type=pl.lit(table.name),
        kind=pl.lit(table.kind),
        code=pl.lit(code),
        name=pl.lit(table.code_name or None, pl.String),
        time=pl.col("time"),
    )


def _events(frame: pl.DataFrame, table: Table, vocabulary: Vocabulary) -> pl.DataFrame:
    """Return the rows of any table but persons and periods."""
    coded = _coded(frame, table, vocabulary)
    parts = []
    if table.code:
        parts.append(_fixed(coded, table, table.code))
        coded = coded.filter(pl.col("_code") != UNCODED)
    columns: dict[str, pl.Expr] = {
        "type": pl.lit(table.name),
        "kind": _kind(table),
        "code": pl.lit(f"{table.prefix}//" if table.prefix else "") + pl.col("_code"),
        "name": pl.col("_name"),
        "time": pl.col("time"),
    }
    if table.value:
        columns |= _values(coded, table)
    elif table.text:
        columns["text_value"] = cells.text(table.text, coded)
    elif table.words:
        columns["text_value"] = pl.when(pl.col("_code") == UNCODED).then(cells.text(table.words, coded))
    parts.append(_rows(coded, **columns))
    if table.ends:
        parts.append(_ends(coded, table))
    found: pl.DataFrame = pl.concat(parts)
    return found


def _coded(frame: pl.DataFrame, table: Table, vocabulary: Vocabulary) -> pl.DataFrame:
    """Return the frame with _code, _name and _class of its concept, and the codes of answers and units."""
    frame = frame.with_columns(cells.whole(name, frame).alias(f"_{name}") for name in table.concepts)
    ids = pl.concat([frame.get_column(f"_{name}") for name in table.concepts]) if table.concepts else pl.Series([0])
    known = vocabulary.of(ids)
    found = frame
    for name in table.concepts:
        renamed = known.select(
            pl.col("concept_id").alias(f"_{name}"),
            pl.col("code").alias(f"{name}/code"),
            pl.col("name").alias(f"{name}/name"),
            pl.col("class").alias(f"{name}/class"),
        )
        found = found.join(renamed, on=f"_{name}", how="left", maintain_order="left")
    if table.map:
        return _visited(found, table)
    local = _NONE
    if table.words:
        words = cells.text(table.words, frame)
        local = pl.when(words.str.contains(_LOCAL_CODE)).then(pl.lit("OTHER//") + words)

    def first(what: str) -> pl.Expr:
        return pl.coalesce(*(pl.col(f"{name}/{what}") for name in table.concept), _NONE)

    return found.with_columns(
        _code=pl.coalesce(first("code"), local, pl.lit(UNCODED)), _name=first("name"), _class=first("class")
    )


def _visited(found: pl.DataFrame, table: Table) -> pl.DataFrame:
    kinds = visits()
    listed = [pl.col(f"_{name}").replace_strict(kinds, default=None, return_dtype=pl.String) for name in table.concept]
    kind = pl.coalesce(*listed, pl.lit("other"))
    if table.map == "TRANSFER":
        name = pl.lit("Transfer: ") + kind
    else:
        kind = pl.when(kind == "intensive").then(pl.lit("inpatient")).otherwise(kind)
        name = pl.lit("Encounter: ") + kind
    return found.with_columns(_code=pl.lit(f"{table.map}//") + kind, _name=name, _class=_NONE)


def _kind(table: Table) -> pl.Expr:
    kind = pl.col("_class").replace_strict(dict(table.classes), default=table.kind, return_dtype=pl.String)
    if table.kind == "medication":
        return pl.when(pl.col("_code").str.starts_with("CVX//")).then(pl.lit("immunization")).otherwise(kind)
    return kind if table.classes else pl.lit(table.kind)


def _values(frame: pl.DataFrame, table: Table) -> dict[str, pl.Expr]:
    """Return the columns of a result. A coded answer becomes part of the code, `QUESTION//ANSWER`, as from FHIR."""
    answer, answer_name = pl.col(f"{ANSWER}/code"), pl.col(f"{ANSWER}/name")
    number = cells.number(NUMBER, frame)
    coded = answer.is_not_null() & number.is_null() & (pl.col("_code") != UNCODED)
    words = cells.text(table.text, frame)
    unit = pl.col(f"{UNITS[0]}/code")
    ucum = pl.when(unit.str.starts_with("UCUM//")).then(unit.str.strip_prefix("UCUM//"))
    return {
        "code": pl.when(coded).then(pl.col("_code") + pl.lit("//") + answer).otherwise("_code"),
        "name": pl.when(coded).then(pl.col("_name") + pl.lit(": ") + answer_name).otherwise("_name"),
        "numeric_value": number,
        "unit": pl.when(number.is_not_null()).then(pl.coalesce(ucum, cells.text(UNITS[1], frame))),
        "text_value": pl.when(number.is_null() & ~coded).then(pl.coalesce(results.listed(words), words)),
        "comparator": pl.when(number.is_not_null()).then(
            cells.whole(OPERATOR, frame).replace_strict(operators(), default=None, return_dtype=pl.String)
        ),
        "low": cells.number(RANGE[0], frame),
        "high": cells.number(RANGE[1], frame),
    }


def _ends(frame: pl.DataFrame, table: Table) -> pl.DataFrame:
    """Return the events that an end makes: of a stay in hospital its discharge; of others, if a later day is given."""
    ended = frame.with_columns(_end=_latest(table.ends, frame)).filter(pl.col("_end").is_not_null())
    if table.map:
        stays = ended.filter(pl.col("_code") == f"{table.map}//inpatient", pl.col("_end") >= pl.col("time"))
        code, name = pl.lit("DISCHARGE//inpatient"), pl.lit("Discharge from an inpatient stay")
    else:
        stays = ended.filter(pl.col("_end").dt.date() > pl.col("time").dt.date())
        code, name = pl.lit(f"{table.end_prefix}//") + pl.col("_code"), pl.lit("End of: ") + pl.col("_name")
    return _rows(stays, type=pl.lit(table.name), kind=_kind(table), code=code, name=name, time=pl.col("_end"))


def _rows(frame: pl.DataFrame, **columns: pl.Expr) -> pl.DataFrame:
    """Return rows (columns ROWS) of a frame that has patient and position."""
    given = {"patient": pl.col("patient"), "position": pl.col("position"), **columns}
    return frame.select(
        given.get(name, pl.lit(None)).cast(dtype, strict=False).alias(name) for name, dtype in ROWS.items()
    )
