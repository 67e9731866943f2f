"""Discrimination and calibration with patient-bootstrap intervals: pure mathematics on labels and probabilities.

Every metric is computed for the sample itself and for B resamples of its *patients* at once. A resample is a row of
integer weights over patients, so one sort and a few sparse products serve all of them. Row 0 of the weights is all
ones: the sample itself. A metric that the sample cannot carry (one class only, scores that separate perfectly) is
absent rather than nonsense.

Legend of shapes: n prompts, S patients, B resamples (+ 1 for the sample itself), K distinct scores of positives.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import expit, logit

from lifechart.core.forecast import Interval

Floats = NDArray[np.float64]

METRICS = (
    "auroc",
    "average_precision",
    "brier",
    "calibration_slope",
    "calibration_intercept",
    "observed_expected",
    "ece",
)
"""Names of all that `evaluate` returns, in the order of a table."""
ECE_BINS = 10
_CLIP = 1e-6
_NEWTON_STEPS = 50
_MAX_SLOPE = 50.0


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """A number and what it came to in each resample of the patients."""

    value: float
    replicates: Floats
    """[B]; NaN where the resample held one class only."""

    def interval(self, level: float = 0.95) -> Interval | None:
        """Return the percentile interval, or None if more than one resample in ten could not be computed."""
        finite = self.replicates[np.isfinite(self.replicates)]
        if len(finite) == 0 or len(finite) < 0.9 * len(self.replicates):
            return None
        low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
        return Interval(float(low), float(high), level)


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Labels and forecasts of n prompts, and whose they are."""

    labels: NDArray[np.bool_]
    scores: Floats
    """Probabilities [n]."""
    patients: NDArray[np.int64]
    """[n] column of the weights that each prompt belongs to, 0 to S - 1."""
    occurrences: NDArray[np.int64] | None = None
    """[n] which occurrence followed each prompt, where `labels` says that one did; None: each prompt its own."""

    @property
    def num_events(self) -> int:
        """How many occurrences the sample holds: one that follows three prompts is one."""
        if self.occurrences is None:
            return int(self.labels.sum())
        return len(np.unique(self.occurrences[self.labels]))

    @property
    def people_with_event(self) -> int:
        """How many patients have at least one prompt followed by the event."""
        return len(np.unique(self.patients[self.labels]))

    @property
    def people_without_event(self) -> int:
        """How many patients have at least one prompt not followed by the event."""
        return len(np.unique(self.patients[~self.labels]))


def bootstrap_weights(num_patients: int, num_resamples: int, seed: int) -> Floats:
    """Return [1 + B, S]: a row of ones, then how often each resample (drawn with replacement) holds each patient."""
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(num_patients, np.full(num_patients, 1 / num_patients), size=num_resamples)
    return np.vstack([np.ones((1, num_patients)), drawn])


def evaluate(sample: Sample, weights: Floats) -> dict[str, Estimate]:
    """Return every metric that the sample can carry, by name.  weights: [1 + B, S] of `bootstrap_weights`."""
    if sample.labels.all() or not sample.labels.any():
        return {}
    area, precision = ranking(sample, weights)
    intercept, slope = recalibration(sample, weights)
    columns = {
        "auroc": area,
        "average_precision": precision,
        "brier": brier(sample, weights),
        "calibration_slope": slope,
        "calibration_intercept": intercept,
        "observed_expected": observed_expected(sample, weights),
        "ece": expected_calibration_error(sample, weights),
    }
    return {name: Estimate(float(all_[0]), all_[1:]) for name, all_ in columns.items() if np.isfinite(all_[0])}


