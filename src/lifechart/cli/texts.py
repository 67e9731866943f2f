"""Free text: take the identifiers out of it, and train the tagger that finds them."""

from __future__ import annotations

import sys
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import IO, Annotated

import typer

from lifechart.cli.root import Out, Seed, app
from lifechart.core.settings import load_settings

_TOGETHER = 64
"""Lines that are worked on at a time."""


@app.command("deidentify-text")
def deidentify_text(
    path: Annotated[Path | None, typer.Argument(help="Lines of JSON; by default standard input.")] = None,
    policy: Annotated[str | None, typer.Option(help="hipaa or broad; by default each language's own.")] = None,
    language: Annotated[str | None, typer.Option(help="Of lines that do not say; by default it is detected.")] = None,
    surrogates: Annotated[
        bool, typer.Option(help="Put surrogates in place of tags (lines that name a patient).")
    ] = False,
) -> None:
    """Read lines of {"text": …} and write {"text": …, "spans": [{"start", "end", "class", "reason"}]}, de-identified.

    Offsets count code points of the text that was read. A line may have "language", "patient" (whose surrogates and
    date offset are used) and "known" ({type: [values]}: identifiers of the patient to look for).
    """
    from threadpoolctl import threadpool_limits

    from lifechart.data.deidentify import structured
    from lifechart.data.deidentify.text import lines

    key = structured.load_key(load_settings()) if surrogates else None
    # The products are small: on several cores their threads would only wait for each other.
    with _input(path) as stream, threadpool_limits(1):
        numbered = enumerate(stream, start=1)
        while batch := list(islice(numbered, _TOGETHER)):
            for result in lines.deidentified(batch, policy=policy, language=language, key=key):
                sys.stdout.buffer.write(result)
            sys.stdout.buffer.flush()


def _input(path: Path | None) -> IO[bytes]:
    if path is None:
        return sys.stdin.buffer
    if not path.is_file():
        from lifechart.core.errors import InputError

        raise InputError("PATH", str(path), "a file of lines of JSON")
    return open(path, "rb")


@app.command("train-tagger")
def train_tagger(
    language: Annotated[str, typer.Argument(help="en or es.")],
    texts: Annotated[Path, typer.Option(help="Folder of the marked texts (docs/guides/text.md).")],
    out: Out,
    hospital: Annotated[Path | None, typer.Option(help="A simulated hospital, for its notes.")] = None,
    seed: Seed = 7,
) -> None:
    """Train the tagger of a language; writes its weights and a note of what they come from."""
    from lifechart.ledger.log import open_log
    from lifechart.model import tagger as stage

    with closing(open_log(load_settings())) as log:
        note = stage.train_tagger(language, texts, out, hospital=hospital, seed=seed, log=log)
    print(f"{note['examples']:,} texts; weights {note['weights']} in {out}")
