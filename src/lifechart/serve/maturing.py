"""Tells what became of answers that were kept from sight: opens the boxes whose time is up and reads the charts again.

A label is what the chart says now: whether the outcome was first recorded after the answer and within its horizon. A
chart that cannot be read leaves its boxes closed; the next run tries again.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl
from rich.console import Console
from rich.progress import track

from lifechart.core.timeline import Timeline
from lifechart.ledger.log import Log
from lifechart.release.shadow.queue import LABEL, label
from lifechart.release.shadow.sealing import Opener, Seal, Seals
from lifechart.serve.audit import Auditor
from lifechart.serve.records import Chart, ChartUnreadable, Ehr, NoSuchPatient


@dataclass(frozen=True, slots=True)
class Matured:
    """What one run came to, in boxes."""

    labelled: int
    sealed: int
    """Still sealed: their time is not up."""
    unreadable: int
    """Due, but the chart could not be read."""


async def mature(
    log: Log, ehr: Ehr, seals: Seals, opener: Opener, auditor: Auditor, *, capability: str, progress: bool | None = None
) -> Matured:
    """Label every box whose time is up, once; raises IntegrityError for a box that was changed."""
    done = {entry.statement.subjects[1].digest for entry in log.find(kind=LABEL)}
    now = log.now()
    waiting = [seal for seal in seals.all() if seal.digest not in done and _named(log, seal)]
    due = sorted((seal for seal in waiting if seal.until <= now), key=lambda seal: seal.until)
    charts: dict[str, Chart | None] = {}
    labelled = 0
    shown = sys.stderr.isatty() if progress is None else progress
    for seal in track(due, "labels", console=Console(stderr=True), disable=not shown):
        opened = opener.open(seal, now)
        if opened.patient not in charts:
            charts[opened.patient] = await _chart(ehr, opened.patient)
        chart = charts[opened.patient]
        if chart is None:
            continue
        until = opened.as_of + timedelta(days=seal.horizon_days)
        happened = _happened(chart.timeline, list(opened.claims), opened.as_of, until)
        read = chart.as_of.isoformat(timespec="seconds")
        who = auditor.patient(opened.patient)
        label(log, seal, opened, happened, capability=capability, patient=who, read=read)
        labelled += 1
    return Matured(labelled, len(waiting) - len(due), len(due) - labelled)


def _named(log: Log, seal: Seal) -> bool:
    """Tell whether the ledger names a box: one that it does not was cut off before its answer was stated."""
    return len(log.numbers(kind="answer", digest=seal.digest)) > 0


async def _chart(ehr: Ehr, patient: str) -> Chart | None:
    try:
        return await ehr.chart(patient)
    except (ChartUnreadable, NoSuchPatient):
        return None


def _happened(timeline: Timeline, outcomes: list[str], after: datetime, until: datetime) -> dict[str, datetime]:
    """Return the first time of each outcome after one time and up to another."""
    inside = (pl.col("time") > after) & (pl.col("time") <= until) & pl.col("code").cast(pl.String).is_in(outcomes)
    firsts = timeline.events.filter(inside).group_by(pl.col("code").cast(pl.String)).agg(pl.col("time").min())
    return dict(firsts.iter_rows())
