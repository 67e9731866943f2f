"""What a record says of its latents and of a hidden disease: weighted draws from the exact posterior.

Given the latents z, a record's log likelihood is
    sum_k [n_k b_k.z - L_k exp(b_k.z - |b_k|^2/2)] + Gaussian terms of results + log Phi terms of smoking
plus the log of a sum over the paths of the hidden disease. Without the last term it is log-concave: its mode is found
by Newton's method and a normal there (Laplace) proposes draws, weighted by the exact likelihood, hidden disease
included (importance sampling; Robert and Casella 2004, chapter 3). The hidden disease is filtered exactly: it begins at
the start of a month, and ends with its diagnosis, so its path is a sum over months of onset.
Shapes: P prompts, R draws, K processes, H hidden diseases, D latents, J measured quantities, A affected columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr

from lifechart.simulate import tables
from lifechart.simulate.physiology import SMOKING, physiology
from lifechart.simulate.planted import driven
from lifechart.simulate.processes import LATENTS, Floats, loadings_of, names
from lifechart.simulate.replay import Evidence, Trail, affected

_NEWTON_STEPS = 12
_WIDER = 1.15
"""The proposal is this much wider than the Laplace approximation, so that weights stay bounded."""
_LIMIT = 60.0


@dataclass(frozen=True)
class Posterior:
    """Draws of P posteriors."""

    latents_PRD: Floats
    weights_PR: NDArray[np.float64]
    """Sum to 1 over R."""
    hidden_PRH: NDArray[np.float64]
    """[P, R, 1 + H]: probability of no or each hidden disease now, given the draw."""

    @property
    def effective(self) -> NDArray[np.float64]:
        """Effective number of draws of each posterior."""
        return np.asarray(1.0 / (self.weights_PR**2).sum(1))


def posterior(
    evidence: Evidence, trail: Trail, draws: int, rng: np.random.Generator, dims: int = len(LATENTS)
) -> Posterior:
    """Draw from the posterior of each prompt; `draws` must be even (they come in opposite pairs).

    `dims`: how many latents there are, planted traits (`planted`) included.
    """
    mode, precision = laplace(evidence, dims)
    half = rng.standard_normal((len(mode), draws // 2, dims))
    standard = np.concatenate([half, -half], axis=1)
    root = np.linalg.cholesky(precision)
    shift = np.linalg.solve(np.swapaxes(root, 1, 2)[:, None], standard[..., None])[..., 0]
    latents = (mode[:, None] + _WIDER * shift).astype(np.float32)
    log_weights = log_likelihood(evidence, latents) + 0.5 * (standard**2).sum(2)
    seen, hidden = filter_hidden(evidence, trail, latents)
    log_weights += seen
    weights = np.exp(log_weights - log_weights.max(1, keepdims=True))
    return Posterior(latents, weights / weights.sum(1, keepdims=True), hidden)


def laplace(evidence: Evidence, dims: int = len(LATENTS)) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mode [P, D] and precision [P, D, D] of the latents, the hidden disease's onset taken as if seen."""
    body, (driving, half_norm) = physiology(), driven(dims)
    loadings = driving.astype(np.float64)
    count, exposure = evidence.count_PK.astype(np.float64), evidence.exposure_PK * np.exp(-half_norm)
    by_result = _among(body.loadings_JD, dims).astype(np.float64) / body.spread_J[:, None]
    outer_K = (loadings[:, :, None] * loadings[:, None, :]).reshape(len(loadings), -1)
    outer_J = (by_result[:, :, None] * by_result[:, None, :]).reshape(len(by_result), -1)
    num = len(count)
    fixed_precision = (evidence.results_PJ @ outer_J).reshape(num, dims, dims) + np.eye(dims)
    linear = count @ loadings + (evidence.residual_PJ / body.spread_J) @ by_result
    tobacco = _among(loadings_of([SMOKING]), dims)[0].astype(np.float64)
    mode = np.zeros((num, dims))
    for _ in range(_NEWTON_STEPS):
        expected = exposure * np.exp(np.minimum(mode @ loadings.T, 8.0))
        slope, curve = _smoking_slope(evidence.smoking_P3, mode @ tobacco)
        gradient = linear - expected @ loadings - np.einsum("pde,pe->pd", fixed_precision, mode)
        gradient += slope[:, None] * tobacco
        precision = fixed_precision + (expected @ outer_K).reshape(num, dims, dims)
        precision += curve[:, None, None] * np.outer(tobacco, tobacco)
        move = np.linalg.solve(precision, gradient[..., None])[..., 0]
        length = np.linalg.norm(move, axis=1, keepdims=True)
        mode += move * np.minimum(1.0, 2.0 / np.maximum(length, 1e-9))
        if length.max(initial=0.0) < 1e-4:
            break
    return mode, precision


