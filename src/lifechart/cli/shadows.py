"""Answers kept from sight: the steward's key, labels that mature, what there is to adjudicate."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from lifechart.cli.root import group, me, print_rows
from lifechart.core.settings import load_settings

shadow = group("shadow", "Answers that are kept from sight until it is known whether they were right.")

Capability = Annotated[str, typer.Argument(help="The capability, as in `risk`.")]


@shadow.command("key")
def shadow_key(out: Annotated[Path, typer.Option("--out", help="File for the private half, off the server.")]) -> None:
    """Make the key pair that answers are sealed to; once, before the first answer in shadow."""
    from lifechart.release.shadow.sealing import make_keys

    make_keys(load_settings(), out)
    print(f"{out}: opens answers when their time is up; keep it off the server")


@shadow.command("mature")
def shadow_mature(
    capability: Capability,
    key: Annotated[Path | None, typer.Option("--key", help="The private half; by default where it was made.")] = None,
) -> None:
    """Open the answers whose time is up, read the charts again, and state what became of them."""
    from lifechart.ledger.log import open_log
    from lifechart.release.shadow.sealing import Opener, Seals
    from lifechart.serve.audit import Auditor
    from lifechart.serve.maturing import Matured, mature
    from lifechart.serve.records import Ehr

    settings = load_settings()
    with closing(open_log(settings)) as log:

        async def run() -> Matured:
            ehr = Ehr(settings)
            try:
                seals, opener = Seals.open(settings), Opener.of(settings, key)
                return await mature(log, ehr, seals, opener, Auditor(log, settings), capability=capability)
            finally:
                await ehr.close()

        found = asyncio.run(run())
    print(f"{found.labelled} labelled, {found.sealed} still sealed, {found.unreadable} due whose chart cannot be read")


@shadow.command("status")
def shadow_status(capability: Capability) -> None:
    """Show uptime, alert burden, label lag, and what is left to adjudicate, of the current release's model."""
    from lifechart.ledger.log import open_log
    from lifechart.release.shadow.course import Course
    from lifechart.release.shelf import open_shelf

    settings = load_settings()
    with closing(open_log(settings)) as log:
        found = Course(log).of(open_shelf(settings, log).current(capability).manifest.model_digest)
    print_rows(
        [
            ("shadow", ""),
            ("days with answers", f"{found.days:.1f}"),
            ("answers", f"{found.answers:,}"),
            ("questions that failed", f"{found.faults:,}"),
            ("uptime", f"{found.uptime:.2%}"),
            ("alerts per 100 answers", f"{found.alerts_per_100:.1f}"),
            ("labelled", f"{found.labelled:,} of {found.sealed:,}"),
            ("median days until a label was known", f"{found.lag_days:.1f}"),
            ("came true, expected", f"{found.observed}, {found.expected:.1f}"),
            ("adjudicated", f"{found.adjudicated:.0%} of {len(found.queue)}"),
        ]
    )


@shadow.command("queue")
def shadow_queue(capability: Capability) -> None:
    """List the claims that came out otherwise than they said and that nobody has looked at."""
    from lifechart.ledger.log import open_log
    from lifechart.release.shadow.course import Course
    from lifechart.release.shelf import open_shelf

    settings = load_settings()
    with closing(open_log(settings)) as log:
        found = Course(log).of(open_shelf(settings, log).current(capability).manifest.model_digest)
    rows = [
        (each.answer, each.outcome, f"{each.horizon_days}", f"{each.probability:.1%}", "yes" if each.happened else "no")
        for each in found.queue
        if each.verdict is None
    ]
    print_rows([("answer", "outcome", "days", "risk", "happened"), *rows])


@shadow.command("adjudicate")
def shadow_adjudicate(
    answer: Annotated[str, typer.Argument(help="The answer's digest, as `shadow queue` prints it.")],
    outcome: Annotated[str, typer.Argument(help="The outcome's code.")],
    days: Annotated[int, typer.Option("--days", help="The horizon.")],
    verdict: Annotated[str, typer.Option("--verdict", help="record-right, record-wrong or unclear.")],
) -> None:
    """Say what the chart shows where answer and record disagree; the last word counts."""
    from lifechart.core.errors import InputError
    from lifechart.ledger.log import open_log
    from lifechart.release.shadow.queue import Verdict, adjudicate

    if verdict not in set(Verdict):
        raise InputError("--verdict", verdict, f"one of {[each.value for each in Verdict]}")
    with closing(open_log(load_settings())) as log:
        adjudicate(log, answer, outcome, days, Verdict(verdict), actor=me())
    print("noted")
