"""A randomised trial under its registered protocol, step by step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lifechart.cli.root import Reason, group, me, print_rows
from lifechart.core.settings import Settings, load_settings

if TYPE_CHECKING:
    from lifechart.ledger.log import Log
    from lifechart.release.trial.conduct import Trial

trial = group("trial", "A randomised trial of a capability, under a registered protocol.")

Protocol = Annotated[str, typer.Argument(help="The protocol's digest, as `protocol list` prints it.")]
Patient = Annotated[str, typer.Argument(help="The patient's id in the EHR; only its keyed hash is kept.")]
Board = Annotated[Path, typer.Option("--key", help="A monitoring board member's private key.")]


@contextmanager
def _opened(digest: str) -> Iterator[tuple[Trial, Log, Settings]]:
    from lifechart.ledger.log import open_log
    from lifechart.release.people import People
    from lifechart.release.protocol import open_registry
    from lifechart.release.trial.conduct import Trial

    settings = load_settings()
    with closing(open_log(settings)) as log:
        registered = open_registry(settings, log).get(digest)
        yield Trial(registered, settings.protocols, log, People(log)), log, settings


def _participant(log: Log, settings: Settings, patient: str) -> str:
    from lifechart.serve.audit import Auditor

    return Auditor(log, settings).patient(patient)


def _manifest(log: Log, settings: Settings, capability: str) -> str:
    from lifechart.release.shelf import open_shelf

    return open_shelf(settings, log).current(capability).manifest.digest


@trial.command("open")
def trial_open(protocol: Protocol) -> None:
    """Draw the allocation's secret, commit to it, and begin on the current release."""
    with _opened(protocol) as (running, log, settings):
        running.open(manifest=_manifest(log, settings, running.registered.protocol.capability), actor=me())
        print(f"{running.registered.protocol.title}: open, {running.design.participants()} participants planned")


@trial.command("enrol")
def trial_enrol(
    protocol: Protocol,
    patient: Patient,
    stratum: Annotated[str, typer.Option(help="As the protocol names it.")] = "all",
    cluster: Annotated[str, typer.Option(help="Ward or clinic, where those are randomised.")] = "",
) -> None:
    """Enrol a patient for good, and then say which arm it is."""
    with _opened(protocol) as (running, log, settings):
        who = _participant(log, settings, patient)
        manifest = _manifest(log, settings, running.registered.protocol.capability)
        running.enrol(who, manifest=manifest, actor=me(), stratum=stratum, cluster=cluster)
        print(f"enrolled: {'intervention' if running.arm(who) else 'control'}")


@trial.command("record")
def trial_record(
    protocol: Protocol, patient: Patient, outcome: Annotated[float, typer.Argument(help="The primary outcome.")]
) -> None:
    """Record a participant's outcome, once."""
    with _opened(protocol) as (running, log, settings):
        running.record(_participant(log, settings, patient), outcome, actor=me())
        print("recorded")


@trial.command("leave")
def trial_leave(protocol: Protocol, patient: Patient) -> None:
    """Note that a participant withdrew; the analysis still counts them where they were put."""
    with _opened(protocol) as (running, log, settings):
        running.leave(_participant(log, settings, patient), actor=me())
        print("noted")


@trial.command("adverse")
def trial_adverse(
    protocol: Protocol,
    patient: Patient,
    occurred: Annotated[datetime, typer.Option(help="When, in UTC.")],
    serious: Annotated[bool, typer.Option("--serious", help="Hospital, lasting harm, or worse.")] = False,
    fatal: Annotated[bool, typer.Option("--fatal", help="Death or danger to life.")] = False,
    suspected: Annotated[bool, typer.Option("--suspected", help="The intervention may have caused it.")] = False,
) -> None:
    """Report an adverse event; its clock starts, and enough of them pause the trial."""
    from datetime import UTC

    with _opened(protocol) as (running, log, settings):
        receipt = running.adverse(
            _participant(log, settings, patient),
            serious=serious,
            fatal=fatal,
            suspected=suspected,
            occurred=occurred.replace(tzinfo=UTC),
            actor=me(),
        )
        due = running.course.adverse[receipt.index].due
        print(f"event {receipt.index}" + (f", to go further by {due:%Y-%m-%d %H:%M} UTC" if due else ""))
        if running.course.paused:
            print(f"the trial is paused: {running.course.paused}")


@trial.command("reported")
def trial_reported(
    protocol: Protocol,
    event: Annotated[int, typer.Argument(help="The event's number, as `adverse` printed it.")],
    to: Annotated[str, typer.Option(help="To whom, as in `ethics board`.")],
) -> None:
    """Note that an adverse event has gone further, which stops its clock."""
    with _opened(protocol) as (running, _, _):
        running.reported(event, to=to, actor=me())
        print("noted")


@trial.command("look")
def trial_look(protocol: Protocol, key: Board) -> None:
    """Show the monitoring board, and nobody else, the comparison at a planned look."""
    from lifechart.ledger.keys import Signer

    with _opened(protocol) as (running, _, _):
        look = running.look(Signer.open(key, key.stem))
        found = look.result
        print(f"look {look.number}: {found.estimate:+.4g} ({found.low:+.4g} to {found.high:+.4g}), z {found.z:+.3f}")
        print(f"the plan says: {look.advice}")


@trial.command("pause")
def trial_pause(protocol: Protocol, reason: Reason) -> None:
    """Stop enrolment until the monitoring board resumes it."""
    with _opened(protocol) as (running, _, _):
        running.pause(reason, actor=me())
        print("paused")


@trial.command("resume")
def trial_resume(protocol: Protocol, key: Board, reason: Reason) -> None:
    """Go on after a pause."""
    from lifechart.ledger.keys import Signer

    with _opened(protocol) as (running, _, _):
        running.resume(Signer.open(key, key.stem), reason)
        print("resumed")


@trial.command("close")
def trial_close(protocol: Protocol, reason: Reason) -> None:
    """End enrolment for good and state what the trial found."""
    with _opened(protocol) as (running, _, _):
        running.close(reason, actor=me())
        running.conclude(actor=me())
        result = running.result()
        print(f"{result.estimate:+.4g} ({result.low:+.4g} to {result.high:+.4g}), p {result.p:.4g}")
        print(f"the plan says: {running.course.concluded}")


@trial.command("reveal")
def trial_reveal(protocol: Protocol) -> None:
    """Open the allocation's secret, so that anybody can recompute each arm."""
    with _opened(protocol) as (running, _, _):
        running.reveal(actor=me())
        print(running.course.secret)


@trial.command("status")
def trial_status(protocol: Protocol) -> None:
    """Show how far a trial is; nothing that only the monitoring board may see."""
    with _opened(protocol) as (running, _, _):
        course = running.course
        state = course.closed or course.paused or ("running" if course.opened else "not opened")
        print_rows(
            [
                ("trial", running.registered.protocol.title),
                ("state", state),
                ("enrolled", f"{len(course.enrolled)} of {running.design.participants()}"),
                ("outcomes", str(len(course.outcomes))),
                ("withdrawn", str(len(course.left))),
                ("adverse events", str(len(course.adverse))),
                ("overdue reports", str(len(running.overdue()))),
                ("looks taken", f"{len(course.looks)} of {len(running.design.looks) - 1}"),
                ("conclusion", course.concluded or "–"),
            ]
        )
