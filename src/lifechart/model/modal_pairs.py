"""What two slots say together: products of single directions of the two, tried on families of outcomes.

One outcome's onsets are too few for a combination. What the record leaves unexplained often strikes several outcomes of
a person at once, so outcomes whose residuals go together between people form families (a tree of them, by average
linkage), and a product is tried on a family's onsets as one. Directions are a slot's main components, and the
independent ones among these (FastICA: Hyvarinen 1999): a picture that is of one kind or of another stands out along one
of them. What is tried is counted: a score must exceed what the most of as many scores of noise would reach (Donoho and
Johnstone 1994), between people, and serve people that it was not fitted to.
Shapes: W windows, O outcomes, N all slots' components side by side, D directions of a slot.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.cluster import hierarchy
from scipy.spatial import distance

from lifechart.model.modal_evidence import (
    STEEPEST,
    Matrix,
    by_person,
    evidence,
    levelled,
    regress,
    score_by_person,
    scores,
    serves_others,
)

_MAIN = 8
"""Components of a slot that products are tried with, and as many independent directions among them."""
_ROUNDS, _SETTLED = 200, 1e-5
_NORMAL_LOG_COSH = 0.37457
"""The mean of log cosh of a standard normal."""


@dataclass(frozen=True, eq=False)
class Slots:
    """The state of the windows, [W, N], which slots are there [S, W], each slot's places in the state, whose window."""

    state: Matrix
    there: NDArray[np.bool_]
    places: tuple[NDArray[np.int64], ...]
    subject: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Together:
    """A product of two directions [N], and of each outcome that it tells of the prior variance of its weight."""

    one: Matrix
    other: Matrix
    widths: dict[int, float]

    def said(self, state_WN: Matrix) -> Matrix:
        """Return the product at each window."""
        return np.asarray((state_WN @ self.one) * (state_WN @ self.other))


def families(came_WO: Matrix, expected_WO: Matrix, subject_W: NDArray[np.int64]) -> list[tuple[int, ...]]:
    """Return each outcome by itself, and each set of outcomes whose residuals go together between people.

    The sets are the inner nodes of a tree; of O outcomes there are O - 1.
    """
    outcomes = came_WO.shape[1]
    nodes: list[tuple[int, ...]] = [(outcome,) for outcome in range(outcomes)]
    if outcomes < 2:
        return nodes
    residual = by_person(came_WO - levelled(came_WO, expected_WO), subject_W)
    spread = np.sqrt(np.square(residual).sum(axis=0))
    unlike = 1.0 - (residual.T @ residual) / np.maximum(np.outer(spread, spread), 1e-12)
    np.fill_diagonal(unlike, 0.0)
    tree = hierarchy.linkage(distance.squareform((unlike + unlike.T) / 2, checks=False), "average")
    for one, other in tree[:, :2].astype(int):
        nodes.append(nodes[one] + nodes[other])
    return nodes


def find_products(slots: Slots, came_WO: Matrix, expected_WO: Matrix, fewest: int, most: int) -> list[Together]:
    """Return products of two slots' directions that tell of families of outcomes, at most `most`, the surest first.

    `expected_WO`: with what single slots say. `fewest`: onsets that a family must have among people with both.
    """
    after = expected_WO.copy()
    tried = _Tried(slots, list(_pairs(slots)), came_WO, families(came_WO, expected_WO, slots.subject), fewest)
    found: list[Together] = []
    refused: set[tuple[int, int, int]] = set()
    while len(found) < most and (best := tried.best(after, refused)) is not None:
        refused.add(best)
        widths = tried.widths(best, after)
        if widths:
            found.append(Together(*tried.pairs[best[0]].directions(best[1]), widths))
    return found


@dataclass(frozen=True, eq=False)
class _Pair:
    """Two slots' directions [N, D], and the windows in which both are there."""

    one: Matrix
    other: Matrix
    rows: NDArray[np.int64]

    def products(self, state_WN: Matrix) -> Matrix:
        left, right = state_WN[self.rows] @ self.one, state_WN[self.rows] @ self.other
        return np.asarray((left[:, :, None] * right[:, None, :]).reshape(len(self.rows), -1))

    def directions(self, product: int) -> tuple[Matrix, Matrix]:
        one, other = divmod(product, self.other.shape[1])
        return self.one[:, one], self.other[:, other]


def _pairs(slots: Slots) -> Iterator[_Pair]:
    used = [slot for slot, places in enumerate(slots.places) if len(places)]
    directions = {slot: _directions(slots, slot) for slot in used}
    for one, other in itertools.combinations(used, 2):
        rows = np.flatnonzero(slots.there[one] & slots.there[other])
        if len(rows):
            yield _Pair(directions[one], directions[other], rows)


