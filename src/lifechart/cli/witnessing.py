"""Witnesses of the log: what another party runs, and how this institution asks them."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from lifechart.cli.ledgers import ledger
from lifechart.cli.root import group
from lifechart.core.settings import load_settings

witness = group("witness", "Another party's part: cosign the checkpoints of a log that only ever grows.")

LogKeys = Annotated[list[Path], typer.Option("--log", help="The public key of a log; may be repeated.")]
Home = Annotated[Path, typer.Option(help="The witness's folder: its key and what it has seen.")]
Name = Annotated[str, typer.Option(help="The witness's name, for a new key: `registry.example/w1`.")]


@witness.command("sign")
def witness_sign(
    copy: Annotated[Path, typer.Argument(help="A copy of a log: its folder with checkpoint and tiles.")],
    log: LogKeys,
    home: Home = Path("witness"),
    name: Name = "witness",
) -> None:
    """Cosign the checkpoint of a copy of a log, if it continues the one that was cosigned last; print the line."""
    from lifechart.ledger import cosigned
    from lifechart.ledger.keys import PublicKey
    from lifechart.ledger.witness import Witness

    _, line = cosigned.cosign_copy(Witness.open(home, name, [PublicKey.load(path) for path in log]), copy)
    print(line, end="")


@witness.command("serve")
def witness_serve(
    log: LogKeys,
    home: Home = Path("witness"),
    name: Name = "witness",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8802,
) -> None:
    """Cosign over HTTP, as C2SP tlog-witness has it: POST /add-checkpoint."""
    from lifechart.ledger.keys import PublicKey
    from lifechart.ledger.witness import Witness
    from lifechart.ledger.witness_http import server

    made = Witness.open(home, name, [PublicKey.load(path) for path in log])
    print(f"{made.public}\nlistening on http://{host}:{port}/add-checkpoint", flush=True)
    server(made, host, port).serve_forever()


@ledger.command("cosign")
def ledger_cosign(
    key: Annotated[Path, typer.Option(help="The witness's public key.")],
    url: Annotated[str, typer.Option(help="Where the witness answers: its address without /add-checkpoint.")] = "",
    line: Annotated[
        Path | None, typer.Option(help="A file with the line that `lifechart witness sign` printed.")
    ] = None,
    note: Annotated[Path | None, typer.Option(help="With --line: the checkpoint that was cosigned.")] = None,
) -> None:
    """Have a witness cosign this institution's log, or keep a cosignature that came by other ways."""
    from lifechart.core.errors import InputError
    from lifechart.ledger import cosigned
    from lifechart.ledger.keys import COSIGNATURES, PublicKey
    from lifechart.ledger.log import open_log

    if bool(url) == (line is not None):
        raise InputError("--url, --line", (url, line), "one of the two")
    with closing(open_log(load_settings())) as log:
        public = PublicKey.load(key, COSIGNATURES)
        if line is None:
            print(cosigned.ask(log, url, public), end="")
            return
        text = note.read_text() if note is not None else log.checkpoint()
        print(cosigned.keep(log, text, line.read_text().splitlines(keepends=True), [public]), end="")
