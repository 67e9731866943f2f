"""Codes: what an institution loads of terminologies, and what is known of a code."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lifechart.cli.root import group, print_rows

codes = group("codes", "Terminologies: names of codes, and the wider codes that they belong to.")


@codes.command()
def load(
    path: Annotated[Path, typer.Argument(help="A folder of vocabulary tables from OHDSI Athena, or hp.json.")],
) -> None:
    """Load a vocabulary into the institution's own terminologies, under home."""
    from lifechart.codes import loading, terminology

    found = loading.load(path)
    print_rows([("system", "codes"), *((system, f"{number:,}") for system, number in found.codes.items())])
    print(f"{found.source}: {found.edges:,} steps to a wider code, {found.circular:,} left out as circular")
    print(
        f"Written to {terminology.file()}. Their licences are yours to keep: SNOMED CT and CPT need one of their own."
    )


@codes.command()
def show(code: Annotated[str, typer.Argument(help="SYSTEM//CODE, as ICD10CM//E11.65")]) -> None:
    """Print a code's name, its wider codes, which source says so, and what speaks against the code as written."""
    from lifechart.codes import forms, parents, systems
    from lifechart.core.errors import InputError

    system, local = systems.split(code)
    if not system or not local:
        raise InputError("CODE", code, "SYSTEM//CODE, as ICD10CM//E11.65")
    usual = f"{system}//{forms.normal(system, local)}"
    print(f"{usual}  {parents.name(usual) or '(no name known)'}")
    for problem in forms.problems(usual):
        print(f"not sound: {problem}")
    print(f"wider codes after: {parents.source(usual)}")
    way = parents.ancestors(usual)
    beside = [wider for wider in parents.parents(usual) if wider not in way]
    print_rows(
        [("wider code, in the order of back-off", "name"), *((wider, parents.name(wider) or "") for wider in way)]
    )
    if beside:
        print_rows([("other parent", "name"), *((wider, parents.name(wider) or "") for wider in beside)])
    print(f"{len(parents.all_ancestors(usual))} wider codes by whatever way")
