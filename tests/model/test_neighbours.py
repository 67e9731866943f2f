"""The index of the people most alike tells aggregates alone, keeps nobody's id, and forgets who has withdrawn."""

from pathlib import Path

import numpy as np
import pytest

from lifechart.core.errors import IntegrityError
from lifechart.core.timeline import Timeline
from lifechart.model.inference import Told
from lifechart.model.neighbours import FEWEST, HORIZON, NEAREST, NEIGHBOURS, Neighbours, index_of
from lifechart.model.questions import Labels

OUTCOMES = ("A", "B", "C")


def world(people: int, seed: int = 0, per_life: int = 3) -> tuple[Told, Labels, np.ndarray]:
    """Three questions a life; a hidden level sets the log hazards of A and B, and whether A comes within five years."""
    rng = np.random.default_rng(seed)
    subject = np.repeat(np.arange(people), per_life)
    level = rng.normal(size=people)[subject]
    hazard = np.stack([level, -level, rng.normal(size=len(level))], axis=1)[:, :, None].repeat(4, axis=2)
    came = rng.random(len(level)) < 1 / (1 + np.exp(-2 * level))
    days = np.full((len(level), 3), np.inf, np.float32)
    days[came, 0] = 900.0
    observed = np.full(len(level), 3000.0, np.float32)
    had = np.zeros((len(level), 3), bool)
    had[:, 2] = rng.random(len(level)) < 0.5
    told = Told(hazard.astype(np.float32), np.zeros((len(level), 2), np.float32), had)
    return told, Labels(days, observed, observed, had), subject


def made(people: int = 3000, seed: int = 0) -> Neighbours:
    told, labels, subject = world(people, seed)
    return index_of(told, labels, subject, OUTCOMES, told.log_hazard, np.random.default_rng(1))


def moment(level: float) -> np.ndarray:
    return np.array([level, -level, 0.0], np.float32)[:, None].repeat(4, axis=1)


def test_one_row_a_person_and_nobodys_id(tmp_path: Path) -> None:
    index = made()
    assert len(index.place) == 3000
    digest = index.save(tmp_path)
    with np.load(tmp_path / NEIGHBOURS) as arrays:
        assert set(arrays.files) == {"outcomes", "middle", "spread", "axes", "place", "had", "came"}
    again = Neighbours.load(tmp_path, digest)
    assert again is not None
    assert again.digest == digest
    np.testing.assert_array_equal(again.came, index.came)
    np.testing.assert_array_equal(again.had, index.had)
    np.testing.assert_allclose(again.place, index.place, atol=5e-3)


def test_counts_are_those_of_the_nearest_rounded() -> None:
    index = made()
    here = moment(0.4)
    point = (here.mean(axis=1) - index.middle) / index.spread @ index.axes
    nearest = sorted(range(3000), key=lambda n: float(((index.place[n] - point) ** 2).sum()))[:NEAREST]
    found = index.alike(here)
    assert (found.people, found.among, found.horizon_days) == (NEAREST, 3000, HORIZON)
    told = {each.outcome: each for each in found.became}
    had = sum(index.came[n, 0] and not index.had[n, 0] for n in nearest)
    assert told["A"].at_risk == NEAREST
    assert abs((told["A"].had or 0) - had) <= 2.5
    assert (told["A"].had or 0) % 5 == 0
    assert told["C"].at_risk % 5 == 0
    assert told["C"].at_risk < NEAREST


def test_those_alike_fare_alike() -> None:
    index = made()
    shares = [next(each for each in index.alike(moment(level)).became if each.outcome == "A") for level in (-0.8, 0.8)]
    assert (shares[1].had or 0) > (shares[0].had or 0) + 40


def test_few_are_not_counted_and_nearly_all_are_not_told() -> None:
    index = made()
    told = {each.outcome: each for each in index.alike(moment(0.0)).became}
    assert told["B"].had is None
    everybody = Neighbours(OUTCOMES, index.middle, index.spread, index.axes, index.place, index.had, ~index.came)
    assert "B" not in {each.outcome for each in everybody.alike(moment(0.0)).became}


def test_too_few_people_are_refused_with_the_reason() -> None:
    found = made(5 * FEWEST - 5).alike(moment(0.0))
    assert found.became == ()
    assert "too few people" in found.refusal
    assert made(5 * FEWEST).alike(moment(0.0)).refusal == ""


def test_only_people_whose_five_years_are_known_enter() -> None:
    told, labels, subject = world(400)
    short = Labels(labels.days_to, labels.observed, np.where(subject < 100, 1000.0, 3000.0), labels.had)
    assert len(index_of(told, short, subject, OUTCOMES, told.log_hazard, np.random.default_rng(0)).place) == 300


def test_who_has_withdrawn_is_gone_from_the_next_build() -> None:
    told, labels, subject = world(400)
    stays = subject != 7
    rest = Told(told.log_hazard[stays], told.state[stays], told.had[stays])
    left = Labels(labels.days_to[stays], labels.observed[stays], labels.window[stays], labels.had[stays])
    rng = np.random.default_rng(0)
    index = index_of(rest, left, subject[stays], OUTCOMES, rest.log_hazard, rng)
    theirs = told.log_hazard[subject == 7].mean(axis=2)
    assert len(index.place) == 399
    rows = index.place @ np.linalg.pinv(index.axes) * index.spread + index.middle
    assert np.abs(rows[:, None, 2] - theirs[None, :, 2]).min() > 1e-5


def test_another_index_is_refused_and_none_is_none(tmp_path: Path) -> None:
    digest = made(300).save(tmp_path)
    (tmp_path / NEIGHBOURS).write_bytes((tmp_path / NEIGHBOURS).read_bytes() + b"x")
    with pytest.raises(IntegrityError, match="not the index"):
        Neighbours.load(tmp_path, digest)
    (tmp_path / NEIGHBOURS).unlink()
    assert Neighbours.load(tmp_path, digest) is None


def test_a_private_model_counts_nobody_and_says_why(forecaster: object, later_events: object) -> None:
    from dataclasses import replace

    from lifechart.model.forecaster import NetworkForecaster

    assert isinstance(forecaster, NetworkForecaster)
    events = later_events.filter(later_events["subject_id"] == 10_003)  # type: ignore[attr-defined]
    life = Timeline.of(10_003, events.drop("subject_id"))
    assert life.end is not None
    assert forecaster.forecast(life, life.end).alike is None
    model = replace(forecaster.model, config={**forecaster.model.config, "privacy": {"epsilon": 8}})
    alike = NetworkForecaster(model, neighbours=made(300)).forecast(life, life.end).alike
    assert alike is not None
    assert alike.became == ()
    assert "no single patient" in alike.refusal
