"""Intention to treat: the effect of the arm that each participant was given, with cluster-robust standard errors.

Least squares on arm, strata and periods, whitened by an exchangeable working correlation; CR2 standard errors with
Satterthwaite degrees of freedom (Bell & McCaffrey 2002; Pustejovsky & Tipton 2018), which keep the type-I error with as
few as a dozen clusters. Participants who are clusters of their own get HC2 standard errors, the same thing. A binary
outcome gives a difference of proportions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

from lifechart.core.errors import InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Effect:
    """Intervention less control, one of each a column of outcomes."""

    estimate: Floats
    standard_error: Floats
    degrees: float
    """Of freedom."""

    @property
    def z(self) -> Floats:
        """The normal deviate with the same one-sided p-value as the t statistic: what the boundaries are in."""
        statistic = self.estimate / self.standard_error
        # Through the survival function of the magnitude, which keeps its precision far out.
        z: Floats = np.sign(statistic) * norm.isf(t.sf(np.abs(statistic), self.degrees))
        return z

    @property
    def p(self) -> Floats:
        """Two-sided p-value."""
        p: Floats = 2 * t.sf(np.abs(self.estimate / self.standard_error), self.degrees)
        return p

    def interval(self, confidence: float = 0.95) -> tuple[Floats, Floats]:
        """Return the confidence limits."""
        reach = t.isf((1 - confidence) / 2, self.degrees) * self.standard_error
        return self.estimate - reach, self.estimate + reach


class Comparison:
    """A fixed allocation, ready to compare any number of outcomes under it."""

    def __init__(
        self,
        arms: Ints,
        *,
        clusters: Ints | None = None,
        periods: Ints | None = None,
        strata: Ints | None = None,
        icc: float = 0.0,
    ) -> None:
        """Prepare from one row a participant.

        `arms`: 1 under the intervention, else 0, at the time of the outcome. `clusters`: number of each row's cluster;
        None: participants are randomised one by one. `periods`, `strata`: effects to remove. `icc`: the working
        intra-cluster correlation; it decides efficiency, never validity. Raises InputError where no effect can be told.
        """
        if not 0 <= icc < 1:
            raise InputError("icc", icc, "a number from 0 to below 1")
        design = _design(arms, periods, strata)
        if np.linalg.matrix_rank(design) < design.shape[1]:
            raise InputError("arms", f"{int(arms.sum())} of {len(arms)} under the intervention", "both arms compared")
        self._groups = None if clusters is None else _groups(clusters)
        self._icc = icc
        self._design = self._whiten(design)
        self._bread = np.linalg.inv(self._design.T @ self._design)
        self._pull = self._design @ self._bread[:, 0]
        """How hard each row's outcome pulls on the estimated effect."""
        self._meat = self._prepare()

    def test(self, outcomes: Floats) -> Effect:
        """Compare `outcomes`, [rows] or [rows, columns]."""
        whitened = self._whiten(outcomes.astype(np.float64).reshape(len(self._pull), -1))
        residuals = whitened - self._design @ (self._bread @ (self._design.T @ whitened))
        weights, degrees = self._meat
        if self._groups is None:
            variance = (weights[0] ** 2) @ residuals**2
        else:
            parts = [(weight @ residuals[rows]) ** 2 for weight, rows in zip(weights, self._groups, strict=True)]
            variance = np.sum(parts, axis=0)
        return Effect(self._pull @ whitened, np.sqrt(variance), degrees)

    def _prepare(self) -> tuple[list[Floats], float]:
        """Return the weights whose products with a cluster's residuals are squared and summed, and the degrees."""
        rows, columns = self._design.shape
        if self._groups is None:
            leverage = np.einsum("ij,jk,ik->i", self._design, self._bread, self._design)
            return [self._pull / np.sqrt(np.clip(1 - leverage, 1e-12, None))], float(rows - columns)
        weights, spread = [], []
        for group in self._groups:
            own = self._design[group]
            weight = _inverse_root(np.eye(len(group)) - own @ self._bread @ own.T) @ self._pull[group]
            weights.append(weight)
            # (I - H)[:, group] @ weight, of which the Satterthwaite degrees need the inner products.
            part = -self._design @ (self._bread @ (own.T @ weight))
            part[group] += weight
            spread.append(part)
        products = np.array(spread) @ np.array(spread).T
        return weights, float(np.trace(products) ** 2 / (products**2).sum())

    def _whiten(self, values: Floats) -> Floats:
        """Multiply by the inverse root of (1 - icc) I + icc J in each cluster."""
        if self._groups is None or self._icc == 0:
            return values
        made = np.empty_like(values)
        for group in self._groups:
            own = values[group]
            shrink = 1 - np.sqrt((1 - self._icc) / (1 + (len(group) - 1) * self._icc))
            made[group] = (own - shrink * own.mean(0)) / np.sqrt(1 - self._icc)
        return made


def _design(arms: Ints, periods: Ints | None, strata: Ints | None) -> Floats:
    columns = [arms.astype(np.float64), np.ones(len(arms))]
    for effects in (periods, strata):
        if effects is not None:
            columns += [(effects == level).astype(np.float64) for level in np.unique(effects)[1:]]
    return np.column_stack(columns)


def _groups(clusters: Ints) -> list[Ints]:
    order = np.argsort(clusters, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(clusters[order])) + 1)


def _inverse_root(matrix: Floats) -> Floats:
    """Return the symmetric inverse square root, directions without variance left out."""
    values, vectors = np.linalg.eigh(matrix)
    kept = values > 1e-9
    root: Floats = (vectors[:, kept] / np.sqrt(values[kept])) @ vectors[:, kept].T
    return root
