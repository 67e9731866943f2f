"""What is to become of each attribute: Table E.1-1 of PS3.15 and this project's keep-lists, from the files beside.

`sources.toml` says where each table comes from and when it is to be looked at again.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources

_FOLDER = "lifechart.data.deidentify.dicom"


@dataclass(frozen=True, slots=True)
class Listed:
    """A row of Table E.1-1: the action of the basic profile, and what the options taken here make of it."""

    name: str
    vr: str
    basic: str
    """X, Z, D, U or a choice of them, as the standard writes it."""
    shifts: bool
    """A date or time of the patient's own, kept modified (option 113107)."""
    cleans: bool
    """A description, kept cleaned (option 113105)."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An attribute that Table E.1-1 does not list and that may stay, if its value passes `rule`."""

    vrs: tuple[str, ...]
    rule: str
    """number, large (a number that may be long), term, text, kernel, counter, uid, table (of a look-up) or items."""


@dataclass(frozen=True, slots=True)
class SopClass:
    """A storage SOP class: `image` with the kind of image, or `hold` with the reason."""

    name: str
    treatment: str
    detail: str


def rows(name: str) -> list[dict[str, str]]:
    """Return the rows of a table of this folder, as written."""
    content = resources.files(_FOLDER).joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(content.splitlines()))


def _tag(written: str) -> int:
    return int(written.replace(",", ""), 16)


@cache
def annex_e() -> dict[int, Listed]:
    """Return {tag: its row of Table E.1-1}, without the repeating groups and private attributes, which never stay."""
    shared = {_tag(row["tag"]) for row in rows("shared_dates.csv")}
    found = {}
    for row in rows("annex_e.csv"):
        if "x" in row["tag"] or " " in row["tag"]:
            continue
        tag = _tag(row["tag"])
        shifts = row["modified_dates"] == "C" and tag not in shared
        found[tag] = Listed(row["name"], row["vr"], row["basic"], shifts, row["descriptors"] == "C")
    return found


@cache
def keep_list() -> dict[int, Kept]:
    """Return {tag: how its value must look} of the attributes outside Table E.1-1 that may stay."""
    return {_tag(row["tag"]): Kept(tuple(row["vr"].split(" or ")), row["rule"]) for row in rows("keep.csv")}


@cache
def safe_private() -> dict[tuple[str, int, int], Kept]:
    """Return {(creator, group, element without its block): how its value must look} of the safe private attributes."""
    return {
        (row["creator"], int(row["group"], 16), int(row["element"], 16)): Kept((row["vr"],), row["rule"])
        for row in rows("private.csv")
    }


@cache
def sop_classes() -> dict[str, SopClass]:
    """Return {SOP class UID: what is done with its instances}; a class that is not in it is held back."""
    return {row["uid"]: SopClass(row["name"], row["treatment"], row["detail"]) for row in rows("sop_classes.csv")}


@cache
def lexicon() -> frozenset[str]:
    """Return the words, in lower case, that may stand in descriptions and coded strings."""
    content = resources.files(_FOLDER).joinpath("lexicon.txt").read_text(encoding="ascii")
    lines = (line for line in content.splitlines() if not line.startswith("#"))
    return frozenset(word for line in lines for word in line.replace("_", " ").split())
