"""Ingestion end to end: stated outcomes for what is wrong with records, and promises about files and repeats."""

from __future__ import annotations

import gzip
import hashlib
import os
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest

from lifechart.core.errors import AuditError, InputError
from lifechart.core.timeline import RECORD_END
from lifechart.data import ingest as module
from lifechart.data import shards
from lifechart.data.ingest import ingest
from lifechart.data.sources import documents
from tests.data.samples import KEY, RXNORM, Log, concept, patient, resource, take, write


def quarantine(dataset: Path) -> list[tuple[int, int, str, str]]:
    lines = (dataset / "quarantine.ndjson").read_bytes().splitlines()
    return [(row["file"], row["line"], row["type"], row["reason"]) for row in map(orjson.loads, lines)]


def codes(frame: pl.DataFrame) -> list[str]:
    return [code for code in frame["code"] if not code.startswith(("GENDER", "MEDS_BIRTH", RECORD_END))]


OUTCOMES: list[tuple[str, tuple[Any, ...], dict[str, int], list[tuple[int, int, str, str]], list[str]]] = [
    (
        "all is well",
        (patient(), resource("Observation", "o")),
        {"kept": 2},
        [],
        ["LOINC//4548-4"],
    ),
    (
        "a reference to a patient who is not there",
        (patient(), resource("Observation", "o", of="p2")),
        {"kept": 1, "quarantined": 1},
        [(1, 2, "Observation", "patient absent")],
        [],
    ),
    (
        "a truncated line",
        (patient(), b'{"resourceType":"Observation","id":"o","stat', resource("Observation", "o2")),
        {"kept": 2, "quarantined": 1},
        [(1, 2, "(unknown)", "not JSON")],
        ["LOINC//4548-4"],
    ),
    (
        "bytes that are not UTF-8",
        (patient(), b'{"resourceType":"Observation","id":"\xff"}'),
        {"kept": 1, "quarantined": 1},
        [(1, 2, "(unknown)", "not UTF-8")],
        [],
    ),
    (
        "a date of month 13",
        (patient(), resource("Condition", "c", recordedDate="2015-13-01T10:00:00Z")),
        {"kept": 1, "quarantined": 1},
        [(1, 2, "Condition", "date not valid")],
        [],
    ),
    (
        "no date anywhere",
        (patient(), resource("Condition", "c", recordedDate=None), resource("Observation", "o")),
        {"kept": 2, "quarantined": 1},
        [(1, 2, "Condition", "no date")],
        ["LOINC//4548-4"],
    ),
    (
        "no date, but an encounter that has one",
        (
            resource("Condition", "c", recordedDate=None, encounter={"reference": "Encounter/e"}),
            resource("Encounter", "e"),
            patient(),
        ),
        {"kept": 3},
        [],
        ["ENCOUNTER//ambulatory", "SNOMED//44054006"],
    ),
    (
        "a missing unit",
        (patient(), resource("Observation", "o", valueQuantity={"value": 6.5})),
        {"kept": 2},
        [],
        ["LOINC//4548-4"],
    ),
    (
        "a duplicate resource",
        (patient(), resource("Observation", "o"), resource("Observation", "o")),
        {"kept": 2, "duplicate": 1},
        [],
        ["LOINC//4548-4"],
    ),
    (
        "an updated version, newest first in the file",
        (
            patient(),
            resource(
                "Condition", "c", code=concept("2"), meta={"versionId": "10", "lastUpdated": "2016-01-02T00:00:00Z"}
            ),
            resource(
                "Condition", "c", code=concept("1"), meta={"versionId": "9", "lastUpdated": "2016-01-01T00:00:00Z"}
            ),
        ),
        {"kept": 2, "older version": 1},
        [],
        ["SNOMED//2"],
    ),
    (
        "an updated version, told by number alone",
        (
            patient(),
            resource("Condition", "c", code=concept("1"), meta={"versionId": "9"}),
            resource("Condition", "c", code=concept("2"), meta={"versionId": "10"}),
        ),
        {"kept": 2, "older version": 1},
        [],
        ["SNOMED//2"],
    ),
    (
        "two resources that say the same",
        (patient(), resource("Condition", "c1"), resource("Condition", "c2")),
        {"kept": 3},
        [],
        ["SNOMED//44054006"],
    ),
    (
        "a type that is not mapped",
        (patient(), {"resourceType": "Claim", "id": "x"}, {"resourceType": "Claim", "id": "y"}, b"  "),
        {"kept": 1, "not mapped": 2},
        [],
        [],
    ),
    (
        "an unmapped line that breaks off",
        (patient(), {"resourceType": "Claim", "id": "x"}, b'{"resourceType":"Claim","id":"y'),
        {"kept": 1, "not mapped": 1, "quarantined": 1},
        [(1, 3, "(unknown)", "not JSON")],
        [],
    ),
    (
        "a medication in a resource of its own",
        (
            patient(),
            resource("MedicationRequest", "m", medicationReference={"reference": "Medication/d"})
            | {"medicationCodeableConcept": None},
            {"resourceType": "Medication", "id": "d", "code": concept("860975", RXNORM)},
        ),
        {"kept": 3},
        [],
        ["RxNorm//860975"],
    ),
    (
        "a medication that is not there",
        (
            patient(),
            resource("MedicationRequest", "m", medicationReference={"reference": "Medication/d"})
            | {"medicationCodeableConcept": None},
        ),
        {"kept": 1, "quarantined": 1},
        [(1, 2, "MedicationRequest", "medication or device absent")],
        [],
    ),
    (
        "a note",
        (patient(), resource("DocumentReference", "d", type=concept("11506-3"), date="2015-06-01")),
        {"kept": 1, "held back": 1},
        [],
        [],
    ),
    (
        "before the patient was born",
        (patient(), resource("Condition", "c", recordedDate="1950-01-01")),
        {"kept": 1, "quarantined": 1},
        [(1, 2, "Condition", "before birth")],
        [],
    ),
    (
        "after the observation's end",
        (patient(), resource("Condition", "c", recordedDate="2021-01-01"), resource("Observation", "o")),
        {"kept": 2, "after the end": 1},
        [],
        ["LOINC//4548-4"],
    ),
    (
        "several resources in a bundle on a line",
        (
            {"resourceType": "Bundle", "entry": [{"resource": patient()}, {"resource": resource("Observation", "o")}]},
            {"resourceType": "Bundle", "entry": [{"resource": resource("Condition", "c", recordedDate="2015-13")}]},
        ),
        {"kept": 2, "quarantined": 1},
        [(1, 2, "Condition", "date not valid")],
        ["LOINC//4548-4"],
    ),
]


