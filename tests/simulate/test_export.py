"""The export: every event of the truth once, valid FHIR, references that hold, the same bytes for the same truth."""

import importlib
import json
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

import orjson
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifechart.core.durable import tree_digests
from lifechart.core.errors import InputError
from lifechart.simulate import export as export_module
from lifechart.simulate.export import export
from lifechart.simulate.fragments import decimal
from lifechart.simulate.tables import rows
from tests.simulate import small_truth

TYPES = (
    *("Patient", "Encounter", "Condition", "Observation", "DiagnosticReport", "MedicationRequest", "Procedure"),
    *("Immunization", "AllergyIntolerance", "DocumentReference", "Practitioner", "Organization", "Location"),
)
CODES = {
    "condition": ("conditions", "snomed"),
    "symptom": ("symptoms", "snomed"),
    "observation": ("observations", "loinc"),
    "medication": ("medications", "rxnorm"),
    "medication_stop": ("medications", "rxnorm"),
    "procedure": ("procedures", "snomed"),
    "immunization": ("immunizations", "cvx"),
    "allergy": ("allergies", "snomed"),
}
Event = tuple[str, str, str, str, float | None]
"""Resource or part, patient, time, code, value."""


def lines(hospital: Path, resource: str) -> list[dict]:
    return [orjson.loads(line) for line in (hospital / f"fhir/{resource}.ndjson").read_bytes().splitlines()]


def stamp(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S}-07:00"


def code_of(concept: dict) -> str:
    return concept["coding"][0]["code"]


def of(row: dict, element: str = "subject") -> str:
    return row[element]["reference"].removeprefix("Patient/")


def expected(truth: Path) -> Counter[Event]:
    events = pl.read_parquet(truth / "events.parquet")
    people = pl.read_parquet(truth / "people.parquet").select("life", "patient_id")
    codes = {kind: {row["key"]: row[column] for row in rows(name)} for kind, (name, column) in CODES.items()}
    found: Counter[Event] = Counter()
    for row in events.join(people, on="life").iter_rows(named=True):
        kind, key = row["kind"], row["key"]
        value = row["value"] if kind == "observation" else None
        kind = "condition" if kind == "symptom" else kind
        code = codes[row["kind"]][key] if row["kind"] in codes else key
        found[kind, row["patient_id"], stamp(row["time"]), code, value] += 1
    return found


def exported(hospital: Path) -> Counter[Event]:
    found: Counter[Event] = Counter()
    classes = {"AMB": "ambulatory", "EMER": "emergency", "IMP": "inpatient"}
    for row in lines(hospital, "Patient"):
        if "deceasedDateTime" in row:
            found["death", row["id"], row["deceasedDateTime"], "death", None] += 1
    for row in lines(hospital, "Encounter"):
        found["encounter", of(row), row["period"]["start"], classes[row["class"]["code"]], None] += 1
    for row in lines(hospital, "Condition"):
        assert row["recordedDate"] == row["onsetDateTime"]
        found["condition", of(row), row["recordedDate"], code_of(row["code"]), None] += 1
    for row in lines(hospital, "Observation"):
        for part in row.get("component", [row]):
            found["observation", of(row), row["effectiveDateTime"], code_of(part["code"]), number(part)] += 1
    for row in lines(hospital, "MedicationRequest"):
        code = code_of(row["medicationCodeableConcept"])
        found["medication", of(row), row["authoredOn"], code, None] += 1
        bounds = row["dosageInstruction"][0]["timing"]["repeat"]["boundsPeriod"]
        assert (row["status"] == "stopped") == ("end" in bounds)
        if "end" in bounds:
            found["medication_stop", of(row), bounds["end"], code, None] += 1
    for row in lines(hospital, "Procedure"):
        found["procedure", of(row), row["performedDateTime"], code_of(row["code"]), None] += 1
    for row in lines(hospital, "Immunization"):
        found["immunization", of(row, "patient"), row["occurrenceDateTime"], code_of(row["vaccineCode"]), None] += 1
    for row in lines(hospital, "AllergyIntolerance"):
        found["allergy", of(row, "patient"), row["recordedDate"], code_of(row["code"]), None] += 1
    return found


