"""Out of the workshop: release, rollback, phase, switch."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from lifechart.cli.root import Reason, app, me, print_rows
from lifechart.core.capability import Phase
from lifechart.core.settings import load_settings

Name = Annotated[str, typer.Argument(help="The capability, as in `risk`.")]


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
            capability, model, report, actor=me(), reason=reason, criteria=criteria
        )
    print_rows(verdict.table())
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
        released = open_shelf(settings, log).rollback(capability, version, actor=me(), reason=reason)
    print(f"{capability}: version {released.version} is current")


@app.command("hand-over")
def hand_over(
    capability: Name,
    out: Annotated[Path, typer.Option(help="A folder to be made.")],
    to: Annotated[str, typer.Option(help="The institution that gets it; the ledger says so.")],
) -> None:
    """Write the current release for another institution, without what holds a row for each patient."""
    from lifechart.ledger.log import open_log
    from lifechart.release.handover import hand_over as write
    from lifechart.release.shelf import open_shelf

    settings = load_settings()
    with closing(open_log(settings)) as log:
        released = open_shelf(settings, log).current(capability)
        kept = write(released, out, to=to, actor=me(), log=log)
    stays = f"; {', '.join(kept)} stays here" if kept else ""
    print(f"{out}: {capability} {released.version} for {to}{stays}")


@app.command()
def phase(capability: Name, to: Annotated[Phase, typer.Argument(help="How far it is out.")], reason: Reason) -> None:
    """Let a capability's current release out to a phase, or take it back."""
    from lifechart.ledger.log import open_log
    from lifechart.release.shelf import open_shelf

    settings = load_settings()
    with closing(open_log(settings)) as log:
        state = open_shelf(settings, log).set_phase(capability, to, actor=me(), reason=reason)
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
        state = open_shelf(settings, log).switch(capability, to, actor=me(), reason=reason)
    print(f"{capability}: phase {state.phase}, switched {'on' if state.on else 'off'}")


def _on_off(text: str) -> bool:
    if text not in ("on", "off"):
        raise typer.BadParameter(f"got {text!r}, expected on or off")
    return text == "on"
