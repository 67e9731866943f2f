"""The source `registry`: deaths and outcomes that a register knows, in `deaths*` and `outcomes*` tables.

Of deaths: patient, date of death, and causes as codes of one system. Of outcomes: patient, date, code and system, and
if there are any value and unit. A register's date of death takes the place of the hospital's own (data.deaths).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from lifechart.codes.systems import URIS
from lifechart.core.timeline import DEATH
from lifechart.data.deaths import REGISTER
from lifechart.data.sources import ENTRY_BITS, KEPT, NOT_MAPPED, QUARANTINED, ROWS, Batch, Fault, Unit, cells, flat
from lifechart.data.sources.frames import LINE

OUTCOME = "outcome registry"
NUM_CAUSES = 20
DEATH_FIELDS: flat.Fields = {
    "patient": ("patient", "patient_id", "subject_id", "person_id", "mrn"),
    "time": ("date_of_death", "death_date", "dod", "datetime_of_death", "date"),
    "system": ("cause_system", "system"),
    "cause": ("cause", "underlying_cause", "cause_of_death", "ucod"),
    **{f"cause_{n}": (f"cause_{n}", f"contributing_cause_{n}", f"record_{n}") for n in range(1, NUM_CAUSES + 1)},
}
OUTCOME_FIELDS: flat.Fields = {
    "patient": ("patient", "patient_id", "subject_id", "person_id", "mrn"),
    "time": ("date", "time", "outcome_date", "event_date"),
    "code": ("code", "outcome", "outcome_code"),
    "system": ("system", "code_system"),
    "value": ("value",),
    "unit": ("unit",),
}
DEFAULT_SYSTEM = "ICD10"
"""Registers of deaths code causes in ICD-10, and not in a national modification of it."""
_ICD = r"^([A-TV-Z]\d[0-9A-Z])\.?([0-9A-Z]{0,4})$"
_CODE = r"^[A-Za-z0-9][A-Za-z0-9._/^-]{0,31}$"


class Registry:
    """The source `registry`; its option may name a YAML with the columns' names."""

    name = "registry"

    def detects(self, path: Path) -> bool:
        """Return whether there is a table of deaths or outcomes."""
        return any({"patient", "time"} <= set(flat.present(file, _fields(file))) for file in self._tables(path))

    def files(self, path: Path, option: str = "") -> list[Path]:
        """Return the tables, sorted, and the option's file."""
        return sorted({*self._tables(path), *([Path(option)] if option else [])})

    def units(self, path: Path, option: str = "") -> list[Unit]:
        """Divide the tables into units."""
        _own(DEATH_FIELDS, option)
        return [unit for file in self._tables(path) for unit in flat.plan(self.name, file, option)]

    def record_end(self, path: Path, option: str = "") -> str | None:
        """Return None: a register is asked about the hospital's patients."""
        return None

    def read(self, unit: Unit) -> Iterator[Batch]:
        """Read a part of a table."""
        path = Path(unit.spans[0].path)
        for records in flat.read(unit.spans[0], _own(_fields(path), unit.option)):
            yield _deaths(records) if _of_deaths(path) else _outcomes(records)

    def _tables(self, path: Path) -> list[Path]:
        return flat.find(path, "deaths", "outcomes")


def _of_deaths(path: Path) -> bool:
    return path.name.lower().startswith("death")


def _fields(path: Path) -> flat.Fields:
    return DEATH_FIELDS if _of_deaths(path) else OUTCOME_FIELDS


def _own(fields: flat.Fields, option: str) -> flat.Fields:
    return flat.renamed(fields, option, {**DEATH_FIELDS, **OUTCOME_FIELDS})


