"""The record oracle's parts on toys where the answer is exact: quadrature over latents, enumeration of hidden paths."""

import itertools
from dataclasses import fields

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import ndtr

from lifechart.simulate import futures, tables
from lifechart.simulate.events import concatenate
from lifechart.simulate.physiology import physiology
from lifechart.simulate.posterior import _filter, laplace, log_likelihood, posterior
from lifechart.simulate.processes import LATENTS, hazards, loadings_of, names
from lifechart.simulate.replay import Evidence, Trail, affected
from lifechart.simulate.state import State

ADULT_STEP = 45 * 12


def silent_evidence(num: int = 1) -> Evidence:
    """A record in which nothing was ever at risk of happening, of a woman of 45."""
    name, body = names(), physiology()
    columns = len(name.processes) + len(name.occults)
    wide = len(affected().processes) + len(affected().measured)
    state = State.newborn(np.zeros(num, np.int8), np.zeros(num, np.int8))
    state.step[:] = ADULT_STEP

    def zeros(width: int) -> NDArray[np.float32]:
        return np.zeros((num, width), np.float32)

    return Evidence(
        np.arange(num), np.zeros(num, np.int64), np.full(num, 0.25), state, [concatenate([])] * num,
        zeros(columns), zeros(columns), zeros(len(body.measured)), zeros(len(body.measured)), zeros(3),
        zeros(wide), zeros(len(name.occults)), zeros(len(name.occults)),
    )  # fmt: skip


def toy_evidence() -> Evidence:
    """One process (sleep apnea: 40 years at risk, no diagnosis), one result (body mass index), one smoking answer."""
    evidence = silent_evidence()
    evidence.exposure_PK[0, names().processes.index("sleep_apnea")] = 0.9
    bmi = physiology().measured.index("bmi")
    evidence.results_PJ[0, bmi], evidence.residual_PJ[0, bmi] = 2, 2 * 0.3
    evidence.smoking_P3[0, 2] = 1
    return evidence


