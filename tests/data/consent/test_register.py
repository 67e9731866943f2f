"""The register: who stands where, a chain that shows every change, and FHIR Consent as decisions."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifechart.core.errors import InputError, IntegrityError
from lifechart.data.consent import fhir
from lifechart.data.consent.register import CONSENTED, PURPOSES, WITHDRAWN, Decision, Register, patient_hash
from tests.data.samples import KEY

LATER = datetime(2030, 1, 1, tzinfo=UTC)


def decision(patient: str = "p1", what: str = WITHDRAWN, at: str = "2026-01-01T00:00:00Z", **more: str) -> Decision:
    return Decision(**{"patient": patient, "purpose": "training", "decision": what, "at": at, "by": "clerk"} | more)


@pytest.fixture
def register(tmp_path: Path) -> Register:
    return Register(tmp_path / "home" / "consent" / "register.jsonl", KEY)


def again(register: Register) -> Register:
    return Register(register.path, KEY)


def test_decisions_are_kept_once_and_in_order(register: Register) -> None:
    first, second = decision(), decision(what=CONSENTED, at="2026-02-01T00:00:00Z")
    assert register.add([first]) == [first]
    assert again(register).add([first, second, second]) == [second]
    assert again(register).decisions == [first, second]
    assert register.path.stat().st_mode & 0o777 == 0o600


def test_the_latest_decision_holds_whatever_the_order_of_lines(register: Register) -> None:
    register.add([decision(what=CONSENTED, at="2026-03-01T00:00:00Z"), decision(at="2026-01-01T00:00:00+02:00")])
    assert register.stands("p1", "training", LATER) == CONSENTED
    register.add([decision(at="2026-03-01T00:00:00Z")])
    assert register.stands("p1", "training", LATER) == WITHDRAWN


def test_what_is_not_yet_so_or_has_lapsed_does_not_hold(register: Register) -> None:
    register.add([decision(what=CONSENTED, until="2027-01-01T00:00:00Z"), decision(at="2029-01-01T00:00:00Z")])
    assert register.stands("p1", "training", datetime(2026, 6, 1, tzinfo=UTC)) == CONSENTED
    assert register.stands("p1", "training", datetime(2028, 6, 1, tzinfo=UTC)) is None
    assert register.stands("p1", "training", LATER) == WITHDRAWN


@pytest.mark.parametrize(
    ("policy", "decided", "permitted"),
    [
        ("opt-out", [], True),
        ("opt-in", [], False),
        ("opt-out", [decision()], False),
        ("opt-in", [decision(what=CONSENTED)], False),
        ("opt-in", [decision(what=CONSENTED), decision(what=CONSENTED, purpose="evaluation")], True),
        ("opt-out", [decision(purpose="sharing")], True),
    ],
)
def test_what_a_policy_permits(register: Register, policy: str, decided: list[Decision], permitted: bool) -> None:
    register.add(decided)
    assert register.permits("p1", ("training", "evaluation"), policy) is permitted


LINES = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([CONSENTED, WITHDRAWN])), min_size=2, max_size=6)


@given(LINES, st.data())
def test_any_change_to_the_file_breaks_the_chain(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[str, str]], data: st.DataObject
) -> None:
    register = Register(tmp_path_factory.mktemp("r") / "register.jsonl", KEY)
    register.add(decision(who, what, f"2026-01-{day + 1:02d}T00:00:00Z") for day, (who, what) in enumerate(lines))
    head = register.head
    content = register.path.read_bytes().splitlines(keepends=True)
    at = data.draw(st.integers(0, len(content) - 1))
    change = data.draw(st.sampled_from(["drop", "swap", "edit"]))
    if change == "drop":
        content.pop(at)
    elif change == "swap":
        content[at], content[at - 1] = content[at - 1], content[at]
    else:
        content[at] = content[at].replace(b"clerk", b"clark")
    register.path.write_bytes(b"".join(content))
    if change == "drop" and at == len(content):
        assert not again(register).holds_head(head)
    else:
        with pytest.raises(IntegrityError, match="line"):
            again(register)


def test_another_key_cannot_forge_it(register: Register) -> None:
    register.add([decision()])
    with pytest.raises(IntegrityError):
        Register(register.path, bytes(32))


def test_a_torn_line_is_cut_and_the_next_one_stands(register: Register) -> None:
    register.add([decision()])
    with open(register.path, "ab") as file:
        file.write(b'{"decision":{"pat')
    reopened = again(register)
    assert reopened.decisions == [decision()]
    reopened.add([decision("p2")])
    assert [each.patient for each in again(register).decisions] == ["p1", "p2"]


def test_a_register_that_others_may_read_is_refused(register: Register) -> None:
    register.add([decision()])
    register.path.chmod(0o644)
    with pytest.raises(InputError, match="chmod 600"):
        again(register)


@pytest.mark.parametrize(
    "wrong", [{"patient": " "}, {"purpose": "profit"}, {"decision": "maybe"}, {"at": "yesterday"}, {"at": "2026-01-01"}]
)
def test_decisions_are_checked(wrong: dict[str, str]) -> None:
    with pytest.raises(InputError):
        decision(**wrong)


def test_no_error_names_a_patient(register: Register) -> None:
    register.add([decision("Maria.Lopez.1984")])
    content = register.path.read_bytes()
    register.path.write_bytes(content.replace(b"clerk", b"clark"))
    with pytest.raises(IntegrityError) as error:
        again(register)
    assert "Lopez" not in str(error.value)
    assert len(patient_hash(KEY, "p1")) == 64
    assert patient_hash(KEY, "p1") != patient_hash(bytes(32), "p1")


def consent(status: str = "active", provision: Any = None, **more: Any) -> dict[str, Any]:
    resource = {
        "resourceType": "Consent",
        "id": "c1",
        "status": status,
        "scope": {"coding": [{"code": "research"}]},
        "patient": {"reference": "Patient/p1"},
        "dateTime": "2026-02-03",
        **more,
    }
    return resource | ({"provision": provision} if provision is not None else {})


def purpose(*codes: str) -> list[dict[str, str]]:
    return [{"code": code} for code in codes]


RESEARCH = dict.fromkeys(("training", "evaluation", "research"), CONSENTED)
REFUSED = dict.fromkeys(RESEARCH, WITHDRAWN)
NOTHING_AT_ALL = dict.fromkeys(PURPOSES, WITHDRAWN)
CASES: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "permits everything": (consent(provision={"type": "permit"}), dict.fromkeys(PURPOSES, CONSENTED)),
    "denies everything": (consent(provision={"type": "deny"}), NOTHING_AT_ALL),
    "permits research": (consent(provision={"type": "permit", "purpose": purpose("HRESCH")}), RESEARCH),
    "permits something unknown": (consent(provision={"type": "permit", "purpose": purpose("XYZ")}), {}),
    "denies something unknown": (consent(provision={"type": "deny", "purpose": purpose("XYZ")}), NOTHING_AT_ALL),
    "denies, but for research": (
        consent(provision={"type": "deny", "provision": [{"type": "permit", "purpose": purpose("HRESCH")}]}),
        {**RESEARCH, "sharing": WITHDRAWN},
    ),
    "permits, but not to share": (
        consent(provision={"type": "permit", "provision": [{"type": "deny", "purpose": purpose("HMARKT")}]}),
        {**RESEARCH, "sharing": WITHDRAWN},
    ),
    "an inner permission for some data only": (
        consent(provision={"type": "deny", "provision": [{"type": "permit", "class": [{"code": "x"}]}]}),
        NOTHING_AT_ALL,
    ),
    "rejected": (
        consent("rejected", {"type": "permit", "purpose": purpose("HRESCH")}),
        dict.fromkeys(RESEARCH, WITHDRAWN),
    ),
    "ended, nothing said of what": (consent("inactive"), NOTHING_AT_ALL),
    "entered in error": (consent("entered-in-error", {"type": "deny"}), {}),
    "a draft": (consent("draft", {"type": "deny"}), {}),
    "about treatment": (consent(provision={"type": "deny"}, scope={"coding": [{"code": "treatment"}]}), {}),
    "of nobody": (consent(provision={"type": "deny"}, patient={}), {}),
    "without a date": (consent(provision={"type": "deny"}, dateTime=None), {}),
    "R5": (
        {
            "resourceType": "Consent",
            "status": "active",
            "subject": {"reference": "https://ehr.example/fhir/Patient/p1"},
            "date": "2026-02-03",
            "decision": "permit",
            "provision": [{"purpose": purpose("HRESCH"), "provision": [{"purpose": purpose("CLINTRCH")}]}],
        },
        {"training": CONSENTED, "evaluation": CONSENTED, "research": WITHDRAWN},
    ),
    "STU3": (
        {
            "resourceType": "Consent",
            "status": "active",
            "patient": {"reference": "Patient/p1"},
            "dateTime": "2026-02",
            "except": [{"type": "deny", "purpose": purpose("HRESCH")}],
        },
        dict.fromkeys(RESEARCH, WITHDRAWN),
    ),
    "not a Consent": ({"resourceType": "Patient", "id": "p1"}, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_what_a_consent_means(case: str) -> None:
    resource, meant = CASES[case]
    found = fhir.decisions_of(resource)
    assert {each.purpose: each.decision for each in found} == meant
    assert {each.patient for each in found} <= {"p1"}


KEYS = ["code", "coding", "purpose", "type", "provision", "reference", "period", "end"]
FIELDS = ["status", "scope", "patient", "subject", "dateTime", "date", "decision", "provision", "except", "id"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["code", "coding", "purpose", "type", "provision", "reference", "period", "end"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_no_consent_resource_crashes(fields: dict[str, Any]) -> None:
    for each in fhir.decisions_of({"resourceType": "Consent", **fields}):
        assert each.purpose in PURPOSES


def test_a_mark_across_two_chunks_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = orjson.dumps(consent(provision={"type": "deny", "purpose": purpose("HMARKT")})) + b"\n"
    for size in (1, 3, len(line) // 2, len(line)):
        monkeypatch.setattr(fhir, "_CHUNK", size)
        (tmp_path / "Consent.ndjson").write_bytes(b'{"resourceType":"Patient","id":"p9"}\n' + line)
        assert len(fhir.read_export(tmp_path)) == 1
    (tmp_path / "Consent.ndjson").unlink()
    (tmp_path / "Consent.ndjson.gz").write_bytes(gzip.compress(line * 3)[:-9])
    assert len(fhir.read_export(tmp_path)) == 3


def test_consents_are_found_in_ndjson_and_bundles_and_nothing_else_is_read(tmp_path: Path) -> None:
    deny = consent(provision={"type": "deny", "purpose": purpose("HMARKT")})
    (tmp_path / "Consent.ndjson").write_bytes(orjson.dumps(deny) + b'\nnot json "Consent"\n')
    bundle = {"resourceType": "Bundle", "entry": [{"resource": {**deny, "patient": {"reference": "urn:uuid:p2"}}}, 3]}
    (tmp_path / "bundle.json").write_bytes(orjson.dumps(bundle))
    (tmp_path / "Patient.ndjson").write_bytes(b'{"resourceType":"Patient","id":"p9"}\n')
    found = fhir.read_export(tmp_path)
    assert sorted((each.patient, each.purpose) for each in found) == [("p1", "sharing"), ("p2", "sharing")]
