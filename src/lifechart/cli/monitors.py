"""After the release: does the hospital still look as it did when the model was validated?"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from lifechart.cli.root import app, print_rows
from lifechart.core.settings import load_settings


@app.command()
def monitor(
    capability: Annotated[str, typer.Argument(help="The capability, as in `risk`.")],
    weeks: Annotated[Path, typer.Argument(help="Folder of weekly data sets; the first ones are the reference.")],
    run: Annotated[bool, typer.Option("--run", help="Run the released model on weeks that have no forecasts.")] = False,
    policy: Annotated[Path | None, typer.Option(help="TOML; by default what comes with Lifechart.")] = None,
) -> None:
    """Look for shift week by week; alarms are stated, and lower the phase as the policy says. Exit 1 on any."""
    from lifechart.evaluate.follow_up import follow_up
    from lifechart.evaluate.watch import watch
    from lifechart.ledger.log import open_log
    from lifechart.release.shelf import open_shelf

    settings = load_settings()
    with closing(open_log(settings)) as log:
        shelf = open_shelf(settings, log)
        if run:
            from lifechart.model.forecaster import load_forecaster

            release = shelf.current(capability)
            follow_up(weeks, load_forecaster(release.model), release.released)
        found = watch(log, shelf, capability, weeks, policy=policy)
    if found.alarms:
        print_rows(found.table())
        print(f"most likely: {found.cause}")
    print(
        f"{len(found.alarms)} alarms in {found.weeks} weeks on {found.streams} streams; "
        f"{capability} {found.state.version}: phase {found.state.phase}"
    )
    if found.alarms:
        raise typer.Exit(1)