def grid_density(evidence: Evidence) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Exact posterior on a grid of (adiposity, care, tobacco), the only latents that the toy is about."""
    axis = np.linspace(-5, 5, 121)
    adiposity, care, tobacco = np.meshgrid(axis, axis, axis, indexing="ij")
    weights = loadings_of(["sleep_apnea"])[0]
    a, c = weights[LATENTS.index("adiposity")], weights[LATENTS.index("care")]
    exposure = evidence.exposure_PK[0].max()
    log_density = -exposure * np.exp(a * adiposity + c * care - (a * a + c * c) / 2)
    body = physiology()
    bmi = body.measured.index("bmi")
    loading = body.loadings_JD[bmi, LATENTS.index("adiposity")]
    log_density -= (0.3 - loading * adiposity) ** 2 * 2 / (2 * float(body.spread_J[bmi]) ** 2)
    smoking = tables.parameters()["smoking"]
    log_density += np.log(np.maximum(ndtr((tobacco - smoking["cuts"][1]) / smoking["misreport_sd"]), 1e-300))
    log_density -= (adiposity**2 + care**2 + tobacco**2) / 2
    density = np.exp(log_density - log_density.max())
    return adiposity, care, density / density.sum()


def test_posterior_mean_of_a_risk_is_exact_on_a_toy() -> None:
    evidence = toy_evidence()
    adiposity, care, density = grid_density(evidence)
    weights = loadings_of(["sleep_apnea"])[0]
    a, c = weights[LATENTS.index("adiposity")], weights[LATENTS.index("care")]
    rate = float(evidence.state.rates()[0, names().processes.index("sleep_apnea")])
    length = 0.5
    risk = -np.expm1(-rate * length * np.exp(a * adiposity + c * care - (a * a + c * c) / 2))
    exact = (density * risk).sum()

    draws = 20_000
    found = posterior(evidence, Trail.empty(1, 0), draws, np.random.default_rng(0))
    start = futures.Start(
        evidence.state.take(np.zeros(draws, np.int64)), np.full(draws, 0.25), concatenate([]),
        found.latents_PRD[0], found.hidden_PRH[0],
    )  # fmt: skip
    each = futures.risks(start, ("sleep_apnea",), np.array([length]), np.random.default_rng(0))[:, 0, 0]
    estimate = (found.weights_PR[0] * each).sum()
    assert estimate == pytest.approx(exact, rel=0.01)
    assert abs(exact / (-np.expm1(-rate * length)) - 1) > 0.1, "the record must tell something"


def test_posterior_moments_are_exact_on_a_toy() -> None:
    evidence = toy_evidence()
    adiposity, care, density = grid_density(evidence)
    found = posterior(evidence, Trail.empty(1, 0), 20_000, np.random.default_rng(1))
    for latent, values in (("adiposity", adiposity), ("care", care)):
        drawn = found.latents_PRD[0, :, LATENTS.index(latent)]
        mean = (found.weights_PR[0] * drawn).sum()
        spread = np.sqrt((found.weights_PR[0] * (drawn - mean) ** 2).sum())
        exact = (density * values).sum()
        assert mean == pytest.approx(exact, abs=0.02)
        assert spread == pytest.approx(np.sqrt((density * (values - exact) ** 2).sum()), rel=0.03)
    others = found.latents_PRD[0, :, LATENTS.index("neural")]
    assert (found.weights_PR[0] * others).sum() == pytest.approx(0, abs=0.02)  # the record is silent: as the prior


def test_mode_has_no_slope() -> None:
    evidence = toy_evidence()
    evidence.count_PK[0, 3:20] = 1
    evidence.exposure_PK[0, :60] += 0.5
    mode, precision = laplace(evidence)
    step = 1e-2
    around = np.repeat(mode[:, None], 2 * len(LATENTS), 1)
    for index in range(len(LATENTS)):
        around[0, 2 * index, index] += step
        around[0, 2 * index + 1, index] -= step
    values = log_likelihood(evidence, around.astype(np.float32))[0]
    here = log_likelihood(evidence, mode[:, None].astype(np.float32))[0, 0]
    slope = (values[0::2] - values[1::2]) / (2 * step)
    curve = -(values[0::2] - 2 * here + values[1::2]) / step**2
    np.testing.assert_allclose(slope, 0, atol=2e-2)
    np.testing.assert_allclose(curve, np.diagonal(precision[0]), rtol=0.1)


def enumerate_paths(
    log_ratio: NDArray[np.float64], onset: NDArray[np.float64], diagnosed: NDArray[np.int8]
) -> tuple[float, NDArray[np.float64]]:
    """Sum over every path of the hidden disease, month by month."""
    months, diseases = log_ratio.shape
    mass = np.zeros(1 + diseases)
    for path in itertools.product(range(1 + diseases), repeat=months):
        weight, before = 1.0, 0
        for month, now in enumerate(path):
            total = onset[month].sum()
            if before == 0:
                begun = onset[month, now - 1] / total * -np.expm1(-total) if now else np.exp(-total)
                weight *= begun
            elif before != now:
                weight = 0.0
                break
            weight *= np.exp(log_ratio[month, now - 1]) if now else 1.0
            before = now
            if diagnosed[month]:
                weight *= before == diagnosed[month]
                before = 0 if month + 1 < months else before
        mass[path[-1]] += weight
    return np.log(mass.sum()), mass / mass.sum()


@pytest.mark.parametrize("seen", [{}, {2: 1}, {1: 2, 3: 1}])
def test_filter_equals_enumeration(seen: dict[int, int]) -> None:
    rng = np.random.default_rng(3)
    log_ratio, onset = rng.normal(size=(6, 2)), rng.uniform(0.01, 0.3, (6, 2))
    diagnosed = np.zeros(5, np.int8)
    for month, disease in seen.items():
        diagnosed[month] = disease
    total, hidden = _filter(log_ratio.T[None].astype(np.float32), onset.T[None].astype(np.float32), diagnosed)
    exact, probabilities = enumerate_paths(log_ratio, onset, np.append(diagnosed, 0))
    assert total[0] == pytest.approx(exact, abs=1e-4)
    np.testing.assert_allclose(hidden[0], probabilities, atol=1e-4)


def test_a_prodrome_raises_the_suspicion_of_its_disease() -> None:
    name = names()
    evidence, quiet = silent_evidence(), silent_evidence()
    for part in (evidence, quiet):
        part.onset_PH[:] = 1e-4
    ratio = affected().log_ratio_HK[:, [name.processes.index(key) for key in ("ptosis", "diplopia")]].sum(1)
    evidence.fixed_PH[0] = ratio
    suspicion = [
        posterior(part, Trail.empty(1, 0), 200, np.random.default_rng(2)).hidden_PRH[0].mean(0)
        for part in (evidence, quiet)
    ]
    index = 1 + name.occults.index("myasthenia_gravis")
    assert suspicion[0][index] > 100 * suspicion[1][index]
    assert suspicion[0][0] < suspicion[1][0]


def test_opposite_pairs_cancel_linear_noise() -> None:
    found = posterior(silent_evidence(), Trail.empty(1, 0), 8, np.random.default_rng(4))
    np.testing.assert_allclose(found.latents_PRD.mean(1), 0, atol=1e-6)
    assert found.effective[0] > 4
    assert hazards().loadings_KD.shape[1] == len(LATENTS)
    assert {field.name for field in fields(Trail)} >= {"columns_NTA", "onset_NTH"}
