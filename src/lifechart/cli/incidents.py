"""When something went wrong: report, triage, root cause, recall, closure, and what a regulator asks for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lifechart.cli.root import Out, Reason, group, me, print_rows
from lifechart.core.settings import Settings, load_settings

if TYPE_CHECKING:
    from lifechart.ledger.log import Log
    from lifechart.release.incidents.register import Incidents

incident = group("incident", "Harms and bad answers, from report to closure, and recalls.")

Number = Annotated[str, typer.Argument(help="The incident's number, as `incident list` prints it.")]
Words = Annotated[str, typer.Option("--words", help="In sentences; kept under home, its digest in the ledger.")]
Severity = Annotated[str, typer.Option("--severity", help="As in serious-harm; the policy lists them.")]
Answers = Annotated[list[str] | None, typer.Option("--answer", help="Reference beside it, or digest; repeatable.")]
Patients = Annotated[list[str] | None, typer.Option("--patient", help="Id in the EHR; only its keyed hash is kept.")]
Regulator = Annotated[str, typer.Option("--to", help="As in fda; the policy lists them.")]


@contextmanager
def _opened() -> Iterator[tuple[Incidents, Log, Settings]]:
    from lifechart.ledger.log import open_log
    from lifechart.release.incidents.register import open_incidents
    from lifechart.release.shelf import open_shelf

    settings = load_settings()
    with closing(open_log(settings)) as log:
        yield open_incidents(settings, log, open_shelf(settings, log)), log, settings


def _links(log: Log, settings: Settings, answers: list[str] | None, patients: list[str] | None) -> dict[str, list[str]]:
    from lifechart.core.errors import InputError
    from lifechart.serve.audit import Auditor

    digests = []
    for answer in answers or []:
        found = log.digests(answer.replace("-", "").lower())
        if len(found) != 1:
            raise InputError("--answer", answer, "the reference of one answer")
        digests += found
    return {"answers": digests, "patients": [Auditor(log, settings).patient(each) for each in patients or []]}


@incident.command("report")
def incident_report(
    words: Words,
    severity: Severity,
    problem: Annotated[str, typer.Option("--problem", help="As in wrong-answer; the policy lists them.")],
    capability: Annotated[str, typer.Option(help="As in `risk`; an answer names its own.")] = "",
    answer: Answers = None,
    patient: Patients = None,
    occurred: Annotated[datetime | None, typer.Option(help="When it happened, in UTC.")] = None,
) -> None:
    """Report a harm, a near miss or a bad answer."""
    with _opened() as (incidents, log, settings):
        links = _links(log, settings, answer, patient)
        when = occurred.replace(tzinfo=UTC) if occurred else None
        made = incidents.report(
            problem,
            severity,
            words,
            actor=me(),
            capability=capability,
            occurred=when,
            answers=links["answers"],
            patients=links["patients"],
        )
        print(f"incident {made.number}: triage by {made.triage_due(incidents.policy):%Y-%m-%d %H:%M} UTC")


@incident.command("list")
def incident_list() -> None:
    """Show every incident and what is late, and every recall."""
    with _opened() as (incidents, _, _):
        rows = [
            (
                f"{each.number}",
                each.standing.value,
                each.severity,
                each.problem,
                each.capability,
                ", ".join(incidents.overdue_now(each)),
            )
            for each in incidents.all()
        ]
        print_rows([("incident", "stands", "severity", "problem", "capability", "late"), *rows])
        for recall in incidents.recalls.all():
            tally = incidents.recalls.tally(recall)
            done = len(tally.people) - len(tally.outstanding)
            waiting = f"; waiting for {', '.join(tally.outstanding)}" if tally.outstanding and not recall.ended else ""
            number = incidents.get(recall.incident).number
            said = f"{tally.answers} answers, acknowledged by {done} of {len(tally.people)}{waiting}"
            print(f"recall {recall.digest} (incident {number}): {said}{'; ended' if recall.ended else ''}")


@incident.command("triage")
def incident_triage(
    number: Number,
    severity: Severity,
    words: Words,
    pause: Annotated[bool, typer.Option("--pause", help="Switch the capability off at once.")] = False,
) -> None:
    """Say how bad it is and why."""
    with _opened() as (incidents, _, _):
        found = incidents.triage(number, severity, words, actor=me(), pause=pause)
        print(f"incident {found.number}: {found.severity}{'; switched off' if pause else ''}")
        for name, due in found.regulator_due(incidents.policy).items():
            print(f"{name} has to know by {due:%Y-%m-%d}")


@incident.command("investigate")
def incident_investigate(
    number: Number,
    cause: Annotated[str, typer.Option("--cause", help="As in data; the policy lists them.")],
    words: Words,
) -> None:
    """Say what the root cause was."""
    with _opened() as (incidents, _, _):
        print(f"incident {number}: {incidents.investigate(number, cause, words, actor=me()).standing}")


@incident.command("correct")
def incident_correct(number: Number, words: Words) -> None:
    """Say what was done so that it does not happen again, or why nothing was."""
    with _opened() as (incidents, _, _):
        print(f"incident {number}: {incidents.correct(number, words, actor=me()).standing}")


@incident.command("link")
def incident_link(number: Number, answer: Answers = None, patient: Patients = None) -> None:
    """Link more answers and patients."""
    with _opened() as (incidents, log, settings):
        links = _links(log, settings, answer, patient)
        found = incidents.link(number, actor=me(), answers=links["answers"], patients=links["patients"])
        print(f"incident {number}: {len(found.answers)} answers, {len(found.patients)} patients")


@incident.command("recall")
def incident_recall(
    number: Number,
    message: Annotated[str, typer.Option("--message", help="What everybody should know; names no patient.")],
    release: Annotated[str, typer.Option("--release", help="Version whose every answer it is about.")] = "",
    outcome: Annotated[str, typer.Option(help="Only what was said about this outcome.")] = "",
    since: Annotated[datetime | None, typer.Option(help="Shown from, in UTC.")] = None,
    until: Annotated[datetime | None, typer.Option(help="Shown up to, in UTC.")] = None,
) -> None:
    """Send a notice to everybody who was shown an affected answer: of a release, or of those linked."""
    from dataclasses import replace

    from lifechart.core.errors import InputError
    from lifechart.release.incidents.scope import Scope

    with _opened() as (incidents, _, _):
        found = incidents.get(number)
        if not release and not found.answers:
            raise InputError("--release", release, "a version, or an incident with linked answers")
        scope = Scope(found.capability, answers=tuple(found.answers))
        scope = incidents.release_scope(found.capability, release) if release else scope
        start, end = (each.replace(tzinfo=UTC) if each else None for each in (since, until))
        scope = replace(scope, outcome=outcome, since=start, until=end)
        made = incidents.recall(number, scope, message, actor=me())
        tally = incidents.recalls.tally(made)
        print(f"recall {made.digest}")
        print(f"{tally.answers} answers about {tally.patients} people, shown to {', '.join(tally.people) or 'nobody'}")


@incident.command("end-recall")
def incident_end_recall(recall: Annotated[str, typer.Argument(help="The recall's digest.")], reason: Reason) -> None:
    """End a recall that not everybody can acknowledge any more."""
    with _opened() as (incidents, _, _):
        incidents.end_recall(recall, reason, actor=me())


@incident.command("export")
def incident_export(
    number: Number,
    to: Regulator,
    out: Out,
    with_words: Annotated[
        bool, typer.Option("--with-words", help="Put in what people wrote; may name patients.")
    ] = False,
) -> None:
    """Write the items of a regulator's form as JSON and CSV; what nobody has stated is marked open."""
    from lifechart.release.incidents.export import export

    with _opened() as (incidents, _, settings):
        made = export(incidents, number, to, institution=settings.institution, actor=me(), with_words=with_words)
        for path in made.write(out):
            print(path)
        still = sum(bool(item.open_for) for item in made.items)
        print(f"{len(made.items) - still} of {len(made.items)} items filled in; {still} open")