def _deaths(records: flat.Records) -> Batch:
    """Return a death and its causes for each row with a date; a row without one says that nobody died."""
    judged = _judged(records.frame)
    good = judged.filter(pl.col("reason").is_null() & pl.col("at").is_not_null())
    parts = [_rows(good, REGISTER, kind="death", code=pl.lit(DEATH), name=pl.lit("Death"))]
    system = _system(good, DEFAULT_SYSTEM)
    for field in ("cause", *(f"cause_{n}" for n in range(1, NUM_CAUSES + 1))):
        coded = good.with_columns(_code=_dotted(pl.col(field)), _system=system).filter(pl.col("_code").is_not_null())
        prefix = "DEATH_CAUSE" if field == "cause" else "DEATH_CONTRIBUTOR"
        code = pl.concat_str(pl.lit(prefix), pl.col("_system"), pl.col("_code"), separator="//")
        parts.append(_rows(coded, REGISTER, kind="death", code=code))
    silent = judged.filter(pl.col("reason").is_null() & pl.col("at").is_null()).height
    return _batch(records, judged, pl.concat(parts), REGISTER, good.height, silent)


def _outcomes(records: flat.Records) -> Batch:
    known = pl.col("code").str.contains(_CODE).fill_null(False)
    wanting = pl.when(~known).then(pl.lit("no code")).when(pl.col("time").is_null()).then(pl.lit("no date"))
    number = cells.number("value", records.frame)
    wrong = pl.when(pl.col("value").is_not_null() & number.is_null()).then(pl.lit("value is not a number"))
    judged = _judged(records.frame).with_columns(reason=pl.coalesce("reason", wanting, wrong))
    good = judged.filter(pl.col("reason").is_null())
    code = pl.concat_str(_system(good, "OTHER"), pl.col("code"), separator="//")
    values = {"numeric_value": cells.number("value", good), "unit": pl.col("unit")}
    rows = _rows(good, OUTCOME, kind="condition", code=code, **values)
    return _batch(records, judged, rows, OUTCOME, good.height, 0)


def _judged(frame: pl.DataFrame) -> pl.DataFrame:
    time = cells.moment("time", frame)
    reason = (
        pl.when(pl.col("patient").is_null())
        .then(pl.lit("no patient"))
        .when(pl.col("time").is_not_null() & time.is_null())
        .then(pl.lit("date not valid"))
    )
    return frame.with_columns(at=time, reason=reason)


def _system(frame: pl.DataFrame, default: str) -> pl.Expr:
    """Return the system of each row's codes: one that is listed, else OTHER; the default where none is named."""
    stated = pl.col("system")
    listed = pl.when(stated.is_in(list(URIS))).then(stated).otherwise(pl.lit("OTHER"))
    return pl.when(stated.is_null()).then(pl.lit(default)).otherwise(listed)


def _dotted(code: pl.Expr) -> pl.Expr:
    """Return an ICD code with its dot (`I219` is `I21.9`), any other code as it is, and null for what is no code."""
    upper = code.str.to_uppercase()
    parts = [upper.str.extract(_ICD, group) for group in (1, 2)]
    dotted = pl.when(parts[1] != "").then(pl.concat_str(*parts, separator=".")).otherwise(parts[0])
    return pl.coalesce(dotted, pl.when(code.str.contains(_CODE)).then(code))


def _rows(frame: pl.DataFrame, type_: str, *, kind: str, **columns: pl.Expr) -> pl.DataFrame:
    given: dict[str, Any] = {
        "patient": pl.col("patient"),
        "position": flat.position(frame),
        "type": pl.lit(type_),
        "time": pl.col("at"),
        "kind": pl.lit(kind),
        **columns,
    }
    return frame.select(given.get(name, pl.lit(None)).cast(dtype).alias(name) for name, dtype in ROWS.items())


def _batch(
    records: flat.Records, judged: pl.DataFrame, rows: pl.DataFrame, type_: str, kept: int, silent: int
) -> Batch:
    bad = judged.filter(pl.col("reason").is_not_null()).select(LINE, "reason").rows() + records.broken
    faults = [Fault(line << ENTRY_BITS, type_, reason) for line, reason in bad]
    counts = Counter({(type_, KEPT): kept, (type_, NOT_MAPPED): silent, (type_, QUARANTINED): len(faults)})
    return Batch(rows, counts, faults=faults, starts=[0], lines=records.lines)


source = Registry()
