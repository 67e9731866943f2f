"""Data sets as strangers have them: tiny, wide, bare, lopsided, long; and never a look past the prompt."""

from collections.abc import Callable
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifechart.data.meds_folder import EVENTS
from lifechart.model.labelled import dense, trees
from lifechart.model.labelled.train import fit_labels

NOON = datetime(2020, 1, 1, 12)
Made = tuple[list[tuple], list[tuple]]


@pytest.fixture(autouse=True, scope="module")
def quick() -> None:
    with pytest.MonkeyPatch.context() as patch:
        small = {"few-trees": trees.Shape(max_leaf_nodes=4, max_iter=15, n_iter_no_change=5)}
        patch.setattr(trees, "SHAPES", small)
        patch.setattr(dense, "_STEPS", 48)
        yield


def frames(made: Made) -> tuple[pl.DataFrame, pl.DataFrame]:
    schema = {"subject_id": pl.Int64, "prediction_time": pl.Datetime("us"), "boolean_value": pl.Boolean}
    return pl.DataFrame(made[0], EVENTS, orient="row"), pl.DataFrame(made[1], schema, orient="row")


def four_people(rng: np.random.Generator) -> Made:
    people = range(4)
    return [(p, NOON, "X", float(p), None) for p in people], [(p, NOON, p < 2) for p in people]


def wide(rng: np.random.Generator) -> Made:
    """Two hundred people, seven hundred codes."""
    ill = rng.random(200) < 0.4
    events = [
        (p, NOON - timedelta(days=float(rng.uniform(0, 900))), f"C{c}", None, None)
        for p in range(200)
        for c in rng.choice(700, 60, replace=False)
    ]
    events += [(p, NOON, "TELLS", None, None) for p in np.flatnonzero(ill & (rng.random(200) < 0.9)).tolist()]
    return events, [(p, NOON, bool(ill[p])) for p in range(200)]


def undated(rng: np.random.Generator) -> Made:
    """Nothing has a time."""
    value = rng.normal(size=150)
    events = [(p, None, "X", float(value[p]), None) for p in range(150)]
    events += [(p, None, "SEX", None, "F" if p % 2 else "M") for p in range(150)]
    return events, [(p, NOON, bool(value[p] > 0.5)) for p in range(150)]


def lopsided(rng: np.random.Generator) -> Made:
    """Six of six hundred."""
    events = [(p, NOON, "X", 9.0 * (p < 6) + float(rng.normal()), None) for p in range(600)]
    return events, [(p, NOON, p < 6) for p in range(600)]


def long(rng: np.random.Generator) -> Made:
    """Few people, many prompts each at its own time, one person with most of them."""
    events, labels = [], []
    for person in range(30):
        for day in range(300 if person == 0 else 12):
            at, ill = NOON + timedelta(days=day), rng.random() < 0.3
            events.append((person, at, "X", 3.0 * ill + float(rng.normal()), None))
            labels += [(person, at, ill)] * (1 + (day == 0))
    return events, labels


def torn(rng: np.random.Generator) -> Made:
    """Texts that are empty, blank, null, no number, or as long as a letter; values that are null or all the same."""
    texts = [None, "", "  ", "nan", "inf", "1e400", "yes", "y" * 300, " 7 ", "\u00e9\u4e2d"]
    events = [(p, NOON, "T", None, texts[p % len(texts)]) for p in range(120)]
    events += [(p, NOON, "SAME", 1.0, None) for p in range(120)]
    events += [(p, NOON, "HUGE", 3e38 * (-1) ** p, None) for p in range(120)]
    return events, [(p, NOON, texts[p % len(texts)] == "yes" or p == 0) for p in range(120)]


def nothing_tells(rng: np.random.Generator) -> Made:
    """Everybody's record is the same."""
    return [(p, NOON, "X", 1.0, None) for p in range(60)], [(p, NOON, p % 3 == 0) for p in range(60)]


@pytest.mark.parametrize("make", [four_people, wide, undated, lopsided, long, torn, nothing_tells])
@pytest.mark.parametrize("survival", [False, True])
def test_whatever_it_is_given_it_says_a_probability(
    make: Callable[[np.random.Generator], Made], survival: bool
) -> None:
    rng = np.random.default_rng(1)
    events, labels = frames(make(rng))
    if survival:
        labels = labels.with_columns(days=pl.Series(rng.integers(0, 400, labels.height).astype(float)))
    summary, features, fitted, unseen = fit_labels(events, labels, 0)
    assert features.shape == (labels.height, len(summary.kept))
    asked = pl.concat([labels.select("subject_id", "prediction_time").head(20), stranger()])
    said = fitted.probabilities(fitted.scores(summary.matrix(events, asked)), 100.0 if survival else None)
    assert np.isfinite(said).all()
    assert ((said >= 0) & (said <= 1)).all()
    assert np.isfinite(unseen.scores).all()


def stranger() -> pl.DataFrame:
    """Return a prompt of somebody without any event."""
    return pl.DataFrame({"subject_id": [10**9], "prediction_time": [NOON]}).cast({"prediction_time": pl.Datetime("us")})


@pytest.mark.parametrize("make", [wide, undated, lopsided])
def test_what_tells_is_found(make: Callable[[np.random.Generator], Made]) -> None:
    events, labels = frames(make(np.random.default_rng(1)))
    *_, unseen = fit_labels(events, labels, 0)
    truth = labels["boolean_value"].to_numpy()
    higher = np.mean(unseen.scores[truth][:, None] > unseen.scores[~truth][None, :])
    assert higher > 0.8


@pytest.fixture(scope="module")
def learnt() -> tuple:
    events, labels = frames(long(np.random.default_rng(2)))
    return events, labels, fit_labels(events, labels, 0)


@given(
    day=st.floats(0, 12),
    code=st.sampled_from(["X", "MEDS_BIRTH", "MEDS_DEATH", "NEW", "T"]),
    after=st.floats(1e-6, 1e4),
    value=st.one_of(st.none(), st.floats(-1e6, 1e6)),
    text=st.sampled_from([None, "dead", "5"]),
)
@settings(max_examples=40, deadline=None)
def test_nothing_after_the_prompt_moves_a_forecast(learnt: tuple, day, code, after, value, text) -> None:
    events, _, (summary, _, fitted, _) = learnt
    moment = NOON + timedelta(days=day)
    asked = pl.DataFrame({"subject_id": [0, 3], "prediction_time": [moment] * 2})
    asked = asked.cast({"prediction_time": pl.Datetime("us")})
    later = [(p, moment + timedelta(days=after), code, value, text) for p in (0, 3)]
    more = pl.concat([events, pl.DataFrame(later, EVENTS, orient="row")])
    known = events.filter(pl.col("time") <= moment)
    said = [fitted.scores(summary.matrix(each, asked)) for each in (known, events, more)]
    np.testing.assert_allclose(said[1], said[0], atol=1e-4)
    np.testing.assert_allclose(said[2], said[0], atol=1e-4)
