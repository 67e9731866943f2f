"""The command `lifechart`: one verb a stage, no logic of its own.

Each verb imports its stage when it is called, so that `lifechart ledger verify` does not wait for torch.
"""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterable
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from lifechart.core.capability import Phase, Role
from lifechart.core.errors import LifechartError
from lifechart.core.settings import load_settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A clinical foundation model that a health institution owns, from the first record to the last answer.",
)
ledger = typer.Typer(no_args_is_help=True, help="The append-only log of signed statements.")
account = typer.Typer(no_args_is_help=True, help="Who may sign in.")
client = typer.Typer(no_args_is_help=True, help="Which systems may call.")
app.add_typer(ledger, name="ledger")
app.add_typer(account, name="account")
app.add_typer(client, name="client")

Out = Annotated[Path, typer.Option("--out", help="Folder to write.")]
Seed = Annotated[int, typer.Option("--seed", help="Same seed, same result.")]
Name = Annotated[str, typer.Argument(help="The capability, as in `risk`.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, in a sentence; it stands in the ledger.")]


def main() -> None:
    """Run the command line; a refusal prints its one message and exits 2."""
    try:
        app()
    except LifechartError as error:
        print(f"lifechart: {error}", file=sys.stderr)
        raise SystemExit(2) from None


@app.command()
def simulate(
    out: Out,
    lives: Annotated[int, typer.Option(help="How many lives.")] = 2000,
    seed: Seed = 0,
    today: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The day the record ends.")] = None,
) -> None:
    """Simulate a hospital whose truth is known, and export its records as FHIR."""
    from lifechart.simulate import hospital

    made = hospital.simulate(out, lives, seed, (today or datetime.now().astimezone()).date())
    _print_rows(made.table())


@app.command()
def ingest(
    path: Annotated[Path, typer.Argument(help="FHIR bundles or Bulk NDJSON, tables or MEDS: a file or folder.")],
    out: Out,
    source: Annotated[str | None, typer.Option(help="The source; by default whichever detects its format.")] = None,
    mapping: Annotated[Path | None, typer.Option(help="For tables: the YAML that maps columns to events.")] = None,
    dates: Annotated[str, typer.Option(help="shift (by a keyed offset a patient) or year (years only).")] = "shift",
    as_of: Annotated[datetime | None, typer.Option(help="When observation ended; else what the export says.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; by default one a core.")] = None,
) -> None:
    """Read records, de-identify them, and write a data set."""
    from lifechart.data import ingest as stage
    from lifechart.data.deidentify import structured
    from lifechart.ledger.log import open_log

    settings = load_settings()
    with closing(open_log(settings)) as log:
        found = stage.ingest(
            path,
            out,
            key=structured.load_key(settings),
            log=log,
            source=source,
            option=str(mapping or ""),
            workers=workers,
            dates=dates,
            as_of=as_of,
        )
    _print_rows(found.table())
    print(f"{found.events:,} events of {found.subjects:,} patients in {out}")


@app.command()
def train(
    dataset: Annotated[Path, typer.Argument(help="A data set that `lifechart ingest` wrote.")],
    out: Out,
    size: Annotated[str, typer.Option(help="xs, s, m or l.")] = "s",
    seed: Seed = 0,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data; by default the size's own.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; by default a GPU if there is one.")] = None,
) -> None:
    """Train a model of patient timelines; a killed run goes on where it was."""
    from lifechart.ledger.log import open_log
    from lifechart.model import train as stage

    with closing(open_log(load_settings())) as log:
        result = stage.train(dataset, out, size=size, seed=seed, log=log, epochs=epochs, device=device)
    print(result.summary())


@app.command()
def evaluate(
    dataset: Annotated[Path, typer.Argument(help="A data set; its held-out patients are asked about.")],
    model: Annotated[Path, typer.Option(help="A model that `lifechart train` wrote.")],
    out: Out,
    truth: Annotated[Path | None, typer.Option(help="A simulated hospital's truth: scores its oracles too.")] = None,
    baselines: Annotated[bool, typer.Option(help="Train boosted trees on the same data and score them.")] = True,
    max_prompts: Annotated[int | None, typer.Option(help="Ask at most this often, chosen by lot.")] = None,
    seed: Seed = 0,
) -> None:
    """Find out what a model is worth, beside boosted trees and, where it is known, the truth."""
    from lifechart.data.deidentify import structured
    from lifechart.evaluate import examine, summary
    from lifechart.ledger.log import open_log
    from lifechart.model.forecaster import load_forecaster

    settings = load_settings()
    with closing(open_log(settings)) as log:
        report = examine.examine(
            dataset,
            load_forecaster(model),
            out,
            log=log,
            baselines=baselines,
            truth=truth,
            key=structured.load_key(settings) if truth else None,
            max_prompts=max_prompts,
            seed=seed,
        )
    _print_rows(summary.table(report))
    _print_rows(summary.shares(report))
    print(f"the whole report: {out / 'report.html'}")


@app.command()
def release(
    capability: Name,
    model: Annotated[Path, typer.Option(help="A model that `lifechart train` wrote.")],
    report: Annotated[Path, typer.Option(help="The report.json that `lifechart evaluate` wrote of it.")],
    criteria: Annotated[Path | None, typer.Option(help="TOML; by default what comes with the capability.")] = None,
    reason: Reason = "",
) -> None:
    """Hold a model's report against the gate's criteria; what passes is signed and put on the shelf, in phase `off`."""
    from lifechart.ledger.log import open_log
    from lifechart.release.shelf import open_shelf

    settings = load_settings()
    with closing(open_log(settings)) as log:
        released, verdict = open_shelf(settings, log).release(
            capability, model, report, actor=_me(), reason=reason, criteria=criteria
        )
    _print_rows(verdict.table())
    print(
        f"{capability} {released.version}: {len(verdict.released)} outcomes × horizons may be shown, "
        f"{len(verdict.left_out)} are left out; manifest {released.manifest.digest[:16]}…"
    )


