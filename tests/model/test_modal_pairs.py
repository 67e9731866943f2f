"""Combinations: found on families of outcomes where no outcome has enough, and not found where there is none."""

import numpy as np
import pytest
from numpy.typing import NDArray

from lifechart.model.modal_evidence import by_person, score_by_person, scores
from lifechart.model.modal_pairs import Slots, families, find_products, independent

Matrix = NDArray[np.float64]
FEWEST = 15


def _mixed(people: int, rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    """Return a coin and six components that hold it, turned among normals, none of which is it."""
    coin = rng.choice([-1.0, 1.0], people)
    turn, _ = np.linalg.qr(rng.standard_normal((6, 6)))
    return coin, np.concatenate([coin[:, None], rng.standard_normal((people, 5))], axis=1) @ turn


def _hospital(seed: int, effect: float) -> tuple[Slots, Matrix, Matrix]:
    """Return two slots and twelve outcomes of which the first five follow a coin of the one times the other's score."""
    rng = np.random.default_rng(seed)
    people, each = 1_500, 4
    subject = np.repeat(np.arange(people), each)
    coin, parts = _mixed(people, rng)
    score = rng.standard_normal(people)
    frailty = rng.standard_normal((people, 2))
    expected = np.full((people * each, 12), 26.0 / (people * each))
    told = np.zeros((people, 12))
    # What the record leaves open strikes the first five together, and the next four.
    told[:, :5] = (effect * coin * score + 1.5 * frailty[:, 0])[:, None]
    told[:, 5:9] = 1.5 * frailty[:, [1]]
    rate = expected * np.exp(told)[subject]
    came = rng.poisson(rate * expected.sum(axis=0) / rate.sum(axis=0)).clip(0, 1).astype(float)
    state = np.concatenate([parts, score[:, None]], axis=1)[subject]
    there = np.ones((2, len(subject)), bool)
    return Slots(state, there, (np.arange(6), np.array([6])), subject), came, expected


def test_outcomes_that_strike_together_form_a_family() -> None:
    slots, came, expected = _hospital(0, 0.7)
    found = {frozenset(family) for family in families(came, expected, slots.subject)}
    assert frozenset(range(5)) in found
    assert frozenset(range(5, 9)) in found
    assert len(found) == 2 * 12 - 1


def test_a_combination_is_found_on_a_family_where_outcomes_one_by_one_have_too_few() -> None:
    together, strangers, single = 0, 0, 0
    for seed in range(5):
        slots, came, expected = _hospital(seed, 0.7)
        outcomes = {
            outcome for product in find_products(slots, came, expected, FEWEST, 24) for outcome in product.widths
        }
        together += len(outcomes & set(range(5)))
        strangers += len(outcomes - set(range(5)))
        single += sum(bool(find_products(slots, came[:, [one]], expected[:, [one]], FEWEST, 24)) for one in range(5))
    assert together >= 20
    assert strangers <= 2
    assert single <= 17


def test_noise_is_no_combination() -> None:
    """Outcomes that strike together for reasons that neither slot tells."""
    entered = [find_products(*_hospital(seed, 0.0), FEWEST, 24) for seed in range(20)]
    assert sum(map(bool, entered)) <= 1


def test_of_two_kinds_one_direction_tells() -> None:
    coin, parts = _mixed(1_000, np.random.default_rng(1))
    alone = [abs(np.corrcoef(parts[:, one], coin)[0, 1]) for one in range(6)]
    turned = parts @ independent(parts)
    assert abs(np.corrcoef(turned[:, 0], coin)[0, 1]) > 0.97 > max(alone)
    np.testing.assert_allclose(np.cov(turned.T), np.eye(6), atol=1e-6)
    np.testing.assert_array_equal(independent(parts), independent(parts.copy()))


@pytest.mark.parametrize("seed", [0, 1])
def test_scores_are_those_of_each_feature_by_itself(seed: int) -> None:
    slots, came, expected = _hospital(seed, 0.5)
    both = scores(slots.state, came, expected)
    for feature, outcome in ((0, 3), (6, 11)):
        rate = expected[:, outcome] * came[:, outcome].sum() / expected[:, outcome].sum()
        centred = slots.state[:, feature] - np.average(slots.state[:, feature], weights=rate)
        alone = centred @ (came[:, outcome] - rate) / np.sqrt(rate @ centred**2)
        np.testing.assert_allclose(both[feature, outcome], alone, rtol=1e-9)


def test_one_persons_onsets_count_as_one_persons() -> None:
    """Each window four times over: the score between windows doubles, that between people stays."""
    slots, came, expected = _hospital(4, 1.1)
    feature, outcome, owner = slots.state[:, 6], came[:, 0], slots.subject
    again = np.tile(feature, 4), np.tile(outcome, 4), np.tile(expected[:, 0], 4), np.tile(owner, 4)
    once = score_by_person(feature, outcome, expected[:, 0], owner)
    np.testing.assert_allclose(score_by_person(*again), once, rtol=1e-9)
    np.testing.assert_allclose(by_person(came, owner)[7], came[owner == 7].sum(axis=0))
