"""The institution's own terminologies: names, parents and concept ids of what `lifechart codes load` has loaded.

One SQLite file under home, so that a code is looked up in microseconds without any of it in memory, by as many
processes as there are. `loading` writes it; `parents` asks it before what is embedded.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from lifechart.core import durable
from lifechart.core.settings import load_settings

SCHEMA = """
CREATE TABLE code (code TEXT PRIMARY KEY, name TEXT, parent TEXT, parents TEXT, source INTEGER) WITHOUT ROWID;
CREATE TABLE concept (concept_id INTEGER PRIMARY KEY, code TEXT);
CREATE TABLE source (number INTEGER PRIMARY KEY, name TEXT, digest TEXT, loaded TEXT);
"""


class Known(NamedTuple):
    """What a terminology says of a code."""

    name: str | None
    parent: str | None
    """The one of `parents` that back-off climbs to."""
    parents: tuple[str, ...]
    source: str


class Terminology:
    """A file that `loading` wrote, open for reading."""

    def __init__(self, path: Path) -> None:
        uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
        self._database = sqlite3.connect(uri, uri=True, check_same_thread=False)
        self._sources = dict(self._database.execute("SELECT number, name FROM source"))

    def known(self, code: str) -> Known | None:
        """Return what is known of `SYSTEM//CODE`, or None."""
        row = self._database.execute(
            "SELECT name, parent, parents, source FROM code WHERE code = ?", (code,)
        ).fetchone()
        if row is None:
            return None
        name, parent, parents, source = row
        return Known(name, parent, tuple(parents.split("\t")) if parents else (), self._sources[source])

    def of_concept(self, concept_id: int) -> str | None:
        """Return the `SYSTEM//CODE` of an OMOP concept id, or None."""
        row = self._database.execute("SELECT code FROM concept WHERE concept_id = ?", (concept_id,)).fetchone()
        return str(row[0]) if row else None

    def sources(self) -> list[tuple[str, str, str]]:
        """Return (name, digest, when it was loaded) of each source, in the order of loading."""
        return list(self._database.execute("SELECT name, digest, loaded FROM source ORDER BY number"))

    def concepts(self) -> Iterable[tuple[int, str]]:
        """Yield (OMOP concept id, code)."""
        return self._database.execute("SELECT concept_id, code FROM concept")

    def rows(self, source: str) -> Iterable[tuple[str, str | None, str | None, str]]:
        """Yield (code, name, parent, parents) of what came from a source."""
        query = "SELECT code, c.name, parent, parents FROM code c JOIN source s ON number = source WHERE s.name = ?"
        return self._database.execute(query, (source,))


def file() -> Path:
    """Return where the institution's terminologies lie."""
    return _file(os.environ.get("LIFECHART_HOME"), Path.cwd())


@lru_cache(maxsize=4)
def _file(home: str | None, folder: Path) -> Path:
    # Asked for every code, so settings are not read anew each time; these two are what the path depends on.
    return load_settings().home.absolute() / "codes" / "terminology.db"


def installed() -> Terminology | None:
    """Return the institution's terminologies, or None if nothing was loaded."""
    path = file()
    try:
        stamp = path.stat()
    except OSError:
        return None
    return _opened(path, stamp.st_mtime_ns, stamp.st_size)


@lru_cache(maxsize=4)
def _opened(path: Path, changed: int, size: int) -> Terminology:
    return Terminology(path)


def digest() -> str:
    """Return what names the loaded terminologies: what an ingest's result depends on. Empty if nothing is loaded."""
    found = installed()
    return durable.digest_of([[name, digest] for name, digest, _ in found.sources()]) if found else ""
