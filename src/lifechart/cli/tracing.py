"""From a sentence to its sources and back: trace."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lifechart.cli.root import app, print_rows
from lifechart.core.errors import InputError
from lifechart.core.settings import load_settings

if TYPE_CHECKING:
    from lifechart.ledger.graph import Graph


@app.command("trace")
def trace_thing(
    thing: Annotated[
        str,
        typer.Argument(
            help="A reference from a page or card, an entry's number, a digest or its beginning, or a file or folder: "
            "a data set, model, report, release, or a file of an extract. MODEL/CAPABILITY: what each source added."
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="The graph as JSON.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write a page with the graph drawn.")] = None,
    beside: Annotated[
        Path | None, typer.Option(help="A copy of another institution's log, for a model that came from there.")
    ] = None,
    beside_key: Annotated[Path | None, typer.Option(help="The public key of that log.")] = None,
) -> None:
    """Show what a thing rests on, down to the source extracts, and every capability that rests on it."""
    import orjson

    from lifechart.core import durable
    from lifechart.ledger import page
    from lifechart.ledger.lineage import contribution_rows
    from lifechart.ledger.log import open_log
    from lifechart.ledger.trace import trace

    thing, capability = _parted(thing)
    with closing(open_log(load_settings())) as log:
        graph = trace(log, digest_of_path(Path(thing)) if Path(thing).exists() else thing)
        if html is not None:
            durable.write_bytes(html, page.render(graph, log.head()).encode())
            print(html)
        elif as_json:
            sys.stdout.buffer.write(
                orjson.dumps(graph.to_json(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
            )
        else:
            print(graph)
            if capability:
                print_rows(contribution_rows(log, graph.start, capability))
            if beside is not None:
                _print_beside(graph, beside, beside_key)


def _parted(thing: str) -> tuple[str, str]:
    """Return the thing and, after its last slash, the capability that is asked about, if there is one."""
    if Path(thing).exists() or "/" not in thing:
        return thing, ""
    found, _, capability = thing.rpartition("/")
    return found, capability


def _print_beside(graph: Graph, copy: Path, key: Path | None) -> None:
    """Print what another institution's log says of the things that this one only names."""
    from lifechart.ledger.keys import PublicKey, Verifier
    from lifechart.ledger.log import Log
    from lifechart.ledger.trace import trace

    if key is None:
        raise InputError("--beside-key", None, "the public key of that log")
    public = PublicKey.load(key)
    with closing(Log(copy, public.name, Verifier([public]))) as other:
        known = [node.digest for node in graph.bare if other.digests(node.digest)]
        for digest in known:
            print(f"\nIn the log {public.name}, of {other.size:,} entries\n{trace(other, digest, forward=False)}")
        if not known:
            print(f"\nThe log {public.name} names none of these things")


def digest_of_path(path: Path) -> str:
    """Return the digest that the ledger knows a file or folder by."""
    from lifechart.core import durable
    from lifechart.core.report import Report
    from lifechart.data import shards
    from lifechart.release.manifest import MANIFEST

    if path.is_file():
        return Report.load(path).digest if path.name == "report.json" else durable.file_digest(path)
    if (path / MANIFEST).is_file() and (path / "model").is_dir():
        return _payload_digest(path / MANIFEST)
    if (path / "data").is_dir():
        return shards.dataset_digest(path)
    if (path / "report.json").is_file():
        return Report.load(path / "report.json").digest
    if any((path / name).is_file() for name in ("weights.npz", "members.npz", "adapter.bin")):
        from lifechart.model.checkpoint import model_digest

        return model_digest(path)
    return _extract_digest(path)


def _payload_digest(manifest: Path) -> str:
    import hashlib

    from lifechart.ledger.statement import Envelope

    return hashlib.sha256(Envelope.of_bytes(manifest.read_bytes()).payload).hexdigest()


def _extract_digest(folder: Path) -> str:
    """Return the digest of a folder of records, read as ingestion would."""
    from rich.progress import track

    from lifechart.core import durable
    from lifechart.data.sources import find_source
    from lifechart.ledger import lineage

    files = find_source(folder).files(folder, "")
    shown = track(files, "Hashing", transient=True, disable=not sys.stderr.isatty())
    return lineage.extract_digest([lineage.File("", durable.file_digest(file), 0) for file in shown])