@pytest.mark.parametrize(
    ("lines", "outcomes", "refused", "found"), [row[1:] for row in OUTCOMES], ids=[r[0] for r in OUTCOMES]
)
def test_stated_outcomes(
    tmp_path: Path, lines: tuple[Any, ...], outcomes: dict[str, int], refused: list[Any], found: list[str]
) -> None:
    write(tmp_path / "in" / "all.ndjson", *lines)
    account, kept = take(tmp_path / "in", tmp_path / "out", as_of=datetime(2020, 1, 1))
    by_outcome = {outcome: account.of(outcome) for outcome in outcomes}
    assert by_outcome == outcomes
    assert account.total == sum(outcomes.values())
    assert quarantine(tmp_path / "out") == refused
    assert sum(account.quarantined.values()) == len(refused)
    assert codes(kept) == found


def test_files_that_are_no_records_have_stated_outcomes(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write(folder / "a" / "Patient.ndjson", patient())
    (folder / "b").mkdir()
    (folder / "b" / "empty.ndjson").write_bytes(b"")
    (folder / "b" / "empty.json").write_bytes(b" \n")
    (folder / "b" / "half.json").write_bytes(b'{\n "resourceType": "Bundle", "entry": [')
    whole = gzip.compress(write(tmp_path / "x", *[resource("Observation", f"o{n}") for n in range(2000)]).read_bytes())
    (folder / "c.ndjson.gz").write_bytes(whole[: len(whole) // 2])
    (folder / "d.json.gz").write_bytes(whole[:40])
    (folder / "notes.txt").write_text("not read")
    account, kept = take(folder, tmp_path / "out")
    reasons = [(file, reason) for file, _, _, reason in quarantine(tmp_path / "out")]
    # Files by number: a/Patient, b/empty.json, b/empty.ndjson, b/half.json, c, d.
    assert (2, "empty file") in reasons
    assert (4, "not JSON") in reasons
    assert (5, "gzip ends early") in reasons
    assert (6, "gzip ends early") in reasons
    rescued = account.resources["Observation"]["kept"]
    assert 0 < rescued < 2000
    assert codes(kept) == ["LOINC//4548-4"]


def test_a_line_that_is_too_long_is_quarantined_and_the_next_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "MAX_LINE", 5000)
    monkeypatch.setattr(documents, "_CHUNK", 1000)
    huge = patient("p3", text="x" * 20_000)
    write(tmp_path / "in" / "all.ndjson", patient(), huge, resource("Observation", "o"))
    account, kept = take(tmp_path / "in", tmp_path / "out")
    assert quarantine(tmp_path / "out") == [(1, 2, "(unknown)", "line too long")]
    assert codes(kept) == ["LOINC//4548-4"]
    assert account.total == 3


def test_a_document_too_large_to_hold_is_quarantined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_DOCUMENT", 1000)
    write(tmp_path / "in" / "a.ndjson", patient(), resource("Observation", "o"))
    (tmp_path / "in" / "b.json").write_bytes(
        orjson.dumps({"resourceType": "Bundle", "x": "y" * 2000}, option=orjson.OPT_INDENT_2)
    )
    take(tmp_path / "in", tmp_path / "out")
    assert quarantine(tmp_path / "out") == [(2, 1, "(unknown)", "document too large")]


def many(patients: int = 40) -> list[Any]:
    found: list[Any] = []
    for n in range(patients):
        found.append(patient(f"p{n}", birthDate=f"19{n % 60 + 30}-02-03"))
        for visit in range(6):
            at = f"20{visit + 10}-0{n % 9 + 1}-11T10:00:00Z"
            found.append(resource("Encounter", f"e{n}-{visit}", f"p{n}", period={"start": at}))
            value = {"value": n + visit / 10, "code": "%"}
            found.append(resource("Observation", f"o{n}-{visit}", f"p{n}", effectiveDateTime=at, valueQuantity=value))
    return found


def test_the_same_events_whatever_the_order_and_form_of_files(tmp_path: Path) -> None:
    resources = many()
    write(tmp_path / "one" / "all.ndjson", *resources)
    write(tmp_path / "two" / "b" / "z.ndjson", *reversed(resources[::2]))
    pretty = {
        "resourceType": "Bundle",
        "entry": [{"fullUrl": f"urn:uuid:{r['id']}", "resource": r} for r in resources[1::2]],
    }
    (tmp_path / "two" / "a.json").write_bytes(orjson.dumps(pretty, option=orjson.OPT_INDENT_2))
    write(tmp_path / "three" / "x", *resources)
    (tmp_path / "three" / "all.ndjson.gz").write_bytes(gzip.compress((tmp_path / "three" / "x").read_bytes()))
    digests = {
        take(tmp_path / name, tmp_path / f"out-{name}", dates="shift", min_patients=3)[0].dataset_digest
        for name in ("one", "two", "three")
    }
    assert len(digests) == 1


def test_the_same_bytes_whatever_the_number_of_processes_and_units(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "in" / "all.ndjson", *many())
    first, _ = take(tmp_path / "in", tmp_path / "one", dates="shift")
    monkeypatch.setattr(documents, "UNIT_BYTES", 10_000)
    second, _ = take(tmp_path / "in", tmp_path / "two", dates="shift", workers=2)
    assert (tmp_path / "one" / "manifest.json").read_bytes() == (tmp_path / "two" / "manifest.json").read_bytes()
    assert (tmp_path / "one" / "account.json").read_bytes() == (tmp_path / "two" / "account.json").read_bytes()
    assert first == second


def test_line_numbers_hold_in_files_that_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "UNIT_BYTES", 3000)
    monkeypatch.setattr(documents, "_CHUNK", 700)
    lines: list[Any] = many(20)
    for number in (5, 77, 150, 259):
        lines[number] = b"{broken"
    write(tmp_path / "in" / "all.ndjson", *lines)
    account, _ = take(tmp_path / "in", tmp_path / "out")
    broken = [line for _, line, _, reason in quarantine(tmp_path / "out") if reason == "not JSON"]
    assert broken == [6, 78, 151, 260]
    assert account.total == len(lines)


def test_more_buckets_give_the_same_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "in" / "all.ndjson", *many())
    _, one = take(tmp_path / "in", tmp_path / "one", dates="shift", min_patients=3)
    monkeypatch.setattr(module, "_BUCKET_BYTES", 5000)
    _, several = take(tmp_path / "in", tmp_path / "two", dates="shift", min_patients=3)
    assert len(shards.shard_files(tmp_path / "two", "train")) > 3
    order = ["subject_id", "time", "code", "numeric_value"]
    assert one.sort(order).equals(several.sort(order))


