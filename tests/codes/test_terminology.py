"""What an institution loads: names, parents, concept ids; what replaces what; circles; and who says so."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import orjson
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from lifechart.cli import app
from lifechart.codes import loading, parents, terminology
from lifechart.core.errors import InputError
from lifechart.data.deidentify import structured
from tests.shared_data import shared

CONCEPTS = [
    (1, "Diabetes mellitus", "SNOMED", "73211009", ""),
    (2, "Type 2 diabetes mellitus", "SNOMED", "44054006", ""),
    (3, 'Disorder of "glucose" metabolism', "SNOMED", "126877002", ""),
    (4, "Clinical finding", "SNOMED", "404684003", ""),
    (5, "metformin", "RxNorm", "6809", ""),
    (6, "metformin", "ATC", "A10BA02", ""),
    (7, "Biguanides", "ATC", "A10BA", ""),
    (8, "metformin 500 MG Oral Tablet", "RxNorm", "861007", ""),
    (9, "Type 2 diabetes mellitus", "ICD10CM", "E11", ""),
    (10, "Endocrine disorders", "ICD10CM", "E00-E89", ""),
    (11, "Local thing", "St Mary's", "x", ""),
]
ANCESTORS = [(1, 2, 1), (3, 2, 1), (3, 1, 1), (4, 3, 1), (4, 2, 3), (6, 5, 1), (7, 6, 1), (5, 8, 1), (11, 2, 1)]
RELATIONSHIPS = [(9, 10, "Is a", ""), (2, 4, "Is a", "D"), (9, 2, "Maps to", "")]


def athena(
    folder: Path,
    concepts: Iterable[tuple[object, ...]] = CONCEPTS,
    ancestors: Iterable[tuple[object, ...]] = ANCESTORS,
    relationships: Iterable[tuple[object, ...]] = RELATIONSHIPS,
) -> Path:
    def table(name: str, header: str, rows: Iterable[tuple[object, ...]]) -> None:
        lines = [header.split(), *rows]
        (folder / name).write_text("".join("\t".join(map(str, line)) + "\n" for line in lines))

    folder.mkdir(exist_ok=True)
    table("CONCEPT.csv", "concept_id concept_name vocabulary_id concept_code invalid_reason", concepts)
    table("CONCEPT_ANCESTOR.csv", "ancestor_concept_id descendant_concept_id min_levels_of_separation", ancestors)
    table("CONCEPT_RELATIONSHIP.csv", "concept_id_1 concept_id_2 relationship_id invalid_reason", relationships)
    return folder


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIFECHART_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_nothing_loaded_knows_nothing() -> None:
    assert terminology.installed() is None
    assert terminology.digest() == ""
    assert parents.parents("SNOMED//44054006") == ("SNOMED//*",)


def test_names_parents_and_concept_ids(tmp_path: Path) -> None:
    found = loading.load(athena(tmp_path / "athena"))
    assert found.codes == {"ATC": 2, "ICD10CM": 2, "RxNorm": 2, "SNOMED": 4}
    assert (found.edges, found.circular) == (8, 0)
    assert parents.name("SNOMED//126877002") == 'Disorder of "glucose" metabolism'
    # The deepest parent first: back-off climbs to the most specific.
    assert parents.parents("SNOMED//44054006") == ("SNOMED//73211009", "SNOMED//126877002")
    assert parents.ancestors("SNOMED//44054006") == [
        "SNOMED//73211009",
        "SNOMED//126877002",
        "SNOMED//404684003",
        "SNOMED//*",
    ]
    assert parents.ancestors("RxNorm//861007") == [
        "RxNorm//6809", "ATC//A10BA02", "ATC//A10BA", "ATC//A10B", "ATC//A10", "ATC//A", "ATC//*",
    ]  # fmt: skip
    assert parents.source("SNOMED//44054006") == "OHDSI Athena"
    assert parents.parent("ICD10CM//E11") == "ICD10CM//E00-E89"
    assert parents.parent("ICD10CM//E10") == "ICD10CM//E08-E13"
    own = terminology.installed()
    assert own is not None
    assert own.of_concept(9) == "ICD10CM//E11"
    assert own.of_concept(11) is None


def test_rare_codes_back_off_along_it(tmp_path: Path) -> None:
    holders = pl.DataFrame({"code": ["SNOMED//44054006"] * 3 + ["SNOMED//126877002"] * 3, "subject_id": [*range(6)]})
    counts = {"SNOMED//44054006": 3, "SNOMED//126877002": 3}
    assert set(structured.back_off(holders, counts, 5).values()) == {"SNOMED//*"}
    loading.load(athena(tmp_path / "athena"))
    assert set(structured.back_off(holders, counts, 5).values()) == {"SNOMED//126877002"}


def test_loading_again_replaces_and_another_source_adds(tmp_path: Path) -> None:
    loading.load(athena(tmp_path / "athena"))
    before = terminology.digest()
    graph = {
        "graphs": [
            {
                "nodes": [
                    {"id": "http://purl.obolibrary.org/obo/HP_0000001", "lbl": "All"},
                    {"id": "http://purl.obolibrary.org/obo/HP_0001250", "lbl": "Fits"},
                    {"id": "http://purl.obolibrary.org/obo/HP_0000002", "lbl": "Old", "meta": {"deprecated": True}},
                    {"id": "http://purl.obolibrary.org/obo/UBERON_1", "lbl": "Brain"},
                ],
                "edges": [
                    {
                        "sub": "http://purl.obolibrary.org/obo/HP_0001250",
                        "pred": "is_a",
                        "obj": "http://purl.obolibrary.org/obo/HP_0000001",
                    }
                ],
            }
        ]
    }
    (tmp_path / "hp.json").write_bytes(orjson.dumps(graph))
    assert loading.load(tmp_path / "hp.json").codes == {"HPO": 2}
    assert parents.name("HPO//HP:0001250") == "Fits"
    assert parents.ancestors("HPO//HP:0001250") == ["HPO//HP:0000001", "HPO//*"]
    assert parents.name("SNOMED//44054006") == "Type 2 diabetes mellitus"
    own = terminology.installed()
    assert own is not None
    assert own.of_concept(2) == "SNOMED//44054006"
    assert terminology.digest() != before
    loading.load(athena(tmp_path / "athena", concepts=CONCEPTS[:3]))
    assert parents.name("SNOMED//404684003") is None
    assert parents.name("HPO//HP:0001250") == "Fits"


@given(steps=st.lists(st.tuples(st.integers(1, 8), st.integers(1, 8)), max_size=30))
def test_climbing_ends_whatever_was_loaded(
    steps: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("circle")
    concepts = [(number, f"n{number}", "SNOMED", f"10000{number}", "") for number in range(1, 9)]
    loading.load(athena(folder / "athena", concepts, [(*step, 1) for step in steps], []))
    for number in range(1, 9):
        chain = parents.ancestors(f"SNOMED//10000{number}")
        assert chain[-1] == "SNOMED//*"
        assert len(set(chain)) == len(chain)
        assert set(chain) <= set(parents.all_ancestors(f"SNOMED//10000{number}"))


@pytest.mark.parametrize("broken", ["nothing", "no table", "another table", "not json", "no terms"])
def test_what_is_no_vocabulary_is_refused(broken: str, tmp_path: Path) -> None:
    path = tmp_path / "in"
    if broken in ("no table", "another table"):
        path.mkdir()
    if broken == "another table":
        (path / "CONCEPT.csv").write_text("a,b\n1,2\n")
    if broken == "not json":
        path.write_text("{")
    if broken == "no terms":
        path.write_text('{"graphs": [{"nodes": [], "edges": []}]}')
    with pytest.raises(InputError):
        loading.load(path)
    assert terminology.installed() is None


def test_the_hpo_of_the_release(home: Path) -> None:
    found = loading.load(shared("data/hpo/hp.v2024-08-13.json.gz"))
    assert found.codes["HPO"] > 15_000
    assert found.circular == 0
    assert parents.parents("HPO//HP:0001250") == ("HPO//HP:0012638",)


def test_the_commands(tmp_path: Path) -> None:
    run = CliRunner()
    loaded = run.invoke(app, ["codes", "load", str(athena(tmp_path / "athena"))])
    assert loaded.exit_code == 0, loaded.output
    assert "OHDSI Athena: 8 steps" in loaded.output
    shown = run.invoke(app, ["codes", "show", "SNOMED//44054006"])
    assert "Type 2 diabetes mellitus" in shown.output
    assert "wider codes after: OHDSI Athena" in shown.output
    assert "SNOMED//126877002" in shown.output
    assert "not sound: check digit" in run.invoke(app, ["codes", "show", "LOINC//4548-3"]).output
