"""Medical images: de-identify DICOM files, folder to folder."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from lifechart.cli.root import app, print_rows
from lifechart.core.settings import load_settings


@app.command("deidentify-dicom")
def deidentify_dicom(
    path: Annotated[Path, typer.Argument(help="DICOM files: a folder, a zip or one file.")],
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    patients: Annotated[Path | None, typer.Option(help="CSV: patient_id of images, record_id of the record.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; by default one a core.")] = None,
) -> None:
    """De-identify DICOM files to PS3.15 Annex E; what cannot be made safe is held back, with its reason."""
    from lifechart.data.consent import holdings
    from lifechart.data.deidentify import structured
    from lifechart.data.deidentify.dicom import folder
    from lifechart.ledger.log import open_log

    settings = load_settings()
    with closing(open_log(settings)) as log:
        key = structured.load_key(settings)
        who = holdings.admission_now(settings, log, key)
        report = folder.deidentify(path, out, key=key, log=log, patients=patients, admission=who, workers=workers)
    totals = report["totals"]
    print_rows([("files", "number"), *((name, f"{count:,}") for name, count in totals["outcomes"].items())])
    if totals["reasons"]:
        print_rows([("left out because", "files"), *((why, f"{n:,}") for why, n in totals["reasons"].items())])
    print(f"{totals['series']:,} series of {totals['patients']:,} patients in {out}; {out / folder.REPORT}")
