"""What patients decided, and how long things are kept: the consent register, where somebody still is, retention."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lifechart.cli.root import Reason, app, group, me, print_rows
from lifechart.core.settings import load_settings

if TYPE_CHECKING:
    from lifechart.data.consent.register import Register
    from lifechart.ledger.log import Log

consent = group("consent", "What each patient consented to, and where those who withdrew still are.")

Patient = Annotated[str, typer.Argument(help="The patient's id, as the records refer to it.")]
Purposes = Annotated[
    list[str] | None, typer.Option("--purpose", help="May be repeated; by default training and evaluation.")
]
Source = Annotated[str, typer.Option(help="Where the decision stands: a form's number, a letter.")]


@dataclass(frozen=True, slots=True)
class _Office:
    """What every verb here needs: the register, the ledger, the key, the evidence of members."""

    register: Register
    log: Log
    key: bytes
    evidence: Path
    policy: str


@contextmanager
def _office() -> Iterator[_Office]:
    from lifechart.data.consent import holdings
    from lifechart.data.consent.register import open_register
    from lifechart.data.deidentify import structured
    from lifechart.ledger.log import open_log

    settings = load_settings()
    key = structured.load_key(settings)
    with closing(open_log(settings)) as log:
        register = open_register(settings, key)
        holdings.check(register, log)
        yield _Office(register, log, key, holdings.evidence_folder(settings), settings.consent_policy)


def _decide(patient: str, purposes: list[str] | None, what: str, source: str) -> None:
    from lifechart.data.consent import holdings
    from lifechart.data.consent.register import BUILD_PURPOSES

    with _office() as office:
        made = holdings.decide(patient, purposes or BUILD_PURPOSES, what, me(), source)
        holdings.record(office.register, office.log, office.key, office.evidence, made)
    print(f"{what}: {', '.join(each.purpose for each in made)}")


@consent.command("record")
def consent_record(patient: Patient, purpose: Purposes = None, source: Source = "") -> None:
    """Record that a patient consents."""
    _decide(patient, purpose, "consented", source)


@consent.command("withdraw")
def consent_withdraw(patient: Patient, purpose: Purposes = None, source: Source = "") -> None:
    """Record that a patient withdraws: the next data set leaves the patient out; says what still holds the patient."""
    _decide(patient, purpose, "withdrawn", source)
    consent_where(patient)


@consent.command("import")
def consent_import(
    path: Annotated[Path, typer.Argument(help="A FHIR export: its Consent resources are read, nothing else.")],
) -> None:
    """Take the decisions of a FHIR export's Consent resources into the register; `lifechart ingest` does so itself."""
    from lifechart.data.consent import fhir, holdings

    with _office() as office:
        new = holdings.record(office.register, office.log, office.key, office.evidence, fhir.read_export(path))
    print(f"{len(new)} new decisions")


@consent.command("list")
def consent_list() -> None:
    """List all decisions, oldest first. Its output names patients."""
    with _office() as office:
        rows = [
            (each.patient, each.purpose, each.decision, each.at, each.until or "–", each.by, each.source or "–")
            for each in office.register.decisions
        ]
    print_rows([("patient", "purpose", "decision", "at", "until", "by", "source"), *rows])


@consent.command("status")
def consent_status(patient: Patient) -> None:
    """Say what holds for a patient now, purpose by purpose."""
    from lifechart.data.consent.register import PURPOSES

    with _office() as office:
        rows = [
            (
                purpose,
                office.register.stands(patient, purpose) or "nothing decided",
                "yes" if office.register.permits(patient, [purpose], office.policy) else "no",
            )
            for purpose in PURPOSES
        ]
    print_rows([("purpose", "last decision", f"permitted ({office.policy})"), *rows])


@consent.command("where")
def consent_where(patient: Patient) -> None:
    """List the data sets, models and releases that still hold a patient."""
    from lifechart.data.consent import holdings

    with _office() as office:
        found = holdings.where(office.log, office.key, office.evidence, patient)
    rows = []
    for each in found:
        models = ", ".join(model.digest[:12] for model in each.resting.models) or "–"
        releases = ", ".join(
            f"{one.capability}/{one.version}{' (current)' if one.current else ''}" for one in each.resting.releases
        )
        kept = "deleted" if each.resting.deleted else ("yes" if each.held else "cannot be told")
        rows.append((each.dataset[:12], each.created[:10], kept, models, releases or "–"))
    if rows:
        print_rows([("data set", "made", "holds the patient", "models", "releases"), *rows])
    else:
        print("No data set in the ledger holds this patient.")


def _retention_rows(folders: list[Path]) -> list[tuple[str, ...]]:
    from lifechart.data import retention
    from lifechart.ledger.log import open_log

    settings = load_settings()
    with closing(open_log(settings)) as log:
        found = retention.things(log, [*folders, settings.shelf], retention.load())
    return [
        (str(each.folder), each.kind, each.digest[:12], each.created[:10], each.until[:10], each.state())
        for each in found
    ]


retention = typer.Typer(invoke_without_command=True, help="How long data sets, models and reports are kept.")
app.add_typer(retention, name="retention")
Folders = Annotated[list[Path], typer.Option("--folder", help="Where they lie; may be repeated. The shelf always is.")]


@retention.callback()
def retention_list(ctx: typer.Context, folder: Folders = []) -> None:  # noqa: B006 -- typer copies it
    """List what is kept, until when, and what is due for deletion."""
    if ctx.invoked_subcommand is None:
        print_rows([("folder", "what", "digest", "made", "until", "state"), *_retention_rows(folder)])


@retention.command("apply")
def retention_apply(
    reason: Reason,
    folder: Folders = [],  # noqa: B006 -- typer copies it
    force: Annotated[bool, typer.Option("--force", help="Also what current releases rest on.")] = False,
) -> None:
    """Delete what is due; each deletion stands in the ledger. What current releases rest on is kept, unless forced."""
    from lifechart.data import retention as stage
    from lifechart.ledger.log import open_log

    settings = load_settings()
    with closing(open_log(settings)) as log:
        rules = stage.load()
        found = stage.things(log, [*folder, settings.shelf], rules)
        gone = stage.apply(found, log, actor=me(), reason=reason, force=force)
    for each in gone:
        print(f"deleted: {each.kind} {each.digest[:12]} ({each.folder})")
    kept = [each for each in found if each.due and each not in gone]
    for each in kept:
        print(f"kept: {each.kind} {each.digest[:12]}, because {each.why_kept}")
    if not gone and not kept:
        print("Nothing is due.")
