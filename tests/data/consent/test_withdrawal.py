"""A withdrawn patient is in no byte of the next build, nobody else's change, and the log knows what holds whom."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifechart.core import durable
from lifechart.core.errors import InputError, IntegrityError
from lifechart.core.settings import Settings
from lifechart.data import shards
from lifechart.data.account import LEFT_OUT, Account
from lifechart.data.consent import holdings, members, standing
from lifechart.data.consent.admission import Admission, admission
from lifechart.data.consent.register import CONSENTED, WITHDRAWN, Register, patient_hash
from lifechart.data.deidentify import structured
from lifechart.data.ingest import ingest
from lifechart.data.sources import KEPT, WITHHELD
from lifechart.ledger.log import Log, open_log
from lifechart.ledger.statement import Statement, Subject
from tests.data.samples import KEY, concept, events, patient, resource, write

PEOPLE = [f"p{number}" for number in range(14)]
AS_OF = {"as_of": datetime(2016, 1, 1)}


def export(folder: Path, people: list[str] = PEOPLE, seed: int = 0) -> Path:
    """Everybody has a Patient, and conditions and results of their own number and code; some share codes."""
    lines: list[dict[str, Any]] = []
    for person in people:
        number = int(person[1:]) + seed
        lines.append(patient(person))
        lines += [resource("Condition", f"c{person}{i}", person, code=concept(str(number % 3))) for i in range(2)]
        lines += [
            resource("Observation", f"o{person}{i}", person, valueQuantity={"value": number + i, "code": "%"})
            for i in range(1 + number % 4)
        ]
    lines.append({"resourceType": "Claim", "id": "x"})
    return write(folder / "all.ndjson", *lines).parent


class Office:
    """A home with log, register and evidence."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(home=folder / "home")
        self.log: Log = open_log(self.settings)
        self.register = Register(folder / "home" / "consent" / "register.jsonl", KEY)
        self.evidence = holdings.evidence_folder(self.settings)

    def decide(self, person: str, what: str, *purposes: str) -> None:
        made = holdings.decide(person, purposes or ("training", "evaluation"), what, "clerk")
        holdings.record(self.register, self.log, KEY, self.evidence, made)

    def build(self, source: Path, out: Path, policy: str = "opt-out", min_patients: int = 1) -> Account:
        who = admission(self.register, KEY, policy)
        return ingest(source, out, key=KEY, log=self.log, workers=1, min_patients=min_patients, admission=who, evidence=self.evidence, **AS_OF)  # fmt: skip # noqa: E501

    def where(self, person: str) -> list[holdings.Holding]:
        return holdings.where(self.log, KEY, self.evidence, person)


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path)
    yield made
    made.log.close()


def subject(person: str) -> int:
    return structured.subject_ids(KEY, pl.Series([person])).to_list()[0]


def content(dataset: Path) -> dict[str, str]:
    return durable.tree_digests(dataset / "data") | durable.tree_digests(dataset / "metadata")