def number(part: dict) -> float:
    if "valueQuantity" in part:
        return float(pl.Series([part["valueQuantity"]["value"]], dtype=pl.Float32)[0])
    answers = next(row["values"] for row in rows("observations") if row["loinc"] == code_of(part["code"])).split(";")
    return float([answer.split("=")[1] for answer in answers].index(code_of(part["valueCodeableConcept"])))


def test_every_event_is_exported_exactly_once(hospital: Path) -> None:
    truth, record = expected(hospital / "truth"), exported(hospital)
    assert truth - record == Counter()
    assert record - truth == Counter()
    assert {event[0] for event in truth} == {"condition", "encounter", "death", *CODES} - {"symptom"}


@pytest.mark.parametrize("resource", TYPES)
def test_resources_are_valid_fhir(hospital: Path, resource: str) -> None:
    model = getattr(importlib.import_module(f"fhir.resources.R4B.{resource.lower()}"), resource)
    content = (hospital / f"fhir/{resource}.ndjson").read_bytes().splitlines()
    assert content
    for line in content[:120] + content[-30:]:
        model.model_validate_json(line)


@pytest.mark.parametrize("resource", TYPES)
def test_no_member_is_written_twice(hospital: Path, resource: str) -> None:
    def once(pairs: list[tuple[str, object]]) -> dict:
        assert len(dict(pairs)) == len(pairs), [name for name, _ in pairs]
        return dict(pairs)

    for line in (hospital / f"fhir/{resource}.ndjson").read_bytes().splitlines()[:200]:
        assert json.loads(line, object_pairs_hook=once)["resourceType"] == resource
        assert b'""' not in line
        assert b"null" not in line


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_a_decimal_reads_back_as_the_same_number(values: list[float]) -> None:
    frame = pl.DataFrame({"value": pl.Series(values, dtype=pl.Float32)})
    texts = frame.select(decimal())["value"].to_list()
    assert pl.Series([orjson.loads(text) for text in texts], dtype=pl.Float32).to_list() == frame["value"].to_list()


def test_a_decimal_is_as_short_as_it_was_measured() -> None:
    frame = pl.DataFrame({"value": pl.Series([7.1, 140, 0.05, 1_250_000, 0.3], dtype=pl.Float32)})
    assert frame.select(decimal())["value"].to_list() == ["7.1", "140", "0.05", "1250000", "0.3"]


def test_a_planted_fault_is_found_by_the_validator(hospital: Path) -> None:
    model = importlib.import_module("fhir.resources.R4B.condition").Condition
    row = lines(hospital, "Condition")[0] | {"onsetDateTime": "2020-13-01"}
    with pytest.raises(ValueError, match="onset"):
        model.model_validate(row)


def test_ids_are_distinct_and_references_hold(hospital: Path) -> None:
    ids, references = set(), set()
    for resource in TYPES:
        for row in lines(hospital, resource):
            name = f"{resource}/{row['id']}"
            assert name not in ids
            ids.add(name)
            references |= set(found_references(row))
    assert references <= ids
    assert {reference.split("/")[0] for reference in references} >= {
        "Patient",
        "Encounter",
        "Observation",
        "Practitioner",
    }


def found_references(value: object) -> list[str]:
    if isinstance(value, dict):
        inside = [found for part in value.values() for found in found_references(part)]
        return [*inside, value["reference"]] if isinstance(value.get("reference"), str) else inside
    return [found for part in value for found in found_references(part)] if isinstance(value, list) else []


def test_an_encounter_refers_to_the_patient_whose_it_is(hospital: Path) -> None:
    owner = {row["id"]: of(row) for row in lines(hospital, "Encounter")}
    for resource in ("Condition", "Observation", "MedicationRequest", "Procedure", "DiagnosticReport"):
        for row in lines(hospital, resource):
            assert owner[row["encounter"]["reference"].removeprefix("Encounter/")] == of(row)


def test_pressures_of_one_moment_share_a_resource(hospital: Path) -> None:
    panels = [row for row in lines(hospital, "Observation") if "component" in row]
    assert {code_of(row["code"]) for row in panels} == {"85354-9"}
    pairs = [[code_of(part["code"]) for part in row["component"]] for row in panels]
    assert ["8480-6", "8462-4"] in pairs
    assert all(pair in (["8480-6", "8462-4"], ["8480-6"], ["8462-4"]) for pair in pairs)


