"""What a release has to tell others: documents written from evidence."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from lifechart.cli.root import Out, app, me, print_rows
from lifechart.core.settings import load_settings


@app.command()
def documents(capability: Annotated[str, typer.Argument(help="The capability, as in `risk`.")], out: Out) -> None:
    """Write the model card, source attributes, checklists, change plan and public page of the current release."""
    from lifechart.core import plugs
    from lifechart.core.capability import Capability
    from lifechart.core.errors import InputError
    from lifechart.ledger.log import open_log
    from lifechart.release.documents.evidence import gather
    from lifechart.release.documents.write import INDEX, write
    from lifechart.release.protocol import open_registry
    from lifechart.release.shelf import open_shelf

    settings = load_settings()
    known = plugs.load("lifechart.capabilities", Capability)
    plug = known.get(capability)
    if not isinstance(plug, Capability):
        raise InputError("capability", capability, f"one of {sorted(known)}")
    with closing(open_log(settings)) as log:
        shelf, registry = open_shelf(settings, log), open_registry(settings, log)
        dossier = gather(shelf, log, registry, plug.declaration, settings.institution)
        written = write(dossier, out, actor=me())
    counted = [
        (each.title, *(str(each.count(status)) for status in ("stated", "in part", "open")))
        for each in written.documents
    ]
    print_rows([("document", "stated", "in part", "open"), *counted])
    for title, reason in written.refused:
        print(f"not written: {title}: {reason}")
    print(f"{out / INDEX}")