def test_a_subject_is_in_one_file_in_time_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BUCKET_BYTES", 5000)
    write(tmp_path / "in" / "all.ndjson", *many())
    take(tmp_path / "in", tmp_path / "out", dates="shift")
    seen: set[int] = set()
    for split in shards.SPLITS:
        for file in shards.shard_files(tmp_path / "out", split):
            frame = pl.read_parquet(file)
            subjects = frame["subject_id"].unique().to_list()
            assert not seen & set(subjects)
            seen |= set(subjects)
            assert frame["subject_id"].is_sorted()
            assert frame.group_by("subject_id").agg(pl.col("time").is_sorted(nulls_last=False))["time"].all()
    assert len(seen) == 40


_RUN = """
import sys, time
from pathlib import Path
from lifechart.data import ingest as module
from tests.data.samples import take
settle = module.settle_bucket
def slowly(*arguments):
    settle(*arguments)
    Path(sys.argv[3]).touch()
    time.sleep(60)
if len(sys.argv) > 3:
    module.settle_bucket = slowly
module._BUCKET_BYTES = 20_000
print(take(Path(sys.argv[1]), Path(sys.argv[2]), dates="shift")[0].dataset_digest)
"""


def test_a_killed_run_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "in" / "all.ndjson", *many())
    command = [sys.executable, "-c", _RUN, str(tmp_path / "in"), str(tmp_path / "out")]
    marker = tmp_path / "reached"
    killed = subprocess.Popen([*command, str(marker)], env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    for _ in range(6000):
        if marker.exists():
            break
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert marker.exists()
    assert not (tmp_path / "out").exists()
    read = []
    spill = module.spill
    monkeypatch.setattr(module, "spill", lambda *arguments: read.append(_reads(spill, *arguments)))
    monkeypatch.setattr(module, "_BUCKET_BYTES", 20_000)
    resumed, _ = take(tmp_path / "in", tmp_path / "out", dates="shift")
    assert read == [False]
    monkeypatch.setattr(module, "spill", spill)
    whole, _ = take(tmp_path / "in", tmp_path / "again", dates="shift")
    assert resumed == whole
    assert not list(tmp_path.glob(".*.ingest"))


def _reads(spill: Any, source: Any, unit: Any, number: int, plan: Any) -> bool:
    before = plan.spill_file(number).with_suffix(".json").exists()
    spill(source, unit, number, plan)
    return not before


def test_changed_input_starts_anew(tmp_path: Path) -> None:
    write(tmp_path / "in" / "all.ndjson", *many(10))

    class Refusing:
        def append(self, statement: Any) -> None:
            raise AuditError("no room")

    with pytest.raises(AuditError):
        ingest(tmp_path / "in", tmp_path / "out", key=KEY, log=Refusing(), workers=1)
    assert not (tmp_path / "out").exists()
    write(tmp_path / "in" / "all.ndjson", *many(12))
    account, _ = take(tmp_path / "in", tmp_path / "out", dates="shift")
    assert account.subjects == 12


def test_the_statement_binds_input_parameters_account_and_data(tmp_path: Path) -> None:
    write(tmp_path / "in" / "all.ndjson", *many(10))
    log = Log()
    account, _ = take(tmp_path / "in", tmp_path / "out", log=log)
    extract, transform, statement = log.statements
    assert [said.kind for said in log.statements] == ["extract", "transform", "ingest"]
    file = tmp_path / "in" / "all.ndjson"
    assert [subject.name for subject in extract.subjects] == ["extract", "file 1 (.ndjson)"]
    assert extract.subjects[1].digest == hashlib.sha256(file.read_bytes()).hexdigest()
    assert statement.predicate["extract"] == extract.subjects[0].digest
    assert statement.predicate["transform"] == transform.subjects[0].digest
    assert transform.predicate["parameters"]["dates"] == "year"
    assert [(subject.name, subject.digest) for subject in statement.subjects] == [("dataset", account.dataset_digest)]
    assert shards.verify(tmp_path / "out") == account.dataset_digest
    assert statement.predicate["account"] == account.public()
    assert statement.predicate["parameters"]["dates"] == "year"
    assert orjson.dumps(statement.predicate)
    assert str(tmp_path) not in statement.payload().decode()


def test_the_export_says_when_observation_ended(tmp_path: Path) -> None:
    write(tmp_path / "in" / "all.ndjson", *many(10))
    (tmp_path / "in" / "export.json").write_bytes(
        orjson.dumps({"transactionTime": "2018-06-01T00:00:00Z", "output": []})
    )
    account, kept = take(tmp_path / "in", tmp_path / "out")
    ends = kept.filter(pl.col("code") == RECORD_END)["time"].unique().to_list()
    assert ends == [datetime(2018, 1, 1)]
    assert account.total == len(many(10))


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"dates": "none"}, "--dates"),
        ({"source": "hl7"}, "--source"),
        ({"workers": 0}, "--workers"),
        ({"min_patients": 0}, "--min-patients"),
    ],
)
def test_wrong_arguments_are_named(tmp_path: Path, options: dict[str, Any], key: str) -> None:
    write(tmp_path / "in" / "all.ndjson", patient())
    with pytest.raises(InputError, match=key):
        take(tmp_path / "in", tmp_path / "out", **options)


