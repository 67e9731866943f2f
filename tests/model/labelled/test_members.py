"""Members: trees against scikit-learn's own answers, survival as counts against lifelines, folds, and a blend."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from bench._real_data import _settled_by_death
from lifechart.core.errors import InputError
from lifechart.model.labelled import dense, linear, trees
from lifechart.model.labelled import fit as fit_module
from lifechart.model.labelled.blend import fit_blend
from lifechart.model.labelled.fit import fit
from lifechart.model.labelled.folds import folds_of
from lifechart.model.labelled.linear import fit_path
from lifechart.model.labelled.scaling import Scaling
from lifechart.model.labelled.target import Baseline, Target
from lifechart.model.labelled.trees import Trees, _exported, screened, strength, strongest, unexplained


def sample(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows, 8)).astype(np.float32)
    features[rng.random(features.shape) < 0.2] = np.nan
    score = np.nan_to_num(features[:, 0]) + np.nan_to_num(features[:, 1]) ** 2 - 1.5 + 0.5 * np.isnan(features[:, 2])
    return features, rng.random(rows) < 1 / (1 + np.exp(-score)), score


@pytest.mark.parametrize("model", [HistGradientBoostingClassifier, HistGradientBoostingRegressor])
def test_exported_trees_answer_as_scikit_learn_does(model) -> None:
    features, event, _ = sample(600)
    settings = {"max_iter": 30, "max_leaf_nodes": 9, "min_samples_leaf": 5, "early_stopping": False, "random_state": 0}
    if model is HistGradientBoostingRegressor:
        fitted = model(loss="poisson", **settings).fit(features, event + 0.1)
        expected = np.log(fitted.predict(features))
    else:
        fitted = model(**settings).fit(features, event)
        expected = fitted.decision_function(features)
    trees = _exported(fitted, np.arange(8))
    np.testing.assert_allclose(trees.scores(features), expected, atol=1e-9)
    joined = Trees.joined([trees, trees])
    np.testing.assert_allclose(joined.scores(features), expected, atol=1e-9)
    wide = np.concatenate([np.zeros((600, 3), np.float32), features], axis=1)
    np.testing.assert_allclose(trees.moved(np.arange(3, 11)).scores(wide), expected, atol=1e-9)


def test_counts_with_the_baseline_hazard_as_exposure_are_cox_regression() -> None:
    lifelines = pytest.importorskip("lifelines")
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(3)
    x = rng.normal(size=(1500, 2)).astype(np.float32)
    true = np.array([0.8, -0.5])
    time = rng.exponential(1 / np.exp(x @ true) * 1000)
    stop = rng.uniform(100, 2000, size=1500)
    days, event = np.minimum(time, stop), time <= stop
    scores = np.zeros(1500)
    for _ in range(4):
        target = Target(event, Baseline.of(days, event, scores - scores.mean()).exposure(days))
        weight, start = fit_path(x, target, (1e-3,))[0]
        scores = x @ weight + start
    frame = pandas.DataFrame(x).assign(days=days, event=event)
    cox = lifelines.CoxPHFitter().fit(frame, "days", "event")
    np.testing.assert_allclose(weight, cox.params_.to_numpy(), atol=0.02)
    ours = Baseline.of(days, event, scores - scores.mean()).at(np.array([500.0]))[0]
    theirs = float(cox.baseline_cumulative_hazard_.loc[:500].iloc[-1, 0])
    # lifelines centres its covariates.
    assert ours == pytest.approx(theirs * np.exp(scores.mean() - x.mean(0) @ weight - start), rel=0.05)


def test_gradients_are_those_of_the_losses() -> None:
    rng = np.random.default_rng(0)
    scores, event = rng.normal(size=40), rng.random(40) < 0.4
    for target in (Target(event), Target(event, rng.exponential(size=40))):
        slope = target.gradient(scores)
        for row in range(0, 40, 7):
            step = np.zeros(40)
            step[row] = 1e-5
            numeric = (target.loss(scores + step) - target.loss(scores - step)) / 2e-5 * 40
            assert numeric == pytest.approx(slope[row], abs=1e-5)
        flat = target.gradient(np.full(40, target.start)).mean()
        assert abs(flat) < 0.02


def test_folds_never_split_a_subject_and_spread_events() -> None:
    rng = np.random.default_rng(1)
    subjects = rng.integers(0, 60, 400)
    event = np.isin(subjects, [1, 2, 3, 4, 5, 6, 7])
    folds = folds_of(subjects, event, 0)
    for subject in np.unique(subjects):
        assert len(np.unique(folds[subjects == subject])) == 1
    assert all(event[folds == fold].any() for fold in range(5))
    assert folds_of(np.arange(50), np.arange(50) < 3, 0).max() == 2, "three with the event: three folds"
    with pytest.raises(InputError, match="at least two subjects of each"):
        folds_of(np.arange(50), np.arange(50) < 1, 0)


def test_a_blend_prefers_what_knows_and_never_goes_below_nothing() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=3000)
    event = rng.random(3000) < 1 / (1 + np.exp(-truth))
    members = np.stack([truth, rng.normal(size=3000), -truth], axis=1)
    blend = fit_blend(members, Target(event))
    assert blend.weight[0] > 0.7
    assert blend.weight[1] < 0.15
    assert (blend.weight >= 0).all()
    few = fit_blend(members[:12], Target(event[:12]))
    assert few.weight[1] > 0.05, "few rows leave the weights near equal"


def test_a_blend_of_two_questions_lies_between_them() -> None:
    rng = np.random.default_rng(0)
    early, late = rng.normal(size=(2, 3000))
    came_early, came_late = rng.random((2, 3000)) < 1 / (1 + np.exp(-np.stack([early, late])))
    members, first, second = np.stack([early, late], axis=1), Target(came_early), Target(came_late)
    alone, both = fit_blend(members, first), fit_blend(members, first, second)
    assert alone.weight[0] > 0.8
    assert alone.weight[1] < 0.1
    assert abs(both.weight[0] - both.weight[1]) < 0.15


def test_a_horizon_turns_the_forecast_to_those_who_come_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """One trait hastens events of the first 100 days, another those after: most come late."""
    shape = trees.Shape(max_leaf_nodes=4, max_iter=60, n_iter_no_change=10)
    monkeypatch.setattr(trees, "SHAPES", {"small-trees": shape, trees.OTHERWISE: shape})
    monkeypatch.setattr(dense, "_STEPS", 96)
    rng = np.random.default_rng(5)
    x = rng.normal(size=(1500, 2)).astype(np.float32)
    soon = rng.exponential(800 / np.exp(1.2 * x[:, 0]))
    days = np.where(soon < 100, soon, 100 + rng.exponential(150 / np.exp(1.2 * x[:, 1])))
    event = days < 500
    days = np.minimum(days, 500.0)
    near, _ = fit(x, np.arange(1500), event, days, 0, horizon=100.0)
    far, _ = fit(x, np.arange(1500), event, days, 0)
    early = days < 100

    def auroc(scores: np.ndarray) -> float:
        return float(np.mean(scores[early][:, None] > scores[~early][None, :]))

    assert auroc(near.scores(x)) > auroc(far.scores(x)) + 0.02
    few, _ = fit(x[:200], np.arange(200), event[:200], days[:200], 0, horizon=1.0)
    assert np.isfinite(few.scores(x)).all(), "too few events by the horizon: learnt from all of the follow-up"


def in_turn(work, number: int):
    return [work(place) for place in range(number)]


def test_a_short_score_reads_the_columns_that_each_folds_training_rows_call_strongest() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(400, 300)).astype(np.float32)
    event = rng.random(400) < 1 / (1 + np.exp(-2 * x[:, 7]))
    target, folds = Target(event), folds_of(np.arange(400), event, 0)
    strengths = trees.strengths_in(x, target, folds, in_turn, True)
    for fold in range(5):
        inside = folds != fold
        expected = strength(x[inside], unexplained(target.take(inside))[:, None])[:, 0]
        np.testing.assert_array_equal(strengths[fold], expected)
    scores, short = linear.crossfit(x, target, folds, in_turn, strengths, True)
    read = np.flatnonzero(short.weight)
    assert 7 in read
    assert len(read) <= linear.SIZES[0], "of one column that tells, the fewest are read"
    assert set(read) <= set(np.argsort(-strengths[-1], kind="stable")[:20].tolist()), "as all rows call them"
    long_scores, _ = linear.crossfit(x, target, folds, in_turn)
    assert target.loss(scores) < target.loss(long_scores)


def test_what_forecasts_has_learnt_from_everybody() -> None:
    features, event, _ = sample(400)
    target, folds = Target(event), folds_of(np.arange(400), event, 0)
    scaled = Scaling.of(features, 0).scaled(features)
    _, line = linear.crossfit(scaled, target, folds, in_turn, None, True)
    assert any(np.allclose(line.weight, weight) for weight, _ in fit_path(scaled, target))
    shape = trees.Shape(max_leaf_nodes=4, max_iter=60, n_iter_no_change=10)
    strengths = trees.strengths_in(features, target, folds, in_turn, True)
    scores, grown = trees.crossfit(features, target, folds, shape, 0, in_turn, strengths, True)
    own = trees.fit_trees(features, target, replace(shape, max_iter=len(grown.root)), 5)
    np.testing.assert_allclose(grown.scores(features), own.scores(features))
    assert target.loss(grown.scores(features)) < target.loss(scores), "everybody was seen"


def test_small_data_are_learnt_in_several_divisions_and_the_parts_score_as_their_mean(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shape = trees.Shape(max_leaf_nodes=4, max_iter=12, n_iter_no_change=5)
    monkeypatch.setattr(trees, "SHAPES", {"small-trees": shape, trees.OTHERWISE: shape})
    monkeypatch.setattr(dense, "_STEPS", 32)
    features, event, _ = sample(300)
    thrice, unseen = fit(features, np.arange(300), event, None, 0)
    monkeypatch.setattr(fit_module, "_FEW_CELLS", 0)
    monkeypatch.setattr(fit_module, "_SCARCE", 100)
    scarce, _ = fit(features, np.arange(300), event, None, 0)
    assert len(scarce.members["small-trees"].start) == 1, "few rows for their width: grown to everybody"
    monkeypatch.undo()
    monkeypatch.setattr(trees, "SHAPES", {"small-trees": shape, trees.OTHERWISE: shape})
    monkeypatch.setattr(dense, "_STEPS", 32)
    monkeypatch.setattr(fit_module, "_FEW_CELLS", 0)
    once, _ = fit(features, np.arange(300), event, None, 0)
    assert list(thrice.members) == list(once.members) == ["linear", "dense", "small-trees", trees.OTHERWISE]
    assert len(thrice.members["dense"].start) == 15
    assert len(once.members["dense"].start) == 5
    assert len(thrice.members["small-trees"].start) == 15
    assert len(once.members["small-trees"].start) == 5
    assert np.isfinite(unseen.members).all()
    scaled = thrice.scaling.scaled(features)
    for name, rows in (("linear", scaled), ("dense", scaled), ("small-trees", features)):
        parts = [thrice.members[name], once.members[name]]
        if name != "linear":
            parts = parts[1:] * 2
        expected = np.mean([part.scores(rows) for part in parts], axis=0)
        np.testing.assert_allclose(type(parts[0]).joined(parts).scores(rows), expected, atol=1e-5)


def test_in_the_benchmark_a_death_settles_that_the_event_never_comes() -> None:
    told = pl.DataFrame({"days": [100, 200, 900, 50], "came": [False, True, False, False], "died": [1, 1, 0, 0]})
    settled = _settled_by_death(told, pl.col("died") == 1)
    assert settled["days"].to_list() == [900, 200, 900, 50], "dead without it; dead with it; followed; left"
    assert settled["came"].to_list() == told["came"].to_list()


def test_screening_keeps_what_goes_with_the_target() -> None:
    features, event, _ = sample(2000)
    features[:, 7] = 1.0
    kept = screened(features, Target(event), 3)
    assert 0 in kept
    assert 7 not in kept


def test_one_pass_screens_for_many_targets_as_one_for_each() -> None:
    features, event, _ = sample(900)
    others = np.random.default_rng(9).random(900) < 0.2
    residuals = np.stack([unexplained(Target(each)) for each in (event, others)], axis=1)
    together = strength(features, residuals)
    for number in (0, 1):
        np.testing.assert_allclose(together[:, number], strength(features, residuals[:, [number]])[:, 0], rtol=1e-9)
    best = strongest(features, together[:, 0], 3)
    np.testing.assert_array_equal(best, screened(features, Target(event), 3))
    some = features[:50].copy()
    some[:, best[0]] = np.nan
    assert best[0] not in strongest(some, together[:, 0], 3), "nobody among these rows has it"


def test_a_fit_ranks_better_than_chance_for_both_kinds_and_is_repeatable(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"few-trees": trees.Shape(max_leaf_nodes=4, max_iter=40, n_iter_no_change=10)}
    monkeypatch.setattr(trees, "SHAPES", small)
    monkeypatch.setattr(dense, "_STEPS", 160)
    features, event, score = sample(300)
    subjects = np.arange(300)
    fitted, unseen = fit(features, subjects, event, None, 0)
    again, _ = fit(features, subjects, event, None, 0)
    np.testing.assert_array_equal(fitted.scores(features), again.scores(features))
    assert np.corrcoef(unseen.scores, score)[0, 1] > 0.4
    days = np.random.default_rng(0).exponential(100 / np.exp(score))
    timed, _ = fit(features, subjects, days < 150, np.minimum(days, 150.0), 0)
    near, far = (timed.probabilities(timed.scores(features), horizon) for horizon in (30.0, 120.0))
    assert (far >= near).all()
    assert abs(far.mean() - (days < 120).mean()) < 0.08


def test_scaling_ranks_and_marks() -> None:
    rng = np.random.default_rng(0)
    features = np.stack([np.exp(rng.normal(size=500)), rng.integers(0, 2, 500)], axis=1).astype(np.float32)
    features[:100, 0] = np.nan
    scaling = Scaling.of(features, 0)
    scaled = scaling.scaled(features)
    assert scaled.shape == (500, 5), "two ranked, two plain, one mark"
    held = ~np.isnan(features[:, 0])
    order = np.argsort(features[held, 0])
    assert (np.diff(scaled[held, 0][order]) >= -1e-6).all()
    assert abs(scaled[held, 0].mean()) < 0.05
    assert (scaled[:, 4] == ~held).all()
    assert np.isfinite(scaling.scaled(np.full((2, 2), np.nan, np.float32))).all()
