"""A policy under which every phase may be entered from any, unsigned: for tests that are about something else."""

from pathlib import Path

from lifechart.core.capability import Phase


def undemanding(path: Path) -> Path:
    """Write the policy to `path` and return it."""
    phases = [phase.value for phase in Phase]
    demands = [f'[[phase]]\nname = "{phase}"\nafter = {phases}\nwhy = "tests"\n' for phase in phases]
    path.write_text("review_by = 2030-01-01\n" + "".join(demands))
    return path
