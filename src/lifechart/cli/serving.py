"""At work: the server, the simulated EHR, accounts and client systems."""

from __future__ import annotations

import getpass
import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from lifechart.cli.root import app, group
from lifechart.core.capability import Role
from lifechart.core.settings import load_settings

account = group("account", "Who may sign in.")
client = group("client", "Which systems may call.")


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
    clients: Annotated[Path | None, typer.Option(help="JSON of clients that may export: {ID: JWK set}.")] = None,
) -> None:
    """Serve a simulated hospital's records as a read-only FHIR R4 server, in the place of an EHR."""
    import uvicorn

    from lifechart.simulate.ehr import create_ehr
    from lifechart.simulate.ehr_token import load_clients

    settings = load_settings()
    server = create_ehr(
        records,
        token=settings.fhir_token.get_secret_value(),
        clients=load_clients(clients) if clients else None,
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