@app.command()
def rollback(
    capability: Name, version: Annotated[str, typer.Argument(help="An earlier version.")], reason: Reason
) -> None:
    """Make an earlier release current again."""
    from lifechart.ledger.log import open_log
    from lifechart.release.shelf import open_shelf

    settings = load_settings()
    with closing(open_log(settings)) as log:
        released = open_shelf(settings, log).rollback(capability, version, actor=_me(), reason=reason)
    print(f"{capability}: version {released.version} is current")


@app.command()
def phase(capability: Name, to: Annotated[Phase, typer.Argument(help="How far it is out.")], reason: Reason) -> None:
    """Let a capability's current release out to a phase, or take it back."""
    from lifechart.ledger.log import open_log
    from lifechart.release.shelf import open_shelf

    settings = load_settings()
    with closing(open_log(settings)) as log:
        state = open_shelf(settings, log).set_phase(capability, to, actor=_me(), reason=reason)
    print(f"{capability}: phase {state.phase}, switched {'on' if state.on else 'off'}")


@app.command()
def switch(
    capability: Name,
    to: Annotated[bool, typer.Argument(metavar="on|off", parser=lambda text: _on_off(text))],
    reason: Reason,
) -> None:
    """Switch a capability off or on at once, whatever its phase."""
    from lifechart.ledger.log import open_log
    from lifechart.release.shelf import open_shelf

    settings = load_settings()
    with closing(open_log(settings)) as log:
        state = open_shelf(settings, log).switch(capability, to, actor=_me(), reason=reason)
    print(f"{capability}: phase {state.phase}, switched {'on' if state.on else 'off'}")


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address; by default LIFECHART_HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; by default LIFECHART_PORT.")] = None,
) -> None:
    """Serve clinicians' and stewards' pages and CDS Hooks."""
    from lifechart.serve.app import run

    given = {key: value for key, value in {"host": host, "port": port}.items() if value is not None}
    run(load_settings().model_copy(update=given))


@app.command()
def ehr(
    records: Annotated[Path, typer.Argument(help="The fhir folder of a simulated hospital.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8801,
) -> None:
    """Serve a simulated hospital's records as a read-only FHIR R4 server, in the place of an EHR."""
    import uvicorn

    from lifechart.simulate.ehr import create_ehr

    settings = load_settings()
    server = create_ehr(
        records,
        token=settings.fhir_token.get_secret_value(),
        chart_url=f"http://{settings.host}:{settings.port}/patients/{{patient}}",
    )
    # No access log: its lines would hold patients' ids.
    uvicorn.run(server, host=host, port=port, access_log=False, log_level="warning")


@account.command("add")
def account_add(
    name: Annotated[str, typer.Argument(help="The name to sign in with.")],
    role: Annotated[list[Role], typer.Option(help="May be repeated.")],
    password_stdin: Annotated[bool, typer.Option("--password-stdin", help="Read the password from stdin.")] = False,
) -> None:
    """Add an account, or give it a new password and roles."""
    from lifechart.serve.access import add_account
    from lifechart.serve.store import Store

    password = sys.stdin.readline().rstrip("\n") if password_stdin else getpass.getpass("Password: ")
    with closing(Store(load_settings().database)) as store:
        add_account(store, name, password, role)
    print(f"{name}: {', '.join(role)}")


@client.command("add")
def client_add(name: Annotated[str, typer.Argument(help="The system's name.")]) -> None:
    """Add a client system (an EHR that calls CDS Hooks), or renew its token; the token is shown this once."""
    from lifechart.serve.access import add_client
    from lifechart.serve.store import Store

    with closing(Store(load_settings().database)) as store:
        print(add_client(store, name))


@ledger.command("verify")
def ledger_verify(
    folder: Annotated[Path | None, typer.Argument(help="A copy of a ledger; by default this institution's.")] = None,
    key: Annotated[Path | None, typer.Option(help="The public key that signed it.")] = None,
    earlier: Annotated[list[Path] | None, typer.Option(help="A checkpoint kept from before; may be repeated.")] = None,
) -> None:
    """Check every entry, hash and signature of a log; exit 1 if anything is wrong."""
    from lifechart.ledger.log import public_verifier
    from lifechart.ledger.verify import verify

    settings = load_settings()
    notes = [path.read_text() for path in earlier or []]
    found = verify(folder or settings.ledger, public_verifier(settings, key), earlier=notes)
    print(found)
    if not found.sound:
        raise typer.Exit(1)


@ledger.command("trace")
def ledger_trace(
    digest: Annotated[str, typer.Argument(help="SHA-256 of a data set, model, report …")],
) -> None:
    """Show what a thing rests on, down to the source extracts."""
    from lifechart.ledger.log import open_log
    from lifechart.ledger.trace import trace

    with closing(open_log(load_settings())) as log:
        print(trace(log, digest))


def _on_off(text: str) -> bool:
    if text not in ("on", "off"):
        raise typer.BadParameter(f"got {text!r}, expected on or off")
    return text == "on"


def _me() -> str:
    return getpass.getuser()


def _print_rows(rows: Iterable[tuple[str, ...]]) -> None:
    header, *body = [*rows] or [()]
    table = Table(box=None, header_style="bold", pad_edge=False)
    for position, name in enumerate(header):
        table.add_column(name, justify="left" if position == 0 else "right")
    for row in body:
        table.add_row(*row)
    if header:
        # A file or a pipe has no width of its own: give the table the room it wants.
        Console(width=None if sys.stdout.isatty() else 140).print(table)


if __name__ == "__main__":
    main()
