"""Answers kept from sight: sealed until their time, labelled once, adjudicated; and what a phase asks of all that."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

from bench._institution import PAIR, Institution
from lifechart.core.errors import GateRefused, InputError, IntegrityError
from lifechart.core.settings import Settings
from lifechart.release.shadow.course import Course
from lifechart.release.shadow.queue import Verdict, adjudicate, disagrees, label, num_alerts
from lifechart.release.shadow.sealing import Opener, Seals, make_keys

NOW = datetime(2026, 3, 1, tzinfo=UTC)
CLAIMS = [
    {"outcome": "A", "horizon_days": 30, "probability": 0.7},
    {"outcome": "B", "horizon_days": 30, "probability": 0.1},
    {"outcome": "A", "horizon_days": 365, "probability": 0.9},
]


def kept(folder: Path) -> tuple[Settings, Seals]:
    settings = Settings(home=folder / "home")
    seals = Seals.open(settings)
    about = {"answer": "a" * 64, "model": "b" * 64, "patient": "ines", "as_of": NOW.replace(tzinfo=None)}
    seals.keep(**about, claims=CLAIMS, now=NOW)
    return settings, seals


def test_a_box_opens_when_its_time_is_up_and_not_before(tmp_path: Path) -> None:
    settings, seals = kept(tmp_path)
    opener, (month, year) = Opener.of(settings), list(seals.all())
    with pytest.raises(GateRefused, match="sealed until 2026-03-31"):
        opener.open(month, NOW + timedelta(days=29))
    opened = opener.open(month, NOW + timedelta(days=30))
    assert (opened.patient, opened.claims) == ("ines", {"A": 0.7, "B": 0.1})
    with pytest.raises(GateRefused, match="sealed until 2027-03-01"):
        opener.open(year, NOW + timedelta(days=30))


def test_nothing_of_an_answer_can_be_read_from_its_file(tmp_path: Path) -> None:
    _, seals = kept(tmp_path)
    (path,) = seals.folder.glob("*.ndjson")
    assert b"ines" not in path.read_bytes()
    assert b"0.7" not in path.read_bytes()
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(("key", "value"), [("until", "2026-03-02T00:00:00+00:00"), ("answer", "c" * 64)])
def test_a_box_whose_label_was_rewritten_does_not_open(tmp_path: Path, key: str, value: str) -> None:
    settings, seals = kept(tmp_path)
    (path,) = seals.folder.glob("*.ndjson")
    rows = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    path.write_bytes(orjson.dumps({**rows[0], key: value}, option=orjson.OPT_SORT_KEYS) + b"\n")
    with pytest.raises(IntegrityError, match="its box was changed"):
        Opener.of(settings).open(next(seals.all()), NOW + timedelta(days=40))


def test_a_steward_takes_the_key_away_and_the_server_cannot_open(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    make_keys(settings, tmp_path / "stick" / "shadow.key")
    with pytest.raises(InputError, match="answers are sealed under it"):
        make_keys(settings, tmp_path / "other.key")
    _, seals = kept(tmp_path)
    with pytest.raises(InputError, match="shadow key"):
        Opener.of(settings)
    assert Opener.load(tmp_path / "stick" / "shadow.key").open(next(seals.all()), NOW + timedelta(days=40))


def test_a_label_is_stated_once_and_disagreements_wait_for_a_human(tmp_path: Path) -> None:
    house = Institution(tmp_path)
    release = house.release()
    house.shadow(release)
    model, course = release.manifest.model_digest, Course(house.log)
    before = course.of(model)
    assert (before.answers, before.labelled, before.queue, before.adjudicated) == (120, 120, (), 1.0)
    settings, seals = kept(tmp_path)
    seal = next(seals.all())
    opened = Opener.of(settings).open(seal, NOW + timedelta(days=40))

    seal = replace(seal, model=model)
    about = {"capability": "risk", "patient": "d" * 64, "read": "2026-04-02"}
    label(house.log, seal, opened, {"B": NOW}, **about)
    with pytest.raises(GateRefused, match="labelled already"):
        label(house.log, seal, opened, {}, **about)
    found = course.of(model)
    assert {each.outcome for each in found.queue} == {"A", "B"}, (
        "the likely did not come, the unlikely did"
    )
    assert (found.observed, found.adjudicated) == (1, 0.0)
    with pytest.raises(InputError, match="one whose claim of"):
        adjudicate(house.log, seal.answer, PAIR[0], 30, Verdict.UNCLEAR, actor="dr.li")
    adjudicate(house.log, seal.answer, "A", 30, Verdict.RECORD_WRONG, actor="dr.li")
    assert course.of(model).adjudicated == 0.5
    assert Course(house.log).of(model) == course.of(model), "kept up or read anew, it is the same"


def test_an_alert_is_a_likely_outcome_within_a_year() -> None:
    assert num_alerts(CLAIMS) == 1
    assert num_alerts([{"outcome": "A", "horizon_days": 1825, "probability": 0.9}]) == 0
    assert disagrees({"probability": 0.7, "happened": False})
    assert not disagrees({"probability": 0.7, "happened": True})