def _among(loadings: Floats, dims: int) -> Floats:
    """Return loadings of results on `dims` latents: planted traits move none."""
    extra = dims - loadings.shape[1]
    return np.pad(loadings, ((0, 0), (0, extra))) if extra else loadings


def _cuts() -> tuple[NDArray[np.float64], float]:
    smoking = tables.parameters()["smoking"]
    return np.array([-np.inf, *smoking["cuts"], np.inf]), float(smoking["misreport_sd"])


def _smoking_slope(told_P3: Floats, tobacco: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """First derivative and negative second derivative of the smoking answers' log likelihood."""
    cuts, spread = _cuts()
    edges = (cuts - tobacco[:, None]) / spread
    density = np.exp(-0.5 * np.where(np.isinf(edges), 0.0, edges) ** 2) / np.sqrt(2 * np.pi)
    density[np.isinf(edges)] = 0.0
    mass = np.maximum(np.diff(ndtr(edges), axis=1), 1e-12)
    slope = -np.diff(density, axis=1) / mass
    curve = slope**2 + np.diff(np.where(np.isinf(edges), 0.0, edges) * density, axis=1) / mass
    return (told_P3 * slope).sum(1) / spread, (told_P3 * np.clip(curve, 0.0, 1.0)).sum(1) / spread**2


def log_likelihood(evidence: Evidence, latents_PRD: Floats) -> NDArray[np.float64]:
    """Return prior times likelihood (log, up to a constant) of everything but the hidden disease, [P, R]."""
    body, dims = physiology(), latents_PRD.shape[2]
    driving, half_norm = driven(dims)
    processes = slice(len(names().processes))
    score = latents_PRD @ driving[processes].T
    log_value = np.einsum("prk,pk->pr", score, evidence.count_PK[:, processes], dtype=np.float64)
    expected = np.exp(np.minimum(score - half_norm[processes], 20.0), out=score)
    log_value -= np.einsum("prk,pk->pr", expected, _known_exposure(evidence), dtype=np.float64)
    means = (latents_PRD @ _among(body.loadings_JD, dims).T).astype(np.float64)
    precision = body.spread_J.astype(np.float64) ** -2
    log_value += np.einsum("prj,pj->pr", means, evidence.residual_PJ * precision)
    log_value -= 0.5 * np.einsum("prj,pj->pr", means**2, evidence.results_PJ * precision)
    log_value -= 0.5 * (latents_PRD.astype(np.float64) ** 2).sum(2)
    cuts, spread = _cuts()
    edges = (cuts - (latents_PRD @ _among(loadings_of([SMOKING]), dims)[0])[..., None]) / spread
    log_mass = _log_between(edges[..., :-1], edges[..., 1:])
    log_value += np.einsum("prc,pc->pr", log_mass, evidence.smoking_P3)
    return np.asarray(log_value)


def _known_exposure(evidence: Evidence) -> Floats:
    """Exposures without those of the hidden diseases' diagnoses, which nobody without the disease is at risk of."""
    name = names()
    exposure = evidence.exposure_PK[:, : len(name.processes)].copy()
    exposure[:, [name.processes.index(key) for key in name.occults]] = 0.0
    return exposure


def _log_between(low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
    """log(Phi(high) - Phi(low)), from the tail where both are small."""
    flip = low > 0
    low, high = np.where(flip, -high, low), np.where(flip, -low, high)
    log_high, log_low = log_ndtr(high), log_ndtr(low)
    return np.asarray(log_high + np.log1p(-np.exp(np.minimum(log_low - log_high, -1e-12))))


def filter_hidden(
    evidence: Evidence, trail: Trail, latents_PRD: Floats
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the log likelihood ratio [P, R] that the hidden disease adds, and its probabilities now [P, R, 1 + H]."""
    which, body, num = affected(), physiology(), len(names().processes)
    loadings, half_norm = driven(latents_PRD.shape[2])
    effect = np.exp(latents_PRD @ loadings.T - half_norm)
    by_result = latents_PRD @ _among(body.loadings_JD[which.measured], latents_PRD.shape[2]).T
    weights = np.concatenate(
        [
            -which.excess_HA[None, None] * effect[:, :, None, which.processes],
            -which.shift_HA[None, None] * by_result[:, :, None],
        ],
        axis=3,
    )  # [P, R, H, A]
    total = np.zeros(latents_PRD.shape[:2])
    hidden = np.zeros((*total.shape, 1 + len(names().occults)))
    for prompt in range(len(total)):
        row, step = evidence.row_P[prompt], int(evidence.step_P[prompt])
        columns = np.concatenate([trail.columns_NTA[row, :step], evidence.part_PA[prompt, None]])
        fixed = np.concatenate([trail.fixed_NTH[row, :step], evidence.fixed_PH[prompt, None]])
        onset = np.concatenate([trail.onset_NTH[row, :step], evidence.onset_PH[prompt, None]])
        log_ratio = (weights[prompt].reshape(-1, columns.shape[1]) @ columns.T).reshape(*weights.shape[1:3], -1)
        log_ratio += fixed.T
        starts = effect[prompt, :, num:, None] * onset.T
        total[prompt], hidden[prompt] = _filter(log_ratio, starts, trail.diagnosed_NT[row, :step])
    return total, hidden


def _filter(
    log_ratio_RHT: NDArray[np.float32], onset_RHT: NDArray[np.float32], diagnosed: NDArray[np.int8]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Filter one record: log likelihood ratio [R] against no hidden disease ever, probabilities now [R, 1 + H].

    Between diagnoses the disease can only begin, so the forward sums have a closed form over the month of onset.
    """
    num_draws, _, num_steps = log_ratio_RHT.shape
    total = np.zeros(num_draws)
    begin = 0
    for end in [*(np.flatnonzero(diagnosed) + 1), num_steps]:
        none, each = _segment(log_ratio_RHT[:, :, begin:end], onset_RHT[:, :, begin:end])
        if end < num_steps:
            total += np.log(each[:, diagnosed[end - 1] - 1])
        begin = end
    mass = none + each.sum(1)
    total += np.log(mass)
    hidden = np.concatenate([none[:, None], each], axis=1) / mass[:, None]
    return total, hidden


def _segment(
    log_ratio_RHT: NDArray[np.float32], onset_RHT: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """From no disease at the start: mass without [R] and with each disease [R, H] after the segment's evidence."""
    rate = np.maximum(onset_RHT.sum(1), 1e-30)
    cleared = np.cumsum(rate, axis=1)
    log_first = np.log(-np.expm1(-rate) / rate) - (cleared - rate)
    so_far = np.cumsum(log_ratio_RHT, axis=2)
    log_path = so_far[:, :, -1:] - so_far
    log_path += log_ratio_RHT
    log_path += log_first[:, None]
    np.clip(log_path, -_LIMIT, _LIMIT, out=log_path)
    each = np.einsum("rht,rht->rh", np.exp(log_path, out=log_path), onset_RHT, dtype=np.float64)
    return np.exp(-cleared[:, -1].astype(np.float64)), each
