"""Incidents from report to closure, recalls to acknowledgement, and what is refused on the way."""

import csv
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench._institution import Institution
from lifechart.core.errors import GateRefused, InputError, IntegrityError
from lifechart.ledger.keys import Signer
from lifechart.ledger.statement import Statement, Subject
from lifechart.ledger.trace import trace
from lifechart.release.incidents.course import Standing
from lifechart.release.incidents.export import export, fields
from lifechart.release.incidents.policy import DEFAULT, Policy
from lifechart.release.incidents.register import Incidents
from lifechart.release.incidents.scope import Scope
from lifechart.release.people import Office

START = datetime(2026, 11, 1, 8, tzinfo=UTC)
SECRET = "Ines Moreau of Mill Lane was sent home"


class House:
    """An institution with a release, a safety officer, a clock that tests turn, and answers to complain about."""

    def __init__(self, folder: Path) -> None:
        self.place = Institution(folder)
        self.release = self.place.release()
        self.log, self.now = self.place.log, START
        self.officer = Signer.generate("dr.safe")
        self.place.people.register(self.officer.public, (Office.SAFETY_OFFICER,), staff_number="77", actor="root")
        self.incidents = self.open()

    def open(self) -> Incidents:
        return Incidents(self.place.folder / "incidents", self.log, self.place.shelf, Policy.load(), lambda: self.now)

    def answer(self, user: str, number: int = 0, *, showing: str = "shown", model: str = "", **more: object) -> str:
        """Let an answer be given to `user`, and return its digest."""
        digest = f"{len(self.log.find(kind='answer')) + 1:064x}"
        said = {
            "capability": "risk",
            "model": model or self.release.manifest.model_digest,
            "patient": f"{number:064x}",
            "user": user,
            "showing": showing,
            "claims": [{"outcome": "SNOMED//44054006"}],
            **more,
        }
        self.log.append(Statement("answer", (Subject("answer", digest),), said))
        return digest

    def report(self, *answers: str, severity: str = "harm"):
        return self.incidents.report("wrong-answer", severity, SECRET, actor="dr.reyes", answers=answers)

    def corrected(self, *answers: str, severity: str = "harm") -> str:
        name = self.report(*answers, severity=severity).digest
        self.incidents.triage(name, severity, "read the chart", actor="sam")
        self.incidents.investigate(name, "data", "a unit changed", actor="sam")
        self.incidents.correct(name, "the reader refuses that unit", actor="sam")
        return name


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_an_incident_goes_from_report_to_closure(house: House) -> None:
    name = house.corrected(house.answer("dr.reyes", 7))
    with pytest.raises(GateRefused, match="wants the signature of safety-officer"):
        house.incidents.close(name, actor="sam")
    house.incidents.sign(name, house.officer, comment="weighed")
    closed = house.incidents.close(name, actor="sam")
    assert (closed.standing, closed.closed_by, closed.number) == (Standing.CLOSED, "dr.safe", 1)
    # Nothing but the ledger and the texts: another process sees the same.
    again = house.open().get("1")
    assert again == closed
    assert again.patients == {f"{7:064x}"}
    assert [step.step for step in again.steps] == ["reported", "triaged", "investigated", "corrected", "closed"]


