"""Demonstrations on a simulated hospital, told by the product itself."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from lifechart.cli.root import Seed, group

demo = group("demo", "Demonstrations on a simulated hospital.")


@demo.command("stages")
def demo_stages(
    out: Annotated[Path, typer.Option("--out", help="Folder to make; it has a home of its own.")] = Path("demo-stages"),
    lives: Annotated[int, typer.Option(help="How many lives.")] = 4600,
    seed: Seed = 7,
    end: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The day the story's record ends.")] = None,
) -> None:
    """Tell the whole life of a capability, off to public and back, with every refusal on the way."""
    from dataclasses import replace

    from lifechart.demo.stages import Scale, tell

    tell(out, scale=replace(Scale(), lives=lives), seed=seed, end=end.date() if end else None)
