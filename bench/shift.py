"""Planted shifts: is each found in time and named rightly, and how often does the monitor cry wolf? Also `--quick`."""

from __future__ import annotations

import sys

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench._shifts import SCENARIOS, Replay, Scenario, batches
from lifechart.evaluate.monitor import Monitor, cause
from lifechart.release import monitoring
from lifechart.release.monitoring import Alarm

AT = 8
"""Weeks after the reference at which a shift begins: none may be announced before."""
_SHARE = 0.9
"""A scenario counts as found if it is found in time in so many of its replays."""


def main(quick: bool) -> dict[str, float]:
    """Plant every shift in several replays, run unshifted years, print both tables and return the figures."""
    policy, _ = monitoring.load()
    replay = Replay(1_500, 400)
    replays, years = (1, 2) if quick else (4, 40)
    console = Console()
    table = Table(title="Planted shifts", box=None, header_style="bold")
    for column in ("shift", "alarm", "within", "found", "median weeks", "longest", "cause as named"):
        table.add_column(column, justify="left" if column in ("shift", "alarm", "cause as named") else "right")
    found = 0
    for scenario in track(SCENARIOS, "shifts", console=Console(stderr=True), disable=not sys.stderr.isatty()):
        tries = [_try(replay, scenario, policy, seed) for seed in range(replays)]
        weeks = [taken for taken, _ in tries if taken is not None]
        held = len(weeks) >= _SHARE * replays
        found += held
        times = (f"{np.median(weeks):g}", f"{max(weeks)}") if weeks else ("-", "-")
        alarm = " ".join((scenario.kind, scenario.what, "" if scenario.where == "all" else scenario.where))
        named = next((said for taken, said in tries if taken is not None), "-")
        table.add_row(
            scenario.name, alarm, f"{scenario.weeks}", f"{len(weeks)}/{replays}", *times, named[:70],
            style=None if held else "red",
        )  # fmt: skip
    console.print(table)
    alarms, weeks_run = _unshifted(replay, policy, years, console)
    return {
        "found": float(found),
        "planted": float(len(SCENARIOS)),
        "false_alarms_per_year": alarms / (weeks_run / 52),
    }


def _monitor(replay: Replay, policy: monitoring.Policy, seed: int) -> Monitor:
    reference = list(batches(replay, policy.reference_weeks, seed))
    return Monitor(reference, false_alarms_per_year=policy.false_alarms_per_year, min_people=policy.min_people)


def _try(replay: Replay, scenario: Scenario, policy: monitoring.Policy, seed: int) -> tuple[int | None, str]:
    """Return after how many weeks the right alarm came with the right cause, or None; and the cause."""
    monitor = _monitor(replay, policy, 1_000 + seed)
    since: list[Alarm] = []
    for number, batch in enumerate(batches(replay, AT + scenario.weeks, 2_000 + seed, scenario, AT)):
        raised = monitor.observe(batch)
        if number < AT:
            continue
        since += raised
        right = any(
            (alarm.kind, alarm.what, alarm.where) == (scenario.kind, scenario.what, scenario.where) for alarm in since
        )
        if right and cause(since).startswith(scenario.cause):
            return number - AT + 1, cause(since)
    return None, cause(since)


def _unshifted(replay: Replay, policy: monitoring.Policy, years: int, console: Console) -> tuple[int, int]:
    """Return (weeks with an alarm, weeks) over unshifted years, each with a reference of its own."""
    table = Table(title="False alarms on unshifted years", box=None, header_style="bold")
    for column in ("year", "streams", "week", "alarm"):
        table.add_column(column)
    alarms = 0
    for year in track(range(years), "unshifted", console=Console(stderr=True), disable=not sys.stderr.isatty()):
        monitor = _monitor(replay, policy, 3_000 + year)
        for batch in batches(replay, 52, 4_000 + year):
            raised = monitor.observe(batch)
            alarms += bool(raised)
            for alarm in raised:
                table.add_row(f"{year}", f"{len(monitor.keys)}", alarm.week, f"{alarm.kind}: {alarm.said}")
    console.print(table)
    rate = alarms / years
    run = f"{52 / rate:.0f}" if rate else f"over {52 * years}"
    console.print(
        f"{alarms} weeks with a false alarm in {years} years: {rate:.2f} a year (policy: at most "
        f"{policy.false_alarms_per_year}), average run length {run} weeks"
    )
    return alarms, 52 * years