def test_an_existing_data_set_is_never_overwritten(tmp_path: Path) -> None:
    write(tmp_path / "in" / "all.ndjson", patient(), resource("Observation", "o"))
    take(tmp_path / "in", tmp_path / "out")
    with pytest.raises(InputError, match="--out"):
        take(tmp_path / "in", tmp_path / "out")


def test_the_dead_are_observed_as_long_as_the_living(tmp_path: Path) -> None:
    write(
        tmp_path / "in" / "all.ndjson",
        patient(deceasedDateTime="2016-03-04T05:00:00Z"),
        resource("Observation", "o"),
        patient("p2"),
        resource("Observation", "o2", "p2", effectiveDateTime="2019-12-31T00:00:00Z"),
    )
    _, kept = take(tmp_path / "in", tmp_path / "out")
    ends = kept.filter(pl.col("code") == RECORD_END)["time"].dt.year().sort().to_list()
    assert ends == [2019, 2019]


def test_a_newborn_after_the_end_is_not_a_subject(tmp_path: Path) -> None:
    write(
        tmp_path / "in" / "all.ndjson", patient(), resource("Observation", "o"), patient("p2", birthDate="2019-05-01")
    )
    account, kept = take(tmp_path / "in", tmp_path / "out", as_of=datetime(2018, 1, 1))
    assert account.subjects == 1
    assert account.of("after the end") == 1
    assert kept["subject_id"].n_unique() == 1


def test_two_patients_of_one_name_do_not_mix(tmp_path: Path) -> None:
    write(tmp_path / "in" / "all.ndjson", *many(40))
    _, kept = take(tmp_path / "in", tmp_path / "out")
    results = (
        kept.filter(pl.col("code") == "LOINC//4548-4")
        .group_by("subject_id")
        .agg(pl.col("numeric_value").floor().n_unique())
    )
    assert results["numeric_value"].to_list() == [1] * 40
