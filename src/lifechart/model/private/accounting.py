"""What a series of noisy releases costs: privacy loss distributions, composed with the FFT.

Neighbouring data sets differ by one patient, added or removed. A mechanism is the Gaussian one, on a Poisson sample of
the patients or on all of them; its loss is put on a grid by connecting the dots of its hockey-stick curve (Doroshenko
et al., PoPETs 2022), which never understates it, and series are composed by multiplying Fourier transforms. Mass that
the grid cannot hold counts as a breach. The result is an upper bound, up to the rounding of double precision (near
1e-12, so nothing is said for a delta below 1e-10).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft
from scipy.optimize import brentq
from scipy.special import logsumexp, ndtr, ndtri

from lifechart.core.errors import InputError

STEP = 1e-4
"""Width of the grid of losses."""
SMALLEST_DELTA = 1e-10
_TAIL = 1e-15
"""Mass cut off on either side, of one release and of the whole series; all of it counts as a breach."""
_TILTS = np.geomspace(0.05, 500.0, 30)
_WIDEST = 16_000_000
_COARSE = 20
"""How many times wider the grid may be in a search whose find is then held against the fine one."""


@dataclass(frozen=True, slots=True)
class Release:
    """`times` releases of a sum with Gaussian noise of `noise` times what one patient can change it by.

    Each is made of a fresh Poisson sample that holds any patient with probability `sampling` (1: of everybody).
    """

    noise: float
    sampling: float = 1.0
    times: int = 1

    def __post_init__(self) -> None:
        if not self.noise > 0:
            raise InputError("Release.noise", self.noise, "more than 0")
        if not 0 < self.sampling <= 1:
            raise InputError("Release.sampling", self.sampling, "a probability above 0")
        if self.times < 1:
            raise InputError("Release.times", self.times, "at least 1")


@dataclass(frozen=True)
class Losses:
    """A distribution of privacy loss: `mass` at (low + i) x `step`, and `breach`, the mass at infinity."""

    low: int
    mass: NDArray[np.float64]
    breach: float
    step: float = STEP

    @property
    def values(self) -> NDArray[np.float64]:
        """The losses on the grid."""
        values: NDArray[np.float64] = np.arange(self.low, self.low + len(self.mass)).astype(np.float64) * self.step
        return values

    def delta(self, epsilon: float) -> float:
        """Return the delta that goes with an epsilon."""
        above = self.values > epsilon
        return float(self.breach - (np.expm1(epsilon - self.values[above]) * self.mass[above]).sum())

    def epsilon(self, delta: float) -> float:
        """Return the smallest epsilon (at least 0) that goes with a delta; infinite where none does."""
        if self.breach > delta:
            return math.inf
        if self.delta(0.0) <= delta:
            return 0.0
        return float(brentq(lambda e: self.delta(e) - delta, 0.0, float(self.values[-1]) + self.step, xtol=1e-7))


def losses_of(release: Release, *, removed: bool, step: float = STEP) -> Losses:
    """Return the loss of one such release when a patient is removed (else: added)."""
    noise, q = release.noise, release.sampling

    def loss(x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log density with the patient over without, where the sum without is 0 and the patient's part is 1."""
        shift = (2 * x - 1) / (2 * noise**2)
        return shift if q == 1 else np.logaddexp(math.log1p(-q), math.log(q) + shift)

    def place(at: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where that log ratio takes a value; minus infinity where it never falls so low."""
        if q == 1:
            return at * noise**2 + 0.5
        above = -np.expm1(math.log1p(-q) - at)  # (e^l - (1 - q)) / e^l
        with np.errstate(divide="ignore", invalid="ignore"):
            inner = noise**2 * (at + np.log(above) - math.log(q)) + 0.5
        return np.where(above > 0, inner, -np.inf)

    reach = -noise * float(ndtri(_TAIL))
    ends = loss(np.array([-reach, 1 + reach]))
    low, high = math.floor(ends[0] / step) - 1, math.ceil(ends[1] / step) + 1
    grid = np.arange(low, high + 1)
    x = place(grid * step)
    without = _between(x / noise)
    with_him = (1 - q) * without + q * _between((x - 1) / noise)
    if removed:
        mass, other, values = with_him, without, grid * step
    else:  # The ratio turns round: so do the intervals.
        mass, other, values, low = without[::-1], with_him[::-1], -grid[::-1] * step, -high
    # Each interval's mass goes to its two ends so that both distributions keep theirs.
    upper = np.clip((mass - other * np.exp(values[:-1])) / -math.expm1(-step), 0.0, mass)
    dots = np.zeros(len(values))
    dots[:-1] += mass - upper
    dots[1:] += upper
    return Losses(low, dots, max(0.0, 1.0 - float(dots.sum())), step)


def _between(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the standard normal mass of consecutive intervals, from whichever tail keeps its digits."""
    below, above = ndtr(z), ndtr(-z)
    mass: NDArray[np.float64] = np.maximum(np.where(z[:-1] > 0, above[:-1] - above[1:], below[1:] - below[:-1]), 0.0)
    return mass


def compose(series: Sequence[Release], *, removed: bool, step: float = STEP) -> Losses:
    """Return the loss of all releases together, each chosen knowing the ones before."""
    parts = [(losses_of(each, removed=removed, step=step), each.times) for each in series]
    if len(parts) == 1 and parts[0][1] == 1:
        return parts[0][0]
    low, high = _window(parts)
    size = next_fast_len(high - low + 1, real=True)
    if size > _WIDEST:
        raise InputError("noise", min(each.noise for each in series), "noise that leaves an epsilon of some meaning")
    transform = np.ones(size // 2 + 1, dtype=np.complex128)
    offset = 0
    for each, times in parts:
        transform *= rfft(_folded(each.mass, size)) ** times
        offset += each.low * times
    mass = irfft(transform, size)
    mass = np.maximum(np.roll(mass, (offset - low) % size), 0.0)
    kept = math.fsum(times * math.log1p(-each.breach) for each, times in parts)
    return Losses(low, mass, -math.expm1(kept) + 2 * _TAIL, step)


def _folded(mass: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Wrap a distribution that is longer than the window; what wraps round is within what the window cuts off."""
    padded = np.zeros(-(-len(mass) // size) * size)
    padded[: len(mass)] = mass
    folded: NDArray[np.float64] = padded.reshape(-1, size).sum(axis=0)
    return folded


def _window(parts: Sequence[tuple[Losses, int]]) -> tuple[int, int]:
    """Return grid bounds outside which the sum has at most _TAIL on either side, by Chernoff's bound."""
    bounds, step = [], parts[0][0].step
    for sign in (-1.0, 1.0):
        best = math.inf
        for tilt in _TILTS:
            log_moment = 0.0
            for each, times in parts:
                held = each.mass > 0
                log_moment += times * logsumexp(sign * tilt * each.values[held], b=each.mass[held])
            best = min(best, (float(log_moment) - math.log(_TAIL)) / tilt)
        bounds.append(sign * best)
    return math.floor(bounds[0] / step), math.ceil(bounds[1] / step)


def epsilon_of(series: Sequence[Release], delta: float, step: float = STEP) -> float:
    """Return the epsilon that a series of releases costs any patient at `delta`.

    Raises InputError for a delta out of (SMALLEST_DELTA, 1).
    """
    if not SMALLEST_DELTA <= delta < 1:
        raise InputError("delta", delta, f"at least {SMALLEST_DELTA} and below 1")
    return max(compose(series, removed=removed, step=step).epsilon(delta) for removed in (True, False))


def noise_for(epsilon: float, delta: float, sampling: float, times: int, beside: Sequence[Release] = ()) -> float:
    """Return the least noise (to a thousandth) at which `times` releases, with those `beside` them, cost `epsilon`.

    Raises InputError where the ones beside have spent it all.
    """
    if beside and epsilon_of(beside, delta, STEP * _COARSE) >= epsilon:
        raise InputError("epsilon", epsilon, "more than what the statistics alone cost")

    def above(log_noise: float) -> float:
        spent = epsilon_of([Release(math.exp(log_noise), sampling, times), *beside], delta, STEP * _COARSE)
        return math.log(max(spent, 1e-9) / epsilon)

    low, high = 0.0, 0.0
    while above(low) < 0:
        low -= 0.5
    while above(high) >= 0:
        high += 0.7
        if high > 12:
            raise InputError("epsilon", epsilon, "more than what the statistics alone cost")
    noise = math.exp(brentq(above, low, high, xtol=5e-4))
    while epsilon_of([Release(noise, sampling, times), *beside], delta) > epsilon:
        noise *= 1.0005
    return noise