def test_the_ledger_holds_no_word_of_it_and_the_texts_are_ours_alone(house: House) -> None:
    name = house.corrected(house.answer("dr.reyes"))
    assert not any(b"Ines" in entry.payload or b"Mill" in entry.payload for entry in house.log.entries())
    assert house.incidents.words.read(name) == SECRET
    files = list((house.place.folder / "incidents" / "words").iterdir())
    assert len(files) == 4
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    # The same words twice have two digests: nobody guesses them from the log.
    assert house.report().digest != name
    text = house.place.folder / "incidents" / "words" / f"{name}.json"
    text.write_bytes(text.read_bytes().replace(b"home", b"away"))
    with pytest.raises(IntegrityError, match="not the text"):
        house.incidents.words.read(name)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"problem": "gossip"}, "problem: got 'gossip'"),
        ({"severity": "awful"}, "severity: got 'awful'"),
        ({"words": "  "}, "what happened: got '0 characters'"),
        ({"words": "x" * 5001}, "5001 characters"),
        ({"answers": ["ab" * 32]}, "digest of an answer that was given"),
        ({"answers": ["Ines"]}, "digest of an answer that was given"),
        ({"patients": ["Ines"]}, "keyed hash"),
        ({"page": "/patients/ines?x=1"}, "template of a route"),
        ({"occurred": START + timedelta(hours=1)}, "not in the future"),
        ({"occurred": datetime(2026, 1, 1)}, "with its zone"),
        ({"actor": ""}, "actor"),
    ],
)
def test_a_report_that_cannot_be_kept_is_refused_without_repeating_it(house: House, change: dict, words: str) -> None:
    given = {"problem": "missed", "severity": "harm", "words": SECRET, "actor": "dr.reyes"} | change
    with pytest.raises(InputError, match=words) as refused:
        house.incidents.report(given.pop("problem"), given.pop("severity"), given.pop("words"), **given)
    assert "Ines" not in str(refused.value)
    assert house.incidents.all() == []
    folder = house.place.folder / "incidents" / "words"
    assert not folder.exists() or not list(folder.iterdir()), "a text that the ledger has not heard of"


def test_steps_come_in_order_and_a_closed_incident_stays_as_it_is(house: House) -> None:
    name = house.report().digest
    with pytest.raises(GateRefused, match="triage comes before"):
        house.incidents.investigate(name, "data", "x", actor="sam")
    with pytest.raises(GateRefused, match="it is reported"):
        house.incidents.sign(name, house.officer, comment="x")
    house.incidents.triage(name, "no-harm", "looked", actor="sam")
    with pytest.raises(GateRefused, match="root cause comes before"):
        house.incidents.correct(name, "x", actor="sam")
    house.incidents.investigate(name, "none", "nothing found", actor="sam")
    house.incidents.correct(name, "none needed", actor="sam")
    house.incidents.sign(name, house.officer, comment="weighed")
    house.incidents.close(name, actor="sam")
    with pytest.raises(GateRefused, match="closed; reopen"):
        house.incidents.triage(name, "death", "x", actor="sam")
    again = house.incidents.reopen(name, "a second patient", actor="sam")
    assert again.closed is None
    with pytest.raises(GateRefused, match="not corrected"):
        house.incidents.close(name, actor="sam")


def test_a_signature_holds_for_exactly_the_steps_that_were_signed(house: House) -> None:
    name = house.corrected()
    house.incidents.sign(name, house.officer, comment="weighed")
    house.incidents.correct(name, "and one thing more", actor="sam")
    with pytest.raises(GateRefused, match="wants the signature"):
        house.incidents.close(name, actor="sam")


def test_only_the_safety_officer_closes_and_never_the_author_of_the_model(house: House) -> None:
    name = house.corrected(house.answer("dr.reyes"))
    house.incidents.sign(name, house.place.keys["dr.okafor"], comment="x")
    with pytest.raises(IntegrityError, match="does not hold the office"):
        house.incidents.close(name, actor="sam")
    for path in (house.place.folder / "incidents" / "approvals").iterdir():
        path.unlink()
    author = house.place.keys["ml.author"]
    house.place.people.register(
        author.public, (Office.SAFETY_OFFICER,), staff_number="0005", actor="root", login="ml.author"
    )
    house.incidents.sign(name, author, comment="my model is fine")
    with pytest.raises(GateRefused, match=r"ml\.author made the model"):
        house.incidents.close(name, actor="sam")