class _Tried:
    """All products of all pairs of slots, on all families."""

    def __init__(
        self, slots: Slots, pairs: list[_Pair], came_WO: Matrix, groups: list[tuple[int, ...]], fewest: int
    ) -> None:
        self.slots, self.pairs, self.came, self.groups, self.fewest = slots, pairs, came_WO, groups, fewest
        self.member_OG = np.zeros((came_WO.shape[1], len(groups)))
        for number, family in enumerate(groups):
            self.member_OG[list(family), number] = 1.0

    def best(self, after_WO: Matrix, refused: set[tuple[int, int, int]]) -> tuple[int, int, int] | None:
        """Return pair, product and family with the highest score that noise would not reach; None if there is none."""
        passed: list[tuple[float, tuple[int, int, int]]] = []
        number = 0
        for index, pair in enumerate(self.pairs):
            came, after = self.came[pair.rows] @ self.member_OG, after_WO[pair.rows] @ self.member_OG
            enough = np.flatnonzero(came.sum(axis=0) >= self.fewest)
            found = scores(pair.products(self.slots.state), came[:, enough], after[:, enough])
            number += found.size
            high = np.argwhere(np.abs(found) > _beyond_noise(found.size))
            passed += [(abs(float(found[at, to])), (index, int(at), int(enough[to]))) for at, to in high]
        least = _beyond_noise(number)
        scored = []
        for score, place in passed:
            if score > least and place not in refused:
                rows, said = self._said(place)
                scored.append((min(score, self._between_people(said, rows, place[2], after_WO)), place))
        best = max(scored, default=(0.0, (0, 0, 0)))
        return best[1] if best[0] > least else None

    def widths(self, place: tuple[int, int, int], after_WO: Matrix) -> dict[int, float]:
        """Return of a product's outcomes the prior variances, none if it does not serve others; `after_WO` is told."""
        rows, said_W = self._said(place)
        family = np.array(self.groups[place[2]])
        came, rate = self.came[np.ix_(rows, family)], after_WO[np.ix_(rows, family)]
        feature = said_W[:, None]
        if not serves_others(feature, came.sum(axis=1), rate.sum(axis=1), self.slots.subject[rows]):
            return {}
        _, width, _, _ = evidence(feature, came.sum(axis=1), rate.sum(axis=1))
        # Who is in the family by chance, and whose own onsets say nothing, stays out.
        own = [evidence(feature, came[:, at], rate[:, at], np.array([width]))[0] for at in range(len(family))]
        outcomes = [outcome for outcome, gain in zip(family.tolist(), own, strict=True) if gain > 0]
        for outcome in outcomes:
            (weight,) = regress(feature, self.came[rows, outcome], after_WO[rows, outcome], np.array([1.0 / width]))
            after_WO[rows, outcome] *= np.exp(np.clip(said_W * weight, -STEEPEST, STEEPEST))
        return dict.fromkeys(outcomes, width)

    def _said(self, place: tuple[int, int, int]) -> tuple[NDArray[np.int64], Matrix]:
        pair = self.pairs[place[0]]
        one, other = pair.directions(place[1])
        return pair.rows, np.asarray((self.slots.state[pair.rows] @ one) * (self.slots.state[pair.rows] @ other))

    def _between_people(self, said_W: Matrix, rows: NDArray[np.int64], group: int, after_WO: Matrix) -> float:
        member = self.member_OG[:, group]
        subject = self.slots.subject[rows]
        return abs(score_by_person(said_W, self.came[rows] @ member, after_WO[rows] @ member, subject))


def _beyond_noise(number: int) -> float:
    """Return about the highest of so many standard normals."""
    return float(np.sqrt(2 * np.log(max(number, 2))))


def _directions(slots: Slots, slot: int) -> Matrix:
    """Return a slot's main components and the independent directions among these [N, D]."""
    places = slots.places[slot][:_MAIN]
    main = np.eye(slots.state.shape[1])[:, places]
    if len(places) < 2:
        return main
    return np.concatenate([main, main @ independent(slots.state[np.ix_(slots.there[slot], places)])], axis=1)


def independent(values_WD: Matrix) -> Matrix:
    """Return directions [D, D] along which values are as independent as can be, each of spread 1; flattest first.

    Symmetric FastICA, from the identity on, with log cosh: the same values give the same directions.
    """
    centred = values_WD - values_WD.mean(axis=0)
    size, turn = np.linalg.eigh(np.cov(centred.T))
    whiten = turn / np.sqrt(np.maximum(size, 1e-9 * size[-1])) @ turn.T
    white = centred @ whiten
    found = np.eye(white.shape[1])
    for _ in range(_ROUNDS):
        bent = np.tanh(white @ found)
        left, _, right = np.linalg.svd(white.T @ bent / len(white) - found * (1.0 - np.square(bent)).mean(axis=0))
        before, found = found, left @ right
        if np.abs(np.abs((before * found).sum(axis=0)) - 1.0).max() < _SETTLED:
            break
    # Flatter than a normal: two kinds rather than a few that lie far off.
    flat = np.log(np.cosh(white @ found)).mean(axis=0) - _NORMAL_LOG_COSH
    return np.asarray(whiten @ found[:, np.argsort(-flat, kind="stable")])
