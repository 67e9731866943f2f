"""Weekly data sets on disk, followed from the reference on; what they give rise to is stated and acted on.

A folder holds one folder a week, in the order of their names. Each is a data set as `lifechart ingest` writes it of the
charts of those seen in that week, with these tables beside it where the institution has them: `sites.parquet`,
`forecasts.parquet` and `matured.parquet` (columns: signals.Batch; follow_up writes the latter two).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.progress import track

from lifechart.core.errors import InputError
from lifechart.core.timeline import BIRTH
from lifechart.data import shards
from lifechart.evaluate.follow_up import chart_rows
from lifechart.evaluate.monitor import Monitor, cause
from lifechart.evaluate.signals import Batch
from lifechart.ledger.log import Log
from lifechart.release import monitoring
from lifechart.release.history import State
from lifechart.release.monitoring import Alarm
from lifechart.release.shelf import Shelf

DAYS = 7


@dataclass(frozen=True, slots=True)
class Watched:
    """What following the weeks came to."""

    weeks: int
    """Followed after the reference."""
    streams: int
    alarms: tuple[Alarm, ...]
    cause: str
    """What most likely lies behind the alarms of the last week that had any."""
    state: State

    def table(self) -> list[tuple[str, ...]]:
        """Return a header and one row an alarm."""
        rows = [(alarm.week, alarm.since, alarm.kind, alarm.said) for alarm in self.alarms]
        return [("week", "since", "kind", "what shifted"), *rows]


def read_week(folder: Path) -> Batch:
    """Read one week; its name is the folder's. Raises InputError if it is no data set.

    Of each chart the last week counts, by its own dates, with birth and what has no date: history would hide the news.
    """
    events = chart_rows(folder)
    last = pl.col("time").max().over("subject_id")
    fresh = pl.col("time").is_null() | (pl.col("code") == BIRTH) | (pl.col("time") > last - pl.duration(days=DAYS))
    events = events.filter(fresh)
    tables = [
        pl.read_parquet(folder / f"{name}.parquet") if (folder / f"{name}.parquet").exists() else None
        for name in ("sites", "forecasts", "matured")
    ]
    return Batch(folder.name, events, *tables)


def watch(log: Log, shelf: Shelf, capability: str, folder: Path, *, policy: Path | None = None) -> Watched:
    """Follow every week of `folder`; state its alarms and lower the capability's phase as the policy says.

    The first weeks, as many as the policy says, are the reference. Weeks followed before are followed again from the
    same reference, which comes to the same alarms; they are not stated twice. Raises InputError if there are too few.
    """
    rules, digest = monitoring.load(policy)
    weeks = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if len(weeks) <= rules.reference_weeks:
        raise InputError("weeks", len(weeks), f"more than the {rules.reference_weeks} weeks of the reference")
    reference = [read_week(week) for week in _shown(weeks[: rules.reference_weeks], "reference")]
    names = {code: name for week in weeks[: rules.reference_weeks] for code, name in shards.names(week).items()}
    monitor = Monitor(
        reference, false_alarms_per_year=rules.false_alarms_per_year, min_people=rules.min_people, names=names
    )
    alarms: list[Alarm] = []
    together: list[Alarm] = []
    state = shelf.state(capability)
    for week in _shown(weeks[rules.reference_weeks :], "weeks"):
        if raised := monitor.observe(read_week(week)):
            # What was raised together has one cause; what was raised long before has its own.
            together = raised
            alarms += raised
            state = monitoring.respond(
                log, shelf, capability, raised, policy=rules, digest=digest, cause=cause(together)
            )
    return Watched(len(weeks) - rules.reference_weeks, len(monitor.keys), tuple(alarms), cause(together), state)


def _shown(weeks: list[Path], what: str) -> Iterable[Path]:
    return track(weeks, what, console=Console(stderr=True), disable=not sys.stderr.isatty())
