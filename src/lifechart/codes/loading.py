"""Reads a vocabulary that the institution brings into its own terminology file: OHDSI Athena, or the HPO's own release.

Athena (athena.ohdsi.org) packs many vocabularies, some under a licence of their own (SNOMED CT, CPT: the names of CPT
only come once its own tool has added them). Nothing of them is part of Lifechart; what is loaded stays in home.
"""

from __future__ import annotations

import gzip
import sqlite3
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import polars as pl
from numpy.typing import NDArray

from lifechart.codes import terminology
from lifechart.codes.forms import normal
from lifechart.codes.systems import OMOP_VOCABULARIES, join
from lifechart.core import durable
from lifechart.core.errors import InputError

_CONCEPT = ("concept_id", "concept_name", "vocabulary_id", "concept_code", "invalid_reason")
_ANCESTOR = ("ancestor_concept_id", "descendant_concept_id", "min_levels_of_separation")
_RELATIONSHIP = ("concept_id_1", "concept_id_2", "relationship_id", "invalid_reason")
_DEEPEST = 64
"""No vocabulary is this deep: what is still deeper goes in a circle."""


class Read(NamedTuple):
    """A vocabulary as read."""

    name: str
    codes: pl.DataFrame
    """Columns code, name, concept_id (null where the vocabulary has none)."""
    edges: pl.DataFrame
    """Columns code, parent."""


class Loaded(NamedTuple):
    """What was loaded, for a terminal."""

    source: str
    codes: dict[str, int]
    """System -> codes."""
    edges: int
    circular: int
    """Steps from a code to a parent that led in a circle, left out."""


def load(path: Path) -> Loaded:
    """Add what stands at `path` to the institution's terminologies; a source that is loaded again replaces itself.

    `path`: a folder of Athena's CSV files, or the HPO as OBO graph JSON (hp.json, also .gz). Raises InputError for
    anything else.
    """
    read = _athena(path) if path.is_dir() else _obo_graph(path)
    files = [path] if path.is_file() else sorted(path.glob("CONCEPT*.csv"))
    digest = durable.digest_of([durable.file_digest(file) for file in files])
    codes, kept, circular = _hierarchy(read)
    by_system = codes.group_by(pl.col("code").str.split("//").list.first().alias("system")).len().sort("system")
    systems = dict(by_system.iter_rows())
    target = terminology.file()
    with durable.replacing(target) as aside:
        database = sqlite3.connect(aside)
        database.executescript(terminology.SCHEMA)
        number = _copy_others(database, read.name)
        database.execute(
            "INSERT INTO source VALUES (?, ?, ?, ?)", (number, read.name, digest, datetime.now(UTC).date().isoformat())
        )
        rows = codes.select("code", "name", "parent", "parents", pl.lit(number).alias("source")).iter_rows()
        for system in systems:
            # A system is one source's, whole: two releases side by side could contradict each other in a circle.
            database.execute("DELETE FROM code WHERE code >= ? AND code < ?", (f"{system}//", f"{system}/0"))
        database.executemany("INSERT OR REPLACE INTO code VALUES (?, ?, ?, ?, ?)", rows)
        concepts = read.codes.filter(pl.col("concept_id").is_not_null()).select("concept_id", "code").iter_rows()
        database.executemany("INSERT OR REPLACE INTO concept VALUES (?, ?)", concepts)
        database.commit()
        database.close()
    return Loaded(read.name, systems, kept, circular)


def _copy_others(database: sqlite3.Connection, name: str) -> int:
    """Copy what other sources gave; return the number of the source that comes next."""
    before = terminology.installed()
    if before is None:
        return 0
    number = 0
    for source, digest, loaded in before.sources():
        if source != name:
            database.execute("INSERT INTO source VALUES (?, ?, ?, ?)", (number, source, digest, loaded))
            rows = ((*row, number) for row in before.rows(source))
            database.executemany("INSERT OR REPLACE INTO code VALUES (?, ?, ?, ?, ?)", rows)
            number += 1
    database.executemany("INSERT INTO concept VALUES (?, ?)", before.concepts())
    return number


def _athena(folder: Path) -> Read:
    concepts = _table(folder / "CONCEPT.csv", _CONCEPT).filter(
        pl.col("vocabulary_id").is_in(list(OMOP_VOCABULARIES)) | (pl.col("vocabulary_id") == "HPO")
    )
    systems = OMOP_VOCABULARIES | {"HPO": "HPO"}
    found = concepts.collect()
    if not found.height:
        raise InputError("CONCEPT.csv", "no vocabulary that is known", f"one of {sorted(systems)}")
    pairs = found.select("vocabulary_id", "concept_code").rows()
    codes = found.select(
        code=pl.Series([f"{systems[name]}//{normal(systems[name], local)}" for name, local in pairs], dtype=pl.String),
        name=pl.col("concept_name"),
        concept_id=pl.col("concept_id").cast(pl.Int64, strict=False),
        invalid=pl.col("invalid_reason").is_not_null() & (pl.col("invalid_reason") != ""),
    ).filter(pl.col("concept_id").is_not_null())
    edges = [_edges(folder, codes, *table) for table in _steps(folder)]
    stated = pl.concat([pl.DataFrame(schema={"code": pl.String, "parent": pl.String}), *edges]).unique().sort("code")
    return Read("OHDSI Athena", codes.sort("invalid", "concept_id").drop("invalid"), stated)


