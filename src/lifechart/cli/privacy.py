"""What the records may give away: re-identification risk and its signature."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from lifechart.cli.root import Out, Seed, app, print_rows
from lifechart.core.settings import load_settings


class _AssessFirst(TyperGroup):
    """A group in which `lifechart risk DATASET …` is `lifechart risk assess DATASET …`."""

    def resolve_command(self, ctx, args):  # type: ignore[no-untyped-def]
        """Name the verb that was left out."""
        return super().resolve_command(ctx, args if args[0] in self.commands else ["assess", *args])


risk = typer.Typer(
    no_args_is_help=True, cls=_AssessFirst, help="How likely is somebody in a data set to be recognised?"
)
app.add_typer(risk, name="risk")

Folder = Annotated[Path, typer.Argument(help="A folder that `lifechart risk` wrote.")]


@risk.command("assess")
def risk_assess(
    dataset: Annotated[Path, typer.Argument(help="A data set that `lifechart ingest` wrote.")],
    out: Out,
    population: Annotated[int | None, typer.Option(help="Of how many people its subjects are a sample.")] = None,
    threshold: Annotated[float, typer.Option(help="The highest probability of a right link to accept.")] = 0.09,
    identifiers: Annotated[Path | None, typer.Option(help="TOML of identifiers and attackers.")] = None,
    seed: Seed = 0,
) -> None:
    """Assess the re-identification risk of a data set, and write the page that a reviewer signs."""
    from lifechart.data.deidentify.risk import assess, page, signature
    from lifechart.ledger.log import open_log

    settings = load_settings()
    found = assess(dataset, population=population, threshold=threshold, table=identifiers, seed=seed)
    page.write(found, out, settings.institution)
    with closing(open_log(settings)) as log:
        signature.record(out, log)
    rows = [
        (each.title, f"{each.risk.smallest}", f"{each.mean():.3f}", each.verdict(threshold)) for each in found.findings
    ]
    print_rows([("attacker", "smallest group", "mean probability", f"at or below {threshold}"), *rows])
    print(f"{out / page.PAGE}: assessment {found.digest[:16]}…")


@risk.command("sign")
def risk_sign(
    folder: Folder,
    key: Annotated[Path, typer.Option(help="The reviewer's private key (PEM); made on first use.")],
    name: Annotated[str, typer.Option(help="The reviewer's name for a new key, without spaces.")],
    role: Annotated[str, typer.Option(help="In what capacity the reviewer signs.")],
    conclusion: Annotated[str, typer.Option(help="What the reviewer concludes, in a sentence or more.")],
) -> None:
    """Sign an assessment: the page, its figures and the data set together."""
    from lifechart.data.deidentify.risk import signature
    from lifechart.ledger.keys import Signer
    from lifechart.ledger.log import open_log

    signer = Signer.open(key, name)
    with closing(open_log(load_settings())) as log:
        path = signature.sign_page(folder, signer, log, role=role, conclusion=conclusion)
    print(f"{path}: signed by {signer.public.id}")


@risk.command("verify")
def risk_verify(
    folder: Folder,
    key: Annotated[list[Path], typer.Option(help="A reviewer's public key; may be repeated.")],
    dataset: Annotated[Path | None, typer.Option(help="The data set that it should be of.")] = None,
) -> None:
    """Check the signatures over an assessment against every byte that they are of."""
    from lifechart.data import shards
    from lifechart.data.deidentify.risk import signature
    from lifechart.ledger.keys import PublicKey, Verifier

    verifier = Verifier(PublicKey.load(path) for path in key)
    digest = shards.verify(dataset) if dataset else None
    found = signature.signatures(folder, verifier, digest)
    for each in found:
        print(f"{each.name} ({each.role}), {each.created[:10]}: {each.conclusion}")
    if not found:
        print("Nobody has signed this.")
        raise typer.Exit(1)
