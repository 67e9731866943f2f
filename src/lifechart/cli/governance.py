"""Who may let it out, and on what grounds: people, signatures, protocols, validations, change plans."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from lifechart.cli.root import Reason, app, group, me, print_rows
from lifechart.core.capability import Phase
from lifechart.core.settings import load_settings

person = group("person", "Who may sign for the institution.")
protocol = group("protocol", "Protocols: sealed before anybody looks.")

Key = Annotated[Path, typer.Option("--key", help="The signer's private key (PEM).")]
Comment = Annotated[str, typer.Option("--comment", help="What was weighed, in a few words.")]
Digest = Annotated[str, typer.Argument(help="The protocol's digest, as `protocol list` prints it.")]


@person.command("key")
def person_key(
    name: Annotated[str, typer.Argument(help="The person's name, without spaces.")],
    out: Annotated[Path, typer.Option("--out", help="File for the private key; the public half goes beside it.")],
) -> None:
    """Make a key for one person, who keeps it; `person add` wants the public half."""
    from lifechart.ledger.keys import Signer

    print(Signer.open(out, name).public)


@person.command("add")
def person_add(
    key: Annotated[Path, typer.Option("--key", help="The person's public key.")],
    office: Annotated[list[str], typer.Option("--office", help="As in medical-officer; may be repeated.")],
    staff_number: Annotated[str, typer.Option("--staff-number", help="Only its hash is kept.")],
    login: Annotated[str, typer.Option(help="As whom this person trains models, if ever.")] = "",
) -> None:
    """Let a person sign in these offices."""
    from lifechart.ledger.keys import PublicKey
    from lifechart.ledger.log import open_log
    from lifechart.release.people import People, offices_of

    with closing(open_log(load_settings())) as log:
        public = PublicKey.load(key)
        People(log).register(public, offices_of(office), staff_number=staff_number, actor=me(), login=login)
    print(f"{public.name}: {', '.join(office)}")


@person.command("dismiss")
def person_dismiss(name: Annotated[str, typer.Argument(help="The person's name.")]) -> None:
    """Let a person sign no more; what was signed stands."""
    from lifechart.ledger.log import open_log
    from lifechart.release.people import People

    with closing(open_log(load_settings())) as log:
        People(log).dismiss(name, actor=me())
    print(f"{name}: signs no more")


@person.command("list")
def person_list() -> None:
    """Show who may sign."""
    from lifechart.ledger.log import open_log
    from lifechart.release.people import People

    with closing(open_log(load_settings())) as log:
        people = People(log).all().values()
    rows = [(each.name, ", ".join(each.offices), "left" if each.left else "", each.key.id) for each in people]
    print_rows([("person", "offices", "", "key"), *rows])


@app.command()
def approve(
    capability: Annotated[str, typer.Argument(help="The capability, as in `risk`.")],
    phase: Annotated[Phase, typer.Argument(help="The phase that its current release is to enter.")],
    key: Key,
    office: Annotated[str, typer.Option("--office", help="As in medical-officer.")],
    comment: Comment,
) -> None:
    """Sign for a release to enter a phase, over the exact model, Report and protocol."""
    from lifechart.ledger.keys import Signer
    from lifechart.ledger.log import open_log
    from lifechart.release.people import offices_of
    from lifechart.release.shelf import open_shelf

    settings = load_settings()
    with closing(open_log(settings)) as log:
        signer = Signer.open(key, key.stem)
        path = open_shelf(settings, log).approve(
            capability, phase, signer, office=offices_of([office])[0], comment=comment
        )
    print(f"{signer.public.name} signed as {office}: {path}")


@app.command()
def replace(
    capability: Annotated[str, typer.Argument(help="The capability, as in `risk`.")],
    plan: Annotated[str, typer.Option("--plan", help="Digest of the registered change plan.")],
) -> None:
    """Put a retrained release in its predecessor's place under a change plan; one outside it goes back to `shadow`."""
    from lifechart.ledger.log import open_log
    from lifechart.release.protocol import open_registry
    from lifechart.release.shelf import open_shelf

    settings = load_settings()
    with closing(open_log(settings)) as log:
        state, found = open_shelf(settings, log).replace(capability, open_registry(settings, log).get(plan), actor=me())
    for breach in found:
        print(f"outside the envelope: {breach}")
    print(f"{capability} {state.version}: phase {state.phase}")


