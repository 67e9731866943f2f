"""Metrics against scikit-learn, against resampling the long way, and where there is nothing to measure."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from lifechart.evaluate import metrics
from lifechart.evaluate.metrics import METRICS, Sample, bootstrap_weights, evaluate


def sample_of(seed: int, n: int = 400, people: int = 60, decimals: int = 12) -> Sample:
    random = np.random.default_rng(seed)
    scores = expit(random.normal(-1.5, 1.2, n)).round(decimals)
    return Sample(random.random(n) < scores, scores, random.integers(0, people, n))


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 200), decimals=st.sampled_from([1, 2, 12]))
def test_agrees_with_scikit_learn(seed: int, n: int, decimals: int) -> None:
    sample = sample_of(seed, n, decimals=decimals)
    found = evaluate(sample, bootstrap_weights(60, 3, seed))
    if sample.num_events in (0, n):
        assert found == {}
        return
    assert found["auroc"].value == pytest.approx(roc_auc_score(sample.labels, sample.scores), abs=1e-9)
    precision = average_precision_score(sample.labels, sample.scores)
    assert found["average_precision"].value == pytest.approx(precision, abs=1e-9)
    assert found["brier"].value == pytest.approx(brier_score_loss(sample.labels, sample.scores), abs=1e-9)


def test_slope_agrees_with_an_unpenalised_logistic_regression() -> None:
    sample = sample_of(1, 3000)
    fit = LogisticRegression(C=np.inf, tol=1e-10).fit(logit(sample.scores)[:, None], sample.labels)
    slope = evaluate(sample, bootstrap_weights(60, 2, 0))["calibration_slope"].value
    assert slope == pytest.approx(fit.coef_[0, 0], abs=1e-5)


def test_intercept_makes_the_mean_forecast_the_rate() -> None:
    sample = sample_of(2)
    intercept = evaluate(sample, bootstrap_weights(60, 2, 0))["calibration_intercept"].value
    assert expit(logit(sample.scores) + intercept).mean() == pytest.approx(sample.labels.mean(), abs=1e-9)


@pytest.mark.parametrize("decimals", [1, 12])
def test_each_resample_equals_evaluating_the_resampled_prompts(decimals: int) -> None:
    sample = sample_of(3, decimals=decimals)
    weights = bootstrap_weights(60, 8, seed=7)
    found = evaluate(sample, weights)
    for number, row in enumerate(weights[1:].astype(int)):
        again = np.repeat(np.arange(len(sample.labels)), row[sample.patients])
        labels, scores = sample.labels[again], sample.scores[again]
        expected = {
            "auroc": roc_auc_score(labels, scores),
            "average_precision": average_precision_score(labels, scores),
            "brier": brier_score_loss(labels, scores),
            "observed_expected": labels.sum() / scores.sum(),
        }
        for name, value in expected.items():
            assert found[name].replicates[number] == pytest.approx(value, abs=1e-9), name


def test_one_newton_step_is_near_the_refit() -> None:
    sample = sample_of(4, 4000, people=400)
    weights = bootstrap_weights(400, 30, seed=7)
    steps = evaluate(sample, weights)["calibration_slope"].replicates
    for step, row in zip(steps, weights[1:].astype(int), strict=True):
        again = np.repeat(np.arange(len(sample.labels)), row[sample.patients])
        refit = Sample(sample.labels[again], sample.scores[again], np.arange(len(again)))
        exact = metrics.recalibration(refit, np.ones((1, len(again))))[1][0]
        assert step == pytest.approx(exact, abs=0.15 * steps.std())


def test_intervals_cover_the_truth() -> None:
    # The true slope is 1 and the true intercept 0, since labels are drawn from the scores.
    inside = {"calibration_slope": 0, "calibration_intercept": 0}
    weights = bootstrap_weights(200, 200, seed=1)
    for seed in range(100):
        found = evaluate(sample_of(seed, 600, people=200), weights)
        inside["calibration_slope"] += 1.0 in found["calibration_slope"].interval()
        inside["calibration_intercept"] += 0.0 in found["calibration_intercept"].interval()
    assert all(count >= 87 for count in inside.values()), inside


def test_clusters_widen_the_interval() -> None:
    # The same prompts, once each of its own patient, once as twenty copies within a patient's record.
    random = np.random.default_rng(0)
    scores = np.repeat(expit(random.normal(-1, 1, 50)), 20)
    labels = np.repeat(random.random(50) < scores[::20], 20)
    apart = evaluate(Sample(labels, scores, np.arange(1000)), bootstrap_weights(1000, 200, 0))["auroc"].interval()
    together = evaluate(Sample(labels, scores, np.repeat(np.arange(50), 20)), bootstrap_weights(50, 200, 0))
    clustered = together["auroc"].interval()
    assert clustered.high - clustered.low > 2 * (apart.high - apart.low)


def test_ece_of_a_known_case() -> None:
    # Two groups: forecast 0.2 where a half occur, forecast 0.8 where all do: gaps of 0.3 and 0.2.
    scores = np.repeat([0.2, 0.8], 10)
    labels = np.array([True, False] * 5 + [True] * 10)
    found = evaluate(Sample(labels, scores, np.arange(20)), bootstrap_weights(20, 2, 0))
    assert found["ece"].value == pytest.approx(0.25)


@pytest.mark.parametrize("label", [True, False])
def test_one_class_gives_nothing(label: bool) -> None:
    sample = Sample(np.full(30, label), np.linspace(0.1, 0.9, 30), np.arange(30))
    assert evaluate(sample, bootstrap_weights(30, 5, 0)) == {}


def test_separation_and_constant_scores_give_no_slope() -> None:
    weights = bootstrap_weights(40, 20, 0)
    labels = np.arange(40) >= 20
    apart = evaluate(Sample(labels, np.linspace(0.01, 0.99, 40), np.arange(40)), weights)
    assert apart["auroc"].value == 1.0
    assert "calibration_slope" not in apart
    level = evaluate(Sample(labels, np.full(40, 0.3), np.arange(40)), weights)
    assert level["auroc"].value == 0.5
    assert "calibration_slope" not in level
    assert level["calibration_intercept"].value == pytest.approx(-logit(0.3))


def test_certain_forecasts_stay_finite() -> None:
    scores = np.array([0.0, 1.0] * 20)
    labels = np.array([False, True] * 19 + [True, False])
    found = evaluate(Sample(labels, scores, np.arange(40)), bootstrap_weights(40, 20, 0))
    assert all(np.isfinite(estimate.value) for estimate in found.values())


def test_every_name_is_listed() -> None:
    assert set(evaluate(sample_of(0), bootstrap_weights(60, 2, 0))) == set(METRICS)
