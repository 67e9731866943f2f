"""What is gained by not answering about the most unusual charts: error among those answered, against their share.

Prompts are put in order, by how unlike the training charts each is or by how wide its intervals are, and the error is
measured among the first 100%, 99%, 95% … of them (selective prediction; El-Yaniv and Wiener 2010). Three errors, each
a mean over outcomes: the AUROC; the Brier score; and, where the truth is known, the excess loss, which is the model's
own part of the error: whoever is left out may have been harder to foresee, or ill more often, and not worse served.

Legend of shapes: P prompts, n of them, B resamples (+ 1).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lifechart.core.report import Metric
from lifechart.evaluate.coverage import Asked
from lifechart.evaluate.headline import ALL_OUTCOMES
from lifechart.evaluate.metrics import Estimate, Floats, Sample, brier, ranking

SHARES = (1.0, 0.99, 0.95, 0.9, 0.8, 0.65, 0.5)
ERRORS = {"auroc": "AUROC", "brier": "Brier score", "excess_loss": "Excess loss"}
"""By name, the errors and how they are called; of AUROC more is better."""
ORDERS = {"novelty": "how unlike the training charts it is", "width": "the width of its intervals"}
BOUNDS = (0.9, 0.95, 0.99, 0.999)
"""Novelties from which a capability may decline to answer; how many that would be is told for each."""
MOST_OUTCOMES = 20
_LEAST_RISK = 1e-7


def name_of(error: str, order: str, share: float) -> str:
    """Return what a Report calls an error among the answered.

    >>> name_of("brier", "novelty", 0.95)
    'brier_by_novelty_answering_0.95'
    """
    return f"{error}_by_{order}_answering_{share:g}"


def metrics(
    asked: Sequence[Asked], orders: Mapping[str, Floats], weights: Floats, scorer: str, horizon: int
) -> Iterator[Metric]:
    """Yield every error at every share for every order.  orders: by name a number for each prompt [P], low answered
    first.  Over the commonest outcomes that can be judged at every share.
    """
    commonest = sorted(asked, key=lambda each: -int(each.labels.sum()))[:MOST_OUTCOMES]
    for order, value in orders.items():
        place = np.empty(len(value))
        place[np.argsort(value, kind="stable")] = (np.arange(len(value)) + 0.5) / max(len(value), 1)
        for share in SHARES:
            found: dict[str, list[Floats]] = {}
            for each in commonest:
                for error, estimate in errors(each, place[each.rows] <= share, weights).items():
                    found.setdefault(error, []).append(estimate)
            answered = int((place <= share).sum())
            for error, estimates in found.items():
                # A mean over other outcomes would be another figure: one that cannot be judged here ends the curve.
                if len(estimates) == len(commonest):
                    mean = np.mean(estimates, axis=0)
                    value_ = Estimate(float(mean[0]), mean[1:])
                    yield Metric(
                        name=name_of(error, order, share),
                        value=value_.value,
                        interval=value_.interval(),
                        forecaster=scorer,
                        outcome=ALL_OUTCOMES,
                        horizon_days=horizon,
                        num_prompts=answered,
                        num_events=sum(int(each.labels[place[each.rows] <= share].sum()) for each in commonest),
                    )


def answered_name(bound: float) -> str:
    """Return what a Report calls the share of prompts that are no more unusual than `bound`."""
    return f"answered_up_to_novelty_{bound:g}"


def answered(
    novelty: Floats, patients: NDArray[np.int64], weights: Floats, scorer: str, horizon: int
) -> Iterator[Metric]:
    """Yield the share of prompts that would be answered with each of BOUNDS.  novelty, patients: [P]."""
    width = weights.shape[1]
    size = weights @ np.bincount(patients, minlength=width)
    for bound in BOUNDS:
        share = weights @ np.bincount(patients, (novelty <= bound).astype(float), minlength=width) / size
        found = Estimate(float(share[0]), share[1:])
        yield Metric(
            answered_name(bound), found.value, found.interval(), scorer, ALL_OUTCOMES, horizon, num_prompts=len(novelty)
        )


def errors(asked: Asked, keep: NDArray[np.bool_], weights: Floats) -> dict[str, Floats]:
    """Return each error of one outcome among the kept [n], in every resample [1 + B]; none if it cannot be judged."""
    labels, patients = asked.labels[keep], asked.patients[keep]
    sample = Sample(labels, asked.risk[keep], patients)
    if min(sample.people_with_event, sample.people_without_event) < 2:
        return {}
    found = {"auroc": ranking(sample, weights)[0], "brier": brier(sample, weights)}
    if asked.truth is not None:
        found["excess_loss"] = excess_loss(asked.truth[keep], asked.risk[keep], patients, weights)
    return found


def excess_loss(truth: Floats, risk: Floats, patients: NDArray[np.int64], weights: Floats) -> Floats:
    """Return the Kullback-Leibler divergence of forecasts [n] from true risks, a true event, in every resample."""
    p, q = (np.clip(each, _LEAST_RISK, 1 - _LEAST_RISK) for each in (truth, risk))
    lost = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    width = weights.shape[1]
    expected = weights @ np.bincount(patients, p, minlength=width)
    total: Floats = weights @ np.bincount(patients, lost, minlength=width)
    excess: Floats = np.divide(total, expected, out=np.full(len(weights), np.nan), where=expected > 0)
    return excess