@incident.command("submitted")
def incident_submitted(
    number: Number,
    to: Regulator,
    reference: Annotated[str, typer.Option("--reference", help="The one that they gave.")],
) -> None:
    """Record that a regulator was told."""
    with _opened() as (incidents, _, _):
        incidents.submitted(number, to, reference, actor=me())
        print(f"incident {number}: {to} told, {reference}")


@incident.command("sign")
def incident_sign(
    number: Number,
    key: Annotated[Path, typer.Option("--key", help="The safety officer's private key (PEM).")],
    comment: Annotated[str, typer.Option("--comment", help="What was weighed, in a few words.")],
) -> None:
    """Sign, as safety officer, for an incident to be closed, over exactly what was done about it."""
    from lifechart.ledger.keys import Signer

    with _opened() as (incidents, _, _):
        print(incidents.sign(number, Signer.open(key, key.stem), comment=comment))


@incident.command("close")
def incident_close(number: Number) -> None:
    """Close an incident that the safety officer has signed for."""
    with _opened() as (incidents, _, _):
        print(f"incident {number}: closed, signed by {incidents.close(number, actor=me()).closed_by}")


@incident.command("reopen")
def incident_reopen(number: Number, reason: Reason) -> None:
    """Take a closed incident up again."""
    with _opened() as (incidents, _, _):
        print(f"incident {number}: {incidents.reopen(number, reason, actor=me()).standing}")