@protocol.command("sign")
def protocol_sign(
    path: Annotated[Path, typer.Argument(help="The protocol's TOML file.")],
    key: Key,
    office: Annotated[str, typer.Option("--office", help="As in ethics-board.")],
    comment: Comment,
) -> None:
    """Sign a protocol's exact bytes, before it is registered or amended."""
    from lifechart.ledger.keys import Signer
    from lifechart.ledger.log import open_log
    from lifechart.release.people import offices_of
    from lifechart.release.protocol import open_registry

    settings = load_settings()
    with closing(open_log(settings)) as log:
        signer = Signer.open(key, key.stem)
        open_registry(settings, log).sign(path, signer, office=offices_of([office])[0], comment=comment)
    print(f"{signer.public.name} signed {path} as {office}")


@protocol.command("register")
def protocol_register(path: Annotated[Path, typer.Argument(help="The protocol's TOML file, signed.")]) -> None:
    """Seal a protocol: its digest goes into the ledger, and what it decides is decided."""
    from lifechart.ledger.log import open_log
    from lifechart.release.protocol import open_registry

    settings = load_settings()
    with closing(open_log(settings)) as log:
        registered = open_registry(settings, log).register(path, actor=me())
    print(f"{registered.original}  {registered.protocol.title} (ledger entry {registered.entry.index})")


@protocol.command("amend")
def protocol_amend(
    digest: Digest,
    path: Annotated[Path, typer.Argument(help="The changed TOML file, signed.")],
    reason: Reason,
) -> None:
    """Seal a changed protocol in the place of a registered one, as long as nothing has been carried out under it."""
    from lifechart.ledger.log import open_log
    from lifechart.release.protocol import open_registry

    settings = load_settings()
    with closing(open_log(settings)) as log:
        registered = open_registry(settings, log).amend(digest, path, actor=me(), reason=reason)
    print(f"{registered.original}  amendment {registered.amendments} (ledger entry {registered.entry.index})")


@protocol.command("list")
def protocol_list() -> None:
    """Show every registered protocol and how often it was carried out."""
    from lifechart.ledger.log import open_log
    from lifechart.release.protocol import open_registry

    settings = load_settings()
    with closing(open_log(settings)) as log:
        registry = open_registry(settings, log)
        known = registry.all()
        uses = {each.original: str(len(registry.uses(each.original))) for each in known}
    rows = [
        (each.original, each.protocol.purpose.value, each.protocol.title, str(each.amendments), uses[each.original])
        for each in known
    ]
    print_rows([("protocol", "purpose", "title", "amendments", "uses"), *rows])


@app.command()
def validate(
    digest: Digest,
    dataset: Annotated[Path, typer.Option("--data", help="A data set that nobody has evaluated.")],
    model: Annotated[Path, typer.Option("--model", help="The model to validate.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the report.")],
) -> None:
    """Carry a registered protocol out, once, on data that nobody had looked at; exit 1 if it is not met."""
    from lifechart.care.risk import policy
    from lifechart.data import shards
    from lifechart.evaluate import examine
    from lifechart.ledger.log import open_log
    from lifechart.model.forecaster import load_forecaster
    from lifechart.release import validation
    from lifechart.release.protocol import open_registry

    settings = load_settings()
    with closing(open_log(settings)) as log:
        registry = open_registry(settings, log)
        registered = validation.prepare(registry, digest, shards.dataset_digest(dataset))
        report = examine.examine(
            dataset, load_forecaster(model), out, log=log, registered=registered.original,
            abstains_from=policy()["abstain_novelty"],
        )  # fmt: skip
        found = validation.conclude(log, registry, registered, report, actor=me())
    print_rows(found.verdict.table())
    for reason in found.reasons:
        print(f"not met: {reason}")
    print("met" if found.met else "not met")
    if not found.met:
        raise typer.Exit(1)