def test_clocks_run_from_the_report_and_regulators_come_before_closure(house: House) -> None:
    name = house.corrected(severity="death")
    late = house.report(severity="death")
    assert late.regulator_due(house.incidents.policy)["fda"] == START + timedelta(days=10)
    assert house.incidents.overdue_now(late) == []
    house.now = START + timedelta(hours=5)
    assert house.incidents.overdue_now(house.incidents.get("2")) == ["triage"]
    house.now = START + timedelta(days=11)
    assert house.incidents.overdue_now(house.incidents.get("2")) == ["triage", "fda", "mhra"]
    with pytest.raises(GateRefused, match="fda has not been told; mhra has not been told"):
        house.incidents.sign(name, house.officer, comment="x")
    for regulator in ("fda", "mhra"):
        house.incidents.submitted(name, regulator, "2026/17", actor="sam")
    house.incidents.sign(name, house.officer, comment="weighed")
    assert house.incidents.close(name, actor="sam").standing is Standing.CLOSED


def test_triage_can_switch_the_capability_off(house: House) -> None:
    name = house.report(house.answer("dr.reyes")).digest
    assert house.incidents.triage(name, "death", "at once", actor="sam", pause=True).paused
    state = house.place.shelf.state("risk")
    assert (state.on, state.reason) == (False, "Paused because of incident 1.")
    with pytest.raises(InputError, match="names a capability"):
        house.incidents.triage(house.report().digest, "harm", "x", actor="sam", pause=True)


def test_a_recall_reaches_everybody_who_was_shown_and_nobody_else(house: House) -> None:
    one, two = house.answer("dr.reyes", 1), house.answer("client:ehr", 2, asker="Practitioner/5")
    house.answer("dr.reyes", 3)
    house.answer("dr.hidden", 4, showing="shadow")
    house.answer("dr.other", 5, model="9" * 64)
    name = house.report(one, two).digest
    recalls, scope = house.incidents.recalls, house.incidents.release_scope("risk", "1")
    recall = house.incidents.recall(name, scope, "Do not rely on it.", actor="sam")
    tally = recalls.tally(recall)
    assert set(tally.people) == {"dr.reyes", "client:ehr Practitioner/5"}
    assert (tally.answers, tally.patients, len(tally.outstanding)) == (3, 3, 2)
    assert [notice.message for notice in recalls.notices("dr.reyes")] == ["Do not rely on it."]
    assert recalls.notices("dr.hidden") == recalls.notices("client:ehr") == []
    assert [each.digest for each, _ in recalls.about(f"{3:064x}")] == [recall.digest]
    assert recalls.about(f"{4:064x}") == []
    with pytest.raises(GateRefused, match="only those who were shown"):
        recalls.acknowledge(recall.digest, "dr.other")
    recalls.acknowledge(recall.digest, "dr.reyes")
    recalls.acknowledge(recall.digest, "dr.reyes")
    assert len([e for e in house.log.find(kind="incident") if e.statement.predicate["step"] == "acknowledged"]) == 1
    assert recalls.notices("dr.reyes") == []
    # Whoever is shown another one afterwards is told again, and whoever sees their first is told too.
    house.answer("dr.reyes", 6)
    house.answer("dr.late", 7)
    assert len(recalls.notices("dr.reyes")) == len(house.open().recalls.notices("dr.late")) == 1


def test_a_recall_of_single_answers_and_of_an_outcome_and_a_time(house: House) -> None:
    one, _ = house.answer("dr.one"), house.answer("dr.two")
    name, issue = house.report(one).digest, house.incidents.recall
    tally = house.incidents.recalls.tally
    assert set(tally(issue(name, Scope("risk", answers=(one,)), "x", actor="sam")).people) == {"dr.one"}
    assert not tally(issue(name, Scope("risk", outcome="SNOMED//1"), "x", actor="sam")).people
    assert len(tally(issue(name, Scope("risk", outcome="SNOMED//44054006"), "x", actor="sam")).people) == 2
    assert not tally(issue(name, Scope("risk", since=datetime(2999, 1, 1, tzinfo=UTC)), "x", actor="sam")).people
    with pytest.raises(InputError, match="the incident's"):
        issue(name, Scope("weather"), "x", actor="sam")
    with pytest.raises(InputError, match="at most 500"):
        Scope("risk", answers=tuple(f"{number:064x}" for number in range(501)))


