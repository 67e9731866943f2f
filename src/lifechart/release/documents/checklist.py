"""A standard's items, as data (lists/*.toml), filled with facts or marked open for whoever has to write them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lifechart.core.errors import InputError
from lifechart.release.documents.consort import Diagram
from lifechart.release.documents.evidence import Dossier, Open, Said, Source
from lifechart.release.documents.facts import FACTS

LISTS = Path(__file__).with_name("lists")
STATED, IN_PART, OPEN = "stated", "in part", "open"
_KEYS = {"section", "number", "topic", "facts", "who", "ask", "absent", "human"}


@dataclass(frozen=True, slots=True)
class Item:
    """One item: what it asks for, what evidence says, and what is left to a human."""

    section: str
    number: str
    topic: str
    said: tuple[Said, ...]
    open: Open | None

    @property
    def status(self) -> str:
        """`stated`, `in part` or `open`."""
        if self.open is None:
            return STATED
        return IN_PART if self.said else OPEN


@dataclass(frozen=True, slots=True)
class Document:
    """One document, ready to be shown or printed."""

    name: str
    title: str
    about: str
    standard: str
    """What it follows."""
    institution: str
    subject: str
    """Capability and version."""
    as_of: str
    items: tuple[Item, ...]
    diagram: Diagram | None = None
    plain: bool = False
    """For readers who want no numbers of items: the public page."""

    @property
    def sections(self) -> list[tuple[str, list[Item]]]:
        """Items by section, in the standard's order."""
        found: dict[str, list[Item]] = {}
        for item in self.items:
            found.setdefault(item.section, []).append(item)
        return list(found.items())

    @property
    def sources(self) -> list[Source]:
        """Everything that it rests on, each once."""
        return list(dict.fromkeys(source for item in self.items for said in item.said for source in said.sources))

    def count(self, status: str) -> int:
        """Return how many items have a status."""
        return sum(item.status == status for item in self.items)


def load(name: str, folder: Path = LISTS) -> dict[str, Any]:
    """Read a list of items; raises InputError that names the file, the item and what was expected."""
    path = folder / f"{name}.toml"
    try:
        table = tomllib.loads(path.read_text())
        rows: list[dict[str, Any]] = table["item"]
        for key in ("title", "about", "standard", "who", "review_by"):
            table[key]
    except (OSError, ValueError, KeyError) as error:
        expected = f"TOML with title, about, standard, who, review_by and [[item]] tables ({error})"
        raise InputError("list of items", str(path), expected) from error
    for row in rows:
        if unknown := sorted(set(row) - _KEYS):
            raise InputError(f"{name}: item {row.get('number')!r}", unknown, f"only the keys {sorted(_KEYS)}")
        if missing := {"section", "number", "topic"} - set(row):
            raise InputError(f"{name}: item {row.get('number')!r}", sorted(row), f"also {sorted(missing)}")
        if strange := sorted(set(row.get("facts", ())) - set(FACTS)):
            raise InputError(f"{name}: facts of {row['number']}", strange, f"only {sorted(FACTS)}")
    return table


def fill(name: str, dossier: Dossier, *, diagram: Diagram | None = None, plain: bool = False) -> Document:
    """Fill a list's items; every source is looked up in the evidence again before a document exists."""
    table = load(name)
    items = tuple(_item(row, table, dossier) for row in table["item"])
    dossier.require(source for item in items for said in item.said for source in said.sources)
    newest = dossier.log.read([dossier.log.size - 1])[0].statement.created
    return Document(
        name,
        table["title"],
        table["about"],
        table["standard"],
        dossier.institution,
        f"{dossier.declaration.title}, version {dossier.manifest.version}",
        f"{newest[:10]}, ledger entry {dossier.log.size - 1}",
        items,
        diagram,
        plain,
    )


def _item(row: Mapping[str, Any], table: Mapping[str, Any], dossier: Dossier) -> Item:
    said = tuple(each for fact in row.get("facts", ()) for each in FACTS[fact](dossier))
    left = None
    if not said or row.get("human"):
        ask = row.get("ask", "Write this item; nothing in evidence says it.")
        left = Open(row.get("who", table["who"]), ask, row.get("absent", "Not written yet."))
    return Item(row["section"], row["number"], row["topic"], said, left)
