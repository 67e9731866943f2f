"""Do the evaluation's figures equal those of the field's own packages, wherever they compute the same thing?

Beside scikit-learn (ranking, Brier), statsmodels (recalibration, loess), lifelines (concordance, Kaplan-Meier) and
dcurves (net benefit). The last three come with `pip install 'lifechart[peers]'`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.special import expit, logit
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from lifechart.evaluate import benefit, censored, metrics, smooth
from lifechart.evaluate.metrics import Sample

Row = tuple[str, str, float, float]
"""(figure, package, ours, theirs)."""


def main(quick: bool) -> dict[str, float]:
    """Compare on several made-up samples, print the table and return the largest difference."""
    table = Table(title="The same figure, computed twice", box=None, header_style="bold")
    for column in ("figure", "beside", "ours", "theirs", "difference"):
        table.add_column(column, justify="left" if column in ("figure", "beside") else "right")
    worst: dict[tuple[str, str], Row] = {}
    for seed in range(2 if quick else 20):
        for row in rows(seed, 400 if quick else 3_000):
            key = row[:2]
            if key not in worst or abs(row[2] - row[3]) > abs(worst[key][2] - worst[key][3]):
                worst[key] = row
    for name, package, ours, theirs in worst.values():
        table.add_row(name, package, f"{ours:.8f}", f"{theirs:.8f}", f"{abs(ours - theirs):.1e}")
    Console().print(table)
    return {"max_difference": float(max(abs(ours - theirs) for _, _, ours, theirs in worst.values()))}


def rows(seed: int, number: int) -> Iterator[Row]:
    """Yield every comparison on one made-up sample of `number` people, scores with ties among them."""
    rng = np.random.default_rng(seed)
    truth = expit(-2 + 1.3 * rng.standard_normal(number))
    labels = rng.random(number) < truth
    scores = np.clip(expit(0.3 + 0.8 * logit(truth) + 0.4 * rng.standard_normal(number)), 1e-4, 1 - 1e-4)
    scores[::5] = np.round(scores[::5], 2).clip(0.01, 0.99)
    sample = Sample(labels, scores, np.arange(number))
    found = metrics.evaluate(sample, np.ones((1, number)))
    yield "AUROC", "scikit-learn", found["auroc"].value, roc_auc_score(labels, scores)
    yield "average precision", "scikit-learn", found["average_precision"].value, average_precision_score(labels, scores)
    yield "Brier score", "scikit-learn", found["brier"].value, brier_score_loss(labels, scores)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield from _recalibration(found, labels, scores)
        yield from _loess(labels, scores)
        yield from _net_benefit(sample)
        yield from _survival(rng, truth)


def _recalibration(
    found: dict[str, metrics.Estimate], labels: NDArray[np.bool_], scores: metrics.Floats
) -> Iterator[Row]:
    import statsmodels.api as sm

    offset = logit(scores)
    family = sm.families.Binomial()
    fitted = sm.GLM(labels.astype(float), sm.add_constant(offset), family=family).fit(tol=1e-12)
    yield "calibration slope", "statsmodels", found["calibration_slope"].value, float(fitted.params[1])
    fitted = sm.GLM(labels.astype(float), np.ones((len(labels), 1)), family=family, offset=offset).fit(tol=1e-12)
    yield "calibration intercept", "statsmodels", found["calibration_intercept"].value, float(fitted.params[0])


def _loess(labels: NDArray[np.bool_], scores: metrics.Floats) -> Iterator[Row]:
    from statsmodels.nonparametric.smoothers_lowess import lowess

    at = np.quantile(scores, [0.05, 0.25, 0.5, 0.75, 0.95])
    theirs = lowess(labels.astype(float), scores, frac=smooth.SPAN, it=0, xvals=at)
    ours = [smooth.smooth_at(scores, labels.astype(float), point) for point in at]
    number = int(np.argmax(np.abs(np.array(ours) - theirs)))
    yield "loess of observed risk", "statsmodels", ours[number], float(theirs[number])


def _net_benefit(sample: Sample) -> Iterator[Row]:
    import pandas as pd
    from dcurves import dca

    frame = pd.DataFrame({"outcome": sample.labels.astype(int), "model": sample.scores})
    # dcurves acts above the threshold, this project at it too: so take thresholds that no score equals.
    thresholds = [each + 1e-5 for each in benefit.THRESHOLDS]
    table = dca(data=frame, outcome="outcome", modelnames=["model"], thresholds=thresholds)
    for action in benefit.actions(sample, np.ones((1, len(sample.labels))), thresholds):
        at = table[np.isclose(table["threshold"], action.threshold, atol=1e-9)].set_index("model")["net_benefit"]
        yield f"net benefit from {action.threshold:.0%}", "dcurves", action.net_benefit.value, float(at["model"])
        yield f"net benefit of all at {action.threshold:.0%}", "dcurves", action.treat_all.value, float(at["all"])


def _survival(rng: np.random.Generator, truth: metrics.Floats) -> Iterator[Row]:
    from lifelines import KaplanMeierFitter
    from lifelines.utils import concordance_index

    times = np.round(rng.exponential(1 / truth), 1) + 0.1
    limit = np.round(rng.exponential(4.0, len(truth)), 1) + 0.1
    events = times <= limit
    observed = np.minimum(times, limit)
    risk = np.round(truth + 0.05 * rng.standard_normal(len(truth)), 3)
    ours = censored.harrell(risk, observed, events)
    yield "Harrell's C", "lifelines", ours, float(concordance_index(observed, -risk, events))
    distinct, survival = censored.kaplan_meier(observed, events)
    fitted = KaplanMeierFitter().fit(observed, events)
    at = np.quantile(observed, [0.25, 0.5, 0.9])
    theirs = fitted.survival_function_at_times(at).to_numpy()
    mine = censored.step(distinct, survival, at)
    number = int(np.argmax(np.abs(mine - theirs)))
    yield "Kaplan-Meier", "lifelines", float(mine[number]), float(theirs[number])