@settings(max_examples=12, deadline=None)
@given(st.sets(st.sampled_from(PEOPLE), min_size=1, max_size=6), st.sampled_from([1, 3, 5]), st.integers(0, 5))
def test_a_build_without_the_withdrawn_is_the_build_of_an_export_that_never_had_them(
    tmp_path_factory: pytest.TempPathFactory, gone: set[str], min_patients: int, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("w")
    office = Office(folder)
    for person in gone:
        office.decide(person, WITHDRAWN)
    left = [person for person in PEOPLE if person not in gone]
    account = office.build(export(folder / "in", seed=seed), folder / "out", min_patients=min_patients)
    never = office.build(export(folder / "never", left, seed), folder / "never-out", min_patients=min_patients)
    office.log.close()
    assert content(folder / "out") == content(folder / "never-out")
    assert account.dataset_digest == never.dataset_digest
    assert not {subject(person) for person in gone} & set(events(folder / "out")["subject_id"])


@settings(max_examples=8, deadline=None)
@given(st.sampled_from(PEOPLE))
def test_nobody_elses_events_change(tmp_path_factory: pytest.TempPathFactory, gone: str) -> None:
    folder = tmp_path_factory.mktemp("w")
    office = Office(folder)
    source = export(folder / "in")
    before = office.build(source, folder / "before")
    office.decide(gone, WITHDRAWN)
    after = office.build(source, folder / "after")
    office.log.close()
    others = events(folder / "before").filter(pl.col("subject_id") != subject(gone))
    assert events(folder / "after").sort(pl.all()).equals(others.sort(pl.all()))
    assert after.total == before.total
    theirs = {type_: row[WITHHELD] for type_, row in after.resources.items() if WITHHELD in row}
    number = int(gone[1:])
    assert theirs == {"Patient": 1, "Condition": 2, "Observation": 1 + number % 4}
    assert {type_: sum(row.values()) for type_, row in after.resources.items()} == {
        type_: sum(row.values()) for type_, row in before.resources.items()
    }


def test_no_byte_of_the_build_tells_of_the_withdrawn(office: Office, tmp_path: Path) -> None:
    """A code, value and unit that only they have: searched for in every file, decoded, and in the ledger."""
    people = [patient(person) for person in PEOPLE]
    marks = [resource("Observation", f"m{i}", "p3", code=concept("77777-7", "http://loinc.org", "Zebra test"), valueQuantity={"value": 123.25, "code": "zebras"}) for i in range(9)]  # fmt: skip # noqa: E501
    source = write(tmp_path / "in" / "all.ndjson", *people, *marks).parent
    office.build(source, tmp_path / "with")
    office.decide("p3", WITHDRAWN)
    office.build(source, tmp_path / "without")

    def told(dataset: Path) -> bool:
        frames = [pl.read_parquet(path) for path in dataset.rglob("*.parquet")]
        said = "\n".join(frame.write_ndjson() for frame in frames)
        said += "\n".join(path.read_text() for path in dataset.rglob("*json"))
        return any(mark in said for mark in ("77777-7", "Zebra", "zebras", "123.25", str(subject("p3"))))

    assert told(tmp_path / "with")
    assert not told(tmp_path / "without")
    last = office.log.find(kind="ingest")[-1].envelope.payload.decode()
    assert "p3" not in last
    assert str(subject("p3")) not in last


def test_the_ledger_gets_no_portrait_of_one_patient(office: Office, tmp_path: Path) -> None:
    source = export(tmp_path / "in", [f"p{number}" for number in range(60)])
    office.decide("p7", WITHDRAWN)
    account = office.build(source, tmp_path / "out")
    assert account.of(WITHHELD) == 7
    said = account.public()
    assert WITHHELD not in orjson.dumps(said).decode()
    assert said["resources"]["Patient"].get(LEFT_OUT, 0) is None
    assert said["resources"]["Patient"][KEPT] is None or said["resources"]["Patient"][KEPT] > 10
    assert office.log.find(kind="ingest")[-1].statement.predicate["account"] == said


def test_opt_in_lets_in_only_who_consented_to_every_purpose(office: Office, tmp_path: Path) -> None:
    source = export(tmp_path / "in")
    office.decide("p1", CONSENTED)
    office.decide("p2", CONSENTED, "training")
    office.build(source, tmp_path / "out", "opt-in")
    assert set(events(tmp_path / "out")["subject_id"]) == {subject("p1")}


def test_a_withdrawal_in_the_middle_of_a_build_is_not_passed_over(
    office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was cut off after reading does not go on with what it read before the withdrawal."""
    from lifechart.data import ingest as module

    source = export(tmp_path / "in")
    with monkeypatch.context() as patched:
        patched.setattr(module.tally, "rules", lambda *_: (_ for _ in ()).throw(RuntimeError()))
        with pytest.raises(RuntimeError):
            office.build(source, tmp_path / "out")
    assert (tmp_path / ".out.ingest").exists()
    office.decide("p4", WITHDRAWN)
    office.build(source, tmp_path / "out")
    assert subject("p4") not in set(events(tmp_path / "out")["subject_id"])


def test_admission_holds_keyed_ids_only(office: Office) -> None:
    office.decide("p1", WITHDRAWN)
    who = admission(office.register, KEY, "opt-out")
    assert who.listed == {subject("p1")}
    assert "p1" not in repr(who)
    assert admission(office.register, KEY, "opt-out").identity == who.identity != Admission().identity
    for wrong in ({"policy": "whatever"}, {"policy": "opt-out", "purposes": ("fun",)}):
        with pytest.raises(InputError):
            admission(office.register, KEY, **wrong)


def test_where_tells_data_sets_models_and_releases(office: Office, tmp_path: Path) -> None:
    source = export(tmp_path / "in")
    first = office.build(source, tmp_path / "first").dataset_digest
    model, manifest = "ab" * 32, "cd" * 32
    office.log.append(Statement("train", (Subject("model", model),), {"dataset": first, "files": {}}))
    said = {
        "capability": "risk",
        "version": "1",
        "what": "released",
        "actor": "x",
        "reason": "",
        "data": {"train": first},
    }
    office.log.append(Statement("release", (Subject("risk/1", manifest),), said))
    office.decide("p5", WITHDRAWN)
    second = office.build(source, tmp_path / "second").dataset_digest
    (holding,) = office.where("p5")
    assert (holding.dataset, holding.held) == (first, True)
    assert [each.digest for each in holding.resting.models] == [model]
    assert [(each.capability, each.version, each.current) for each in holding.resting.releases] == [("risk", "1", True)]
    assert [each.dataset for each in office.where("p6")] == [first, second]
    assert office.where("nobody") == []
    (stands,) = standing.affected(office.log)
    assert (stands.dataset, stands.withdrawn, stands.releases[0].current) == (first, 1, True)
    said = {**said, "version": "2", "data": {"train": second}}
    office.log.append(Statement("release", (Subject("risk/2", "ef" * 32),), said))
    assert not standing.affected(office.log)[0].releases[0].current


def test_consenting_again_is_told_too(office: Office, tmp_path: Path) -> None:
    office.build(export(tmp_path / "in"), tmp_path / "out")
    office.decide("p5", WITHDRAWN)
    office.decide("p5", WITHDRAWN)
    assert len(standing.affected(office.log)) == 1
    office.decide("p5", CONSENTED)
    assert standing.affected(office.log) == []
    assert [entry.statement.predicate["what"] for entry in office.log.find(kind="withdrawal")][-1] == CONSENTED


def test_a_withdrawal_that_came_too_late_for_a_build_is_told_after_it(office: Office, tmp_path: Path) -> None:
    who = admission(office.register, KEY, "opt-out")
    office.decide("p5", WITHDRAWN)
    settled = ingest(export(tmp_path / "in"), tmp_path / "out", key=KEY, log=office.log, workers=1, admission=who, evidence=office.evidence, **AS_OF)  # fmt: skip # noqa: E501
    assert standing.affected(office.log) == []
    assert holdings.reconcile(office.register, office.log, KEY, office.evidence) == 1
    assert [each.dataset for each in standing.affected(office.log)] == [settled.dataset_digest]
    assert holdings.reconcile(office.register, office.log, KEY, office.evidence) == 0


def test_giving_one_purpose_back_keeps_the_other_withdrawn(office: Office, tmp_path: Path) -> None:
    office.build(export(tmp_path / "in"), tmp_path / "out")
    office.decide("p5", WITHDRAWN)
    office.decide("p5", CONSENTED, "training")
    assert len(standing.affected(office.log)) == 1
    assert office.log.find(kind="withdrawal")[-1].statement.predicate["purposes"] == ["evaluation"]
    assert not office.register.permits("p5", ("training", "evaluation"), "opt-out")


def test_statements_name_nobody(office: Office, tmp_path: Path) -> None:
    office.build(export(tmp_path / "in"), tmp_path / "out")
    office.decide("p5", WITHDRAWN)
    statement = office.log.find(kind="withdrawal")[-1].statement
    assert statement.subjects[0].digest == patient_hash(KEY, "p5")
    assert '"p5"' not in statement.payload().decode()


def test_tokens_of_one_person_in_two_data_sets_have_nothing_in_common() -> None:
    first, second = (members.token_of(KEY, digest, "p1") for digest in ("ab" * 32, "cd" * 32))
    assert first != second
    assert members.token_of(bytes(32), "ab" * 32, "p1") != first


def test_evidence_that_was_changed_or_is_gone_is_told(office: Office, tmp_path: Path) -> None:
    digest = office.build(export(tmp_path / "in"), tmp_path / "out").dataset_digest
    file = members.tokens_file(office.evidence, digest)
    kept = file.read_bytes()
    token = members.token_of(KEY, digest, "p5")
    assert token in [kept[at : at + 16] for at in range(0, len(kept), 16)]
    file.write_bytes(kept.replace(token, b""))
    with pytest.raises(IntegrityError, match="not the members"):
        office.where("p5")
    file.unlink()
    assert [each.held for each in office.where("p5")] == [None]
    root = office.log.find(kind="ingest")[-1].statement.predicate["members"]
    assert members.seal(tmp_path / "out", digest, KEY, office.evidence) == root
    assert file.read_bytes() == kept


def test_lines_cut_off_the_register_are_missed(office: Office) -> None:
    office.decide("p5", WITHDRAWN)
    lines = office.register.path.read_bytes().splitlines(keepends=True)
    office.register.path.write_bytes(b"".join(lines[:-1]))
    with pytest.raises(IntegrityError, match="lines are missing"):
        holdings.check(Register(office.register.path, KEY), office.log)


def test_an_exports_own_consents_count(office: Office, tmp_path: Path) -> None:
    source = export(tmp_path / "in")
    deny = {
        "resourceType": "Consent",
        "status": "active",
        "patient": {"reference": "Patient/p2"},
        "dateTime": "2015-02-03",
        "provision": {"type": "deny"},
    }
    write(source / "Consent.ndjson", deny)
    who = holdings.admission_for(office.settings, office.log, KEY, source)
    assert who.listed == {subject("p2")}
    account = ingest(source, tmp_path / "out", key=KEY, log=office.log, workers=1, admission=who, **AS_OF)
    assert account.of(WITHHELD) > 0
    assert subject("p2") not in set(events(tmp_path / "out")["subject_id"])
    assert shards.verify(tmp_path / "out") == account.dataset_digest
