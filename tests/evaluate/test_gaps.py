"""The promised AUROC against its slow twin, Holm against its definition, and chance against the tests built on it."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from lifechart.evaluate.gaps import Measurement, holm, measure, promised_auroc, worse
from lifechart.evaluate.metrics import Sample, bootstrap_weights


@given(st.lists(st.sampled_from([0.01, 0.1, 0.2, 0.5, 0.9]), min_size=2, max_size=30))
def test_promised_auroc_has_a_slow_twin(scores: list[float]) -> None:
    won = whole = 0.0
    for mine in scores:
        for other in scores:
            weight = mine * (1 - other)
            whole += weight
            won += weight * (1.0 if mine > other else 0.5 if mine == other else 0.0)
    assert np.isclose(promised_auroc(np.array(scores)), won / whole)


@given(st.lists(st.floats(0, 1, allow_nan=False), max_size=20))
def test_holm_is_its_definition(p_values: list[float]) -> None:
    adjusted, so_far = {}, 0.0
    for place, number in enumerate(sorted(range(len(p_values)), key=lambda each: p_values[each])):
        so_far = max(so_far, (len(p_values) - place) * p_values[number])
        adjusted[number] = so_far
    fallen = holm(p_values, 0.05)
    for number, fell in enumerate(fallen):
        if not np.isclose(adjusted[number], 0.05):
            assert fell == (adjusted[number] <= 0.05)


def test_right_forecasts_are_seldom_called_worse() -> None:
    """P-values of honest forecasts, in groups of unlike risk, are no smaller than uniform ones."""
    rng = np.random.default_rng(5)
    smallest: dict[str, list[float]] = {}
    for seed in range(120):
        found = {}
        for name, mean in (("ours", -2.5), ("theirs", -1.0)):
            people = 300
            score = 1 / (1 + np.exp(-(mean + rng.standard_normal(people))))
            sample = Sample(rng.random(people) < score, score, np.arange(people) + (0 if name == "ours" else people))
            found[name] = (sample, measure(sample, bootstrap_weights(600, 100, seed), 0.2))
        rate = float(found["ours"][0].labels.mean())
        for metric, mine in found["ours"][1].items():
            smallest.setdefault(metric, []).append(worse(metric, mine, found["theirs"][1][metric], rate, 15)[1])
    assert len(smallest) == 4
    for metric, p_values in smallest.items():
        assert kstest(p_values, "uniform", alternative="greater").pvalue > 1e-3, metric


def test_what_cannot_vary_is_no_finding() -> None:
    still = Measurement(np.ones(20), np.ones(20), 0.0)
    other = Measurement(np.ones(20), np.zeros(20), 0.0)
    assert worse("net_benefit", other, still, 0.1, 20) == (10.0, 1.0)


def test_few_expected_events_are_not_measured() -> None:
    sample = Sample(np.arange(40) < 12, np.full(40, 0.05), np.arange(40))
    assert set(measure(sample, bootstrap_weights(40, 10, 0), 0.04)) == {"auroc"}