def test_interpretation_follows_the_reference_range(hospital: Path) -> None:
    seen = set()
    for row in lines(hospital, "Observation"):
        if "interpretation" in row:
            bounds, value = row["referenceRange"][0], row["valueQuantity"]["value"]
            low, high = bounds.get("low", {}).get("value", -1e9), bounds.get("high", {}).get("value", 1e9)
            flag = "L" if value < low else "H" if value > high else "N"
            assert code_of(row["interpretation"][0]) == flag
            seen.add(flag)
    assert seen == {"L", "H", "N"}


def test_nobody_leaves_after_death_or_after_the_export(hospital: Path) -> None:
    died = {row["id"]: row.get("deceasedDateTime", "9") for row in lines(hospital, "Patient")}
    for row in lines(hospital, "Encounter"):
        end = row["period"].get("end")
        assert (end is None) == (row["status"] == "in-progress")
        if end is None:
            continue
        assert end <= died[of(row)]
        assert end <= "2026-01-01T00:00:00-07:00"
        if row["class"]["code"] == "IMP":
            code = code_of(row["hospitalization"]["dischargeDisposition"])
            assert (code == "exp") == (end == died[of(row)])


def test_the_manifest_counts_what_is_there(hospital: Path) -> None:
    manifest = orjson.loads((hospital / "fhir/export.json").read_bytes())
    assert manifest["transactionTime"] == "2026-01-01T00:00:00-07:00"
    listed = {row["type"]: row["count"] for row in manifest["output"]}
    assert listed == {resource: len(lines(hospital, resource)) for resource in TYPES}
    assert all(row["url"].endswith(f"/{row['type']}.ndjson") for row in manifest["output"])


def test_the_same_truth_gives_the_same_bytes(hospital: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_module, "_LIVES", 7)
    export(hospital / "truth", tmp_path)
    assert tree_digests(tmp_path / "fhir") == tree_digests(hospital / "fhir")
    assert tree_digests(tmp_path / "gold") == tree_digests(hospital / "gold")


def test_another_seed_gives_other_names(hospital: Path, tmp_path: Path) -> None:
    truth = small_truth.write(tmp_path / "truth", lives=60, seed=8)
    export(truth, tmp_path)
    names = [
        {row["name"][0]["family"] + row["name"][0]["given"][0] for row in lines(out, "Patient")}
        for out in (hospital, tmp_path)
    ]
    assert len(names[0] & names[1]) < 10


def test_a_visit_that_is_not_over_has_no_end(tmp_path: Path) -> None:
    truth = small_truth.write(tmp_path / "truth", lives=2)
    events = pl.read_parquet(truth / "events.parquet")
    late = datetime(2026, 1, 1) - timedelta(hours=2)
    people = pl.read_parquet(truth / "people.parquet").with_columns(death=pl.lit(None, pl.Datetime("us")))
    people.write_parquet(truth / "people.parquet")
    visit = events.filter(pl.col("kind") == "encounter").head(1)
    visit.with_columns(time=pl.lit(late), value=pl.lit(72.0, pl.Float32)).write_parquet(truth / "events.parquet")
    export(truth, tmp_path)
    row = lines(tmp_path, "Encounter")[0]
    assert row["status"] == "in-progress"
    assert "end" not in row["period"]
    assert lines(tmp_path, "DocumentReference")[0]["date"] == row["period"]["start"]


def test_what_happened_outside_an_encounter_is_kept(tmp_path: Path) -> None:
    truth = small_truth.write(tmp_path / "truth", lives=5)
    events = pl.read_parquet(truth / "events.parquet").with_columns(encounter=pl.lit(-1, pl.Int32))
    events.filter(pl.col("kind") != "encounter").write_parquet(truth / "events.parquet")
    export(truth, tmp_path)
    assert exported(tmp_path) == expected(truth)
    assert all("encounter" not in row and "requester" not in row for row in lines(tmp_path, "MedicationRequest"))
    assert not lines(tmp_path, "DocumentReference")


def test_a_folder_without_truth_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"truth.*readable truth\.json"):
        export(tmp_path, tmp_path)