def _steps(folder: Path) -> Iterator[tuple[pl.LazyFrame, str, str]]:
    """Yield the tables that hold steps up: (frame, column of the lower concept, column of the upper)."""
    ancestors, relations = folder / "CONCEPT_ANCESTOR.csv", folder / "CONCEPT_RELATIONSHIP.csv"
    if ancestors.exists():
        next_ = _table(ancestors, _ANCESTOR).filter(pl.col("min_levels_of_separation") == "1")
        yield next_, "descendant_concept_id", "ancestor_concept_id"
    if relations.exists():
        # ICD and other source vocabularies are in no ancestor table; they have their own hierarchy here.
        valid = pl.col("invalid_reason").is_null() | (pl.col("invalid_reason") == "")
        is_a = _table(relations, _RELATIONSHIP).filter((pl.col("relationship_id") == "Is a") & valid)
        yield is_a, "concept_id_1", "concept_id_2"


def _edges(folder: Path, codes: pl.DataFrame, steps: pl.LazyFrame, lower: str, upper: str) -> pl.DataFrame:
    ids = codes.lazy().select("concept_id", "code")
    number = pl.col(lower, upper).cast(pl.Int64, strict=False)
    joined = (
        steps.with_columns(number)
        .join(ids, left_on=lower, right_on="concept_id")
        .join(ids.rename({"code": "parent"}), left_on=upper, right_on="concept_id")
    )
    return joined.select("code", "parent").filter(pl.col("code") != pl.col("parent")).collect(engine="streaming")


def _table(path: Path, columns: tuple[str, ...]) -> pl.LazyFrame:
    """Return a table of Athena's as strings: tab separated, nothing quoted."""
    if not path.exists():
        raise InputError("PATH", str(path), "a folder with CONCEPT.csv as Athena packs it, or hp.json")
    frame = pl.scan_csv(path, separator="\t", quote_char=None, infer_schema=False)
    missing = set(columns) - set(frame.collect_schema().names())
    if missing:
        raise InputError(path.name, sorted(missing), "the columns of an OMOP vocabulary table, tab separated")
    return frame.select(columns)


def _obo_graph(path: Path) -> Read:
    """Read the HPO's release as OBO graph JSON."""
    try:
        content = path.read_bytes()
        graph: dict[str, Any] = orjson.loads(gzip.decompress(content) if path.suffix == ".gz" else content)["graphs"][0]
        nodes, steps = graph["nodes"], graph["edges"]
    except (OSError, EOFError, zlib.error, orjson.JSONDecodeError, KeyError, IndexError, TypeError) as error:
        raise InputError("PATH", str(path), "a folder of Athena's tables, or an OBO graph such as hp.json") from error

    def term(iri: str) -> str | None:
        local = iri.rpartition("/")[2]
        return join("HPO", local) if local.startswith("HP_") else None

    names = {
        code: node.get("lbl")
        for node in nodes
        if (code := term(node["id"])) and not (node.get("meta") or {}).get("deprecated")
    }
    if not names:
        raise InputError("PATH", str(path), "an OBO graph with terms of the HPO")
    pairs = [(term(step["sub"]), term(step["obj"])) for step in steps if step.get("pred") == "is_a"]
    schema = {"code": pl.String, "parent": pl.String}
    edges = pl.DataFrame([pair for pair in pairs if set(pair) <= names.keys()], schema=schema, orient="row")
    codes = pl.DataFrame(
        {"code": list(names), "name": list(names.values()), "concept_id": None},
        schema={"code": pl.String, "name": pl.String, "concept_id": pl.Int64},
    )
    return Read("Human Phenotype Ontology", codes, edges)


def _hierarchy(read: Read) -> tuple[pl.DataFrame, int, int]:
    """Return codes (columns code, name, parent, parents, one row each), the steps kept, and those of circles.

    The one parent that back-off climbs to is of the code's own system if there is one, then the deepest (the most
    specific), then the first in the alphabet.
    """
    codes = read.codes.unique("code", keep="first", maintain_order=True).with_row_index("row")
    rows = codes.select("code", "row")
    steps = read.edges.join(rows, on="code").join(rows.rename({"code": "parent", "row": "upper"}), on="parent")
    lower, upper = steps["row"].to_numpy().astype(np.int64), steps["upper"].to_numpy().astype(np.int64)
    depth = _depths(codes.height, lower, upper)
    # Only steps to a lesser depth: no path of these can come back.
    kept = steps.with_columns(depth=pl.Series(depth[upper])).filter(
        pl.Series(depth[upper] < depth[lower], dtype=pl.Boolean)
    )

    def system(column: str) -> pl.Expr:
        return pl.col(column).str.split("//").list.first()

    ranked = kept.with_columns(foreign=system("code") != system("parent")).sort(
        "code", "foreign", "depth", "parent", descending=[False, False, True, False]
    )
    parents = ranked.group_by("code", maintain_order=True).agg(
        parents=pl.col("parent").str.join("\t"), parent=pl.col("parent").first()
    )
    return codes.join(parents, on="code", how="left", maintain_order="left"), kept.height, steps.height - kept.height


def _depths(number: int, lower: NDArray[np.int64], upper: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the longest way from a top to each code."""
    depth = np.zeros(number, np.int64)
    for _ in range(_DEEPEST):
        before = depth.copy()
        np.maximum.at(depth, lower, before[upper] + 1)
        if np.array_equal(before, depth):
            break
    return depth