def test_closing_waits_for_a_recall_until_it_is_read_or_ended(house: House) -> None:
    answers = [house.answer("dr.gone"), house.answer("dr.here")]
    name = house.corrected(*answers)
    recall = house.incidents.recall(name, Scope("risk", answers=tuple(answers)), "x", actor="sam")
    house.incidents.recalls.acknowledge(recall.digest, "dr.here")
    with pytest.raises(GateRefused, match="1 have not acknowledged"):
        house.incidents.sign(name, house.officer, comment="x")
    house.incidents.end_recall(recall.digest, "dr.gone has left", actor="sam")
    assert house.incidents.recalls.notices("dr.gone") == []
    assert house.incidents.recalls.about(f"{0:064x}"), "the chart says so as long as the incident is open"
    house.incidents.sign(name, house.officer, comment="weighed")
    house.incidents.close(name, actor="sam")
    assert house.incidents.recalls.about(f"{0:064x}") == []


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shown=st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.booleans()), max_size=8))
def test_reach_kept_up_step_by_step_is_reach_computed_at_once(house: House, shown: list) -> None:
    """The fast way (only what is new is read) against the slow twin (every answer, from the start)."""
    name = house.report(house.answer("dr.first")).digest
    recall = house.incidents.recall(name, Scope("risk", model="5" * 64), "x", actor="sam")
    before = {key: seen.answers for key, (seen, _) in house.incidents.recalls.tally(recall).people.items()}
    for user, is_shown, is_affected in shown:
        house.answer(user, showing="shown" if is_shown else "shadow", model="5" * 64 if is_affected else "6" * 64)
        house.incidents.recalls.tally(recall)
    slow = dict(before)
    for user, is_shown, is_affected in shown:
        if is_shown and is_affected:
            slow[user] = slow.get(user, 0) + 1
    fast = {key: seen.answers for key, (seen, _) in house.incidents.recalls.tally(recall).people.items()}
    assert fast == slow
    assert fast == {k: s.answers for k, (s, _) in house.open().recalls.tally(recall).people.items()}


@pytest.mark.parametrize("regulator", ["fda", "mhra"])
def test_an_export_fills_in_what_is_stated_and_marks_the_rest_open(
    house: House, regulator: str, tmp_path: Path
) -> None:
    name = house.corrected(house.answer("dr.reyes", 3), severity="death")
    made = export(house.incidents, name, regulator, institution="=Riverbend", actor="sam")
    assert len(made.items) == len(fields(regulator))
    assert all(bool(item.value) != bool(item.open_for) for item in made.items), "filled in, or open for somebody"
    labels = {item.label: item for item in made.items}
    open_items = [item.label for item in made.items if item.open_for]
    assert any("sex" in label.lower() for label in open_items)
    assert not any("Ines" in item.value for item in made.items)
    cause = next(item for label, item in labels.items() if "oot cause" in label)
    assert "The record was wrong" in cause.value
    assert "ledger entry" in cause.source
    paths = made.write(tmp_path / "out")
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == {0o600}
    rows = list(csv.DictReader(paths[1].read_text().splitlines()))
    assert [row["label"] for row in rows] == [item.label for item in made.items]
    assert "'=Riverbend" in {row["value"] for row in rows}, "no spreadsheet takes it for a formula"
    assert house.incidents.get("1").exported == {regulator: made.digest}
    told = export(house.incidents, name, regulator, institution="R", actor="sam", with_words=True)
    assert any(SECRET in item.value for item in told.items)
    with pytest.raises(InputError, match="regulator"):
        export(house.incidents, name, "guild", institution="R", actor="sam")


def test_the_policy_is_data_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    for regulator in Policy.load().demands.regulator:
        assert fields(regulator.name)
    for old, new in (("triage_hours = 4", "triage_hours = 0"), ("death = 10", "doom = 10"), ("[[cause]]", "[[why]]")):
        path = tmp_path / "policy.toml"
        path.write_text(DEFAULT.read_text().replace(old, new))
        with pytest.raises(InputError, match=r"policy\.toml"):
            Policy.load(path)


def test_a_trace_of_the_answer_names_the_incident(house: House) -> None:
    digest = house.answer("dr.reyes")
    house.report(digest)
    assert "incident: reported" in str(trace(house.log, digest))
