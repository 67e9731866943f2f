"""How many participants or clusters a trial needs, and the power that it has: closed forms, with the ICC.

Individual: the usual two-sample formula. Cluster: design effect 1 + (m - 1) icc (Donner & Klar 2000), for clusters of
sizes that vary with coefficient of variation cv 1 + ((1 + cv²) m - 1) icc (Eldridge et al. 2006). Stepped wedge: Hussey
& Hughes 2007. Few clusters are made up for by the t distribution.
"""

from __future__ import annotations

from math import ceil, sqrt

from scipy.stats import nct, norm, t

from lifechart.core.errors import InputError


def individual_variance(num: float, sd: float, share: float = 0.5) -> float:
    """Return the variance of the difference of means of `num` participants, `share` of them under the intervention."""
    return sd**2 / (num * share) + sd**2 / (num * (1 - share))


def individual_size(effect: float, sd: float, *, alpha: float, power: float, inflation: float = 1.0) -> int:
    """Return participants, both arms together, 1:1. `alpha` one-sided; `inflation`: what looks cost (sequential)."""
    _check(effect, alpha, power)
    needed = norm.isf(alpha) + norm.isf(1 - power)
    return 2 * ceil(float(2 * inflation * (needed * sd / effect) ** 2))


def design_effect(size: float, icc: float, cv: float = 0.0) -> float:
    """Return how many times more participants clusters of mean `size` need."""
    return 1 + ((1 + cv**2) * size - 1) * icc


def cluster_number(
    effect: float, sd: float, size: float, icc: float, *, alpha: float, power: float, cv: float = 0.0
) -> int:
    """Return clusters, both arms together, for a t test on as many less two degrees of freedom."""
    _check(effect, alpha, power)
    number = 4
    while cluster_power(effect, sd, number, size, icc, alpha=alpha, cv=cv) < power:
        number += 2
        if number > 1_000_000:
            raise InputError("effect", effect, "one that a million clusters can show")
    return number


def cluster_power(
    effect: float, sd: float, number: int, size: float, icc: float, *, alpha: float, cv: float = 0.0
) -> float:
    """Return the power of `number` clusters, half of them under the intervention."""
    variance = individual_variance(number * size, sd) * design_effect(size, icc, cv)
    return _power(effect / sqrt(variance), number - 2, alpha)


def stepped_wedge_variance(clusters: int, steps: int, size: float, sd: float, icc: float) -> float:
    """Return the variance of the effect when equal shares of `clusters` cross over at each of `steps` steps.

    There are steps + 1 periods, each with `size` participants a cluster (Hussey & Hughes 2007, equation 8).
    """
    if steps < 1 or clusters % steps:
        raise InputError("clusters", clusters, f"a multiple of the {steps} steps")
    between, within = icc * sd**2, (1 - icc) * sd**2 / size
    periods, each = steps + 1, clusters // steps
    exposed = [each * period for period in range(periods)]
    total = sum(exposed)
    squares_by_period = sum(count**2 for count in exposed)
    squares_by_cluster = sum(each * count**2 for count in range(1, steps + 1))
    divisor = (clusters * total - squares_by_period) * within + (
        total**2 + clusters * periods * total - periods * squares_by_period - clusters * squares_by_cluster
    ) * between
    return clusters * within * (within + periods * between) / divisor


def stepped_wedge_power(
    effect: float, sd: float, clusters: int, steps: int, size: float, icc: float, *, alpha: float
) -> float:
    """Return the power of a stepped wedge, on clusters less two degrees of freedom."""
    return _power(effect / sqrt(stepped_wedge_variance(clusters, steps, size, sd, icc)), clusters - 2, alpha)


def _power(shift: float, degrees: int, alpha: float) -> float:
    """Return the power of a one-sided t test of an effect of `shift` standard errors (noncentral t)."""
    return float(nct.sf(t.isf(alpha, degrees), degrees, abs(shift)))


def _check(effect: float, alpha: float, power: float) -> None:
    if effect == 0:
        raise InputError("effect", effect, "a difference worth finding, not zero")
    if not 0 < alpha < 0.5:
        raise InputError("alpha", alpha, "a number between 0 and 0.5, one-sided")
    if not alpha < power < 1:
        raise InputError("power", power, "a number between alpha and 1")