def ranking(sample: Sample, weights: Floats) -> tuple[Floats, Floats]:
    """Return (AUROC, average precision), each [1 + B]; ties count half, and average precision steps as scikit-learn's.

    Only the places of the positives matter: negatives are counted per patient between and at the K distinct scores of
    positives, and the weights turn those counts into the resamples' ROC and precision-recall curves.
    """
    levels = np.unique(sample.scores[sample.labels])
    left = np.searchsorted(levels, sample.scores)
    slot = left + np.searchsorted(levels, sample.scores, side="right")  # 2k: between positives k-1 and k; 2k+1: at k
    yes, no = sample.labels, ~sample.labels
    at_level = _counts(left[yes], len(levels), sample.patients[yes], weights)
    beside = _counts(slot[no], 2 * len(levels) + 1, sample.patients[no], weights)
    between, tied = beside[0::2], beside[1::2]
    num_positive, num_negative = at_level.sum(0), beside.sum(0)
    below = np.cumsum(between[:-1], axis=0) + np.cumsum(tied, axis=0) - tied
    above = num_negative - below
    true_above = np.cumsum(at_level[::-1], axis=0)[::-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        area = (at_level * (below + 0.5 * tied)).sum(0) / (num_positive * num_negative)
        precision = np.where(at_level > 0, true_above / (true_above + above), 0.0)
        average = (at_level * precision).sum(0) / num_positive
    return area, average


def brier(sample: Sample, weights: Floats) -> Floats:
    """Return the mean squared difference between forecast and outcome, [1 + B]."""
    return _ratio(_sum_per_patient((sample.scores - sample.labels) ** 2, sample, weights), _size(sample, weights))


def observed_expected(sample: Sample, weights: Floats) -> Floats:
    """Return the number of events over the number forecast, [1 + B]: 1 is right, above 1 is too low a forecast."""
    expected = _sum_per_patient(sample.scores, sample, weights)
    observed = _sum_per_patient(sample.labels.astype(float), sample, weights)
    return _ratio(observed, expected)


def expected_calibration_error(sample: Sample, weights: Floats) -> Floats:
    """Return the mean |observed - forecast| over ten groups of equal size by forecast (Naeini et al. 2015), [1 + B]."""
    group, num_groups = equal_groups(sample.scores, ECE_BINS)
    gap = sparse.csr_matrix(
        (sample.labels - sample.scores, (sample.patients, group)), shape=(weights.shape[1], num_groups)
    )
    return _ratio(np.abs(gap.T @ weights.T).sum(0), _size(sample, weights))


def recalibration(sample: Sample, weights: Floats) -> tuple[Floats, Floats]:
    """Return (calibration intercept, calibration slope), each [1 + B], as Van Calster et al. 2019 define them.

    Slope: b of logit P(y) = a + b logit(p), 1 is right, below 1 is overconfident. Intercept: a with b held at 1, so 0
    is right in the large. The sample's own are solved by Newton's method; a resample takes one Newton step from them
    (the k-step bootstrap, Andrews 2002), which needs only sums per patient.
    """
    offset = logit(np.clip(sample.scores, _CLIP, 1 - _CLIP))
    constant = np.ones((len(offset), 1))
    intercept = _logistic(sample, weights, constant, offset)[:, 0]
    slope = _logistic(sample, weights, np.column_stack([constant, offset]), np.zeros(len(offset)))[:, 1]
    return intercept, slope


def _logistic(sample: Sample, weights: Floats, design: Floats, offset: Floats) -> Floats:
    """Return [1 + B, columns] coefficients, NaN where the fit does not settle (separation, constant scores)."""
    labels = sample.labels.astype(float)
    beta = np.zeros(design.shape[1])
    failed = np.full((weights.shape[0], design.shape[1]), np.nan)
    for _ in range(_NEWTON_STEPS):
        fitted = expit(design @ beta + offset)
        information = (design * (fitted * (1 - fitted))[:, None]).T @ design
        if np.linalg.cond(information) > 1e14:
            return failed
        step = np.linalg.solve(information, design.T @ (labels - fitted))
        beta = beta + np.clip(step, -5, 5)
        if np.abs(step).max() < 1e-12:
            break
    if np.abs(beta).max() > _MAX_SLOPE or np.abs(step).max() > 1e-6:
        return failed
    fitted = expit(design @ beta + offset)
    columns = range(design.shape[1])
    gradient = np.stack([_sum_per_patient(design[:, i] * (labels - fitted), sample, weights) for i in columns], axis=-1)
    curvature = fitted * (1 - fitted)
    hessian = np.stack(
        [_sum_per_patient(curvature * design[:, i] * design[:, j], sample, weights) for i in columns for j in columns],
        axis=-1,
    ).reshape(-1, design.shape[1], design.shape[1])
    settled = np.linalg.cond(hessian) < 1e14
    result = failed
    result[settled] = beta + np.linalg.solve(hessian[settled], gradient[settled][..., None])[..., 0]
    result[0] = beta
    return result


def equal_groups(scores: Floats, num_groups: int) -> tuple[NDArray[np.int64], int]:
    """Return each score's group (by quantile, equal scores together) and how many groups there are."""
    edges = np.unique(np.quantile(scores, np.linspace(0, 1, num_groups + 1)[1:-1]))
    return np.searchsorted(edges, scores, side="left"), len(edges) + 1


def _counts(slot: NDArray[np.int64], num_slots: int, patients: NDArray[np.int64], weights: Floats) -> Floats:
    """Return how many of `slot` fall in each slot in each resample, [slots, 1 + B]."""
    per_patient = sparse.csr_matrix((np.ones(len(slot)), (patients, slot)), shape=(weights.shape[1], num_slots))
    counts: Floats = per_patient.T @ weights.T
    return counts


def _sum_per_patient(values: Floats, sample: Sample, weights: Floats) -> Floats:
    """Return the weighted sum of `values` [n] in each resample, [1 + B]."""
    total: Floats = weights @ np.bincount(sample.patients, weights=values, minlength=weights.shape[1])
    return total


def _size(sample: Sample, weights: Floats) -> Floats:
    """Return how many prompts each resample holds, [1 + B]."""
    return _sum_per_patient(np.ones(len(sample.scores)), sample, weights)


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Return the quotient, NaN where a resample holds nothing to divide by."""
    return np.divide(numerator, denominator, out=np.full_like(denominator, np.nan), where=denominator > 0)
