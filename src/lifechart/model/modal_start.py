"""Where notes, images and genomes begin: what they add to the hazards, fitted outcome by outcome, in convex form.

Given what the encoders make of the items, the likelihood of first onsets is convex in the weights: a Poisson regression
on windows that overlap nowhere, with what the history expects as exposure (`modal_evidence`). A slot has a normal prior
whose width the marginal likelihood chooses for each outcome (empirical Bayes). It enters only where that likelihood is
far above what chance gives, and where what one half of the people teaches serves the other half. What entered for one
outcome is then tried on the others as a single direction, which takes fewer onsets to see. Products of two slots'
directions come after, on families of outcomes (`modal_pairs`).
Shapes: W windows, O outcomes, S slots, D width of an item's vector, N = S x D, P products, F features of a fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from lifechart.model.encoders import Beginner
from lifechart.model.modal_evidence import STEEPEST, Matrix, evidence, regress, serves_others
from lifechart.model.modal_pairs import Slots, Together, find_products
from lifechart.model.modal_state import ITEM_WIDTH, PRODUCTS, ModalState
from lifechart.model.modalities import Attached, Items

ENTERS, SHARED = 4.0, 2.0
"""Log likelihood, over that without, that the marginal one of a block must reach; and that of one shared direction."""
FEWEST_ONSETS = 15
BLOCKS = (2, 4, 8, 16, ITEM_WIDTH)
"""Of a slot's components, strongest first, so many are tried as one block: a prior that is wide enough for thirty is
too narrow for the two that tell."""
_DIRECTIONS, _WEAKEST = 3, 0.25
"""Directions of a slot that other outcomes try, and how strong beside the strongest."""
_FLAT = 1e-3
"""A component with less than so much of the first one's spread is noise of the arithmetic."""


@dataclass(frozen=True, eq=False)
class Onsets:
    """What came in windows, and what the history expected: [W, O] each, both 0 where an outcome was on record."""

    subject: NDArray[np.int64]
    """[W]"""
    came: NDArray[np.float32]
    expected: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Term:
    """Directions of the state [N, k] that an outcome weighs, and the prior variance of each weight."""

    basis: Matrix
    width: float


@dataclass(frozen=True, eq=False)
class Prior:
    """What a weight costs: one over its prior variance, [O, N] and [O, P]; infinite where it is held at 0."""

    alone: Matrix
    together: Matrix

    @property
    def outcomes(self) -> int:
        """How many outcomes have any weight."""
        return int((np.isfinite(self.alone).any(1) | np.isfinite(self.together).any(1)).sum())


def begin_encoders(modal: ModalState, items: Items, attached: Attached) -> None:
    """Let each encoder that can take its first weights from the training items."""
    for name in modal.names:
        plug = modal.encoders[name]
        if isinstance(plug, Beginner):
            known = [rows for slot, rows in zip(items.slots, attached.known, strict=True) if slot.modality == name]
            plug.begin(items.contents[name], _shares(np.concatenate(known, axis=1), len(items.contents[name][0])))


def _shares(rows_WK: NDArray[np.int64], number: int) -> sparse.csr_array:
    window, place = np.nonzero(rows_WK >= 0)
    size = np.bincount(window, minlength=len(rows_WK))
    return sparse.csr_array((1.0 / size[window], (window, rows_WK[window, place])), shape=(len(rows_WK), number))


@torch.no_grad()
def turn_slots(modal: ModalState, attached: Attached) -> tuple[int, ...]:
    """Set each slot's components to mean 0, spread 1, uncorrelated; return how many each has."""
    ranks = []
    for number in range(len(modal.looks)):
        there, mean_ND = modal.pooled(number, attached)
        if len(there) < 2 * ITEM_WIDTH:
            modal.turn[number].zero_()
            ranks.append(0)
            continue
        middle = mean_ND.mean(0)
        size, turn = torch.linalg.eigh(torch.cov((mean_ND - middle).T.double()))
        size, turn = size.flip(0), turn.flip(1)
        kept = size > _FLAT**2 * size[0].clamp(min=1e-12)
        scale = torch.where(kept, size.clamp(min=1e-12).rsqrt(), 0.0)
        modal.middle[number] = middle
        modal.turn[number] = (turn * scale).float()
        ranks.append(int(kept.sum()))
    return tuple(ranks)


def begin_weights(modal: ModalState, attached: Attached, onsets: Onsets, ranks: tuple[int, ...]) -> Prior:
    """Fit what is above the encoders, in place; return the prior that each weight was fitted under."""
    with torch.no_grad():
        state_WN = modal.state(attached).cpu().numpy().astype(np.float64)
    there_SW = np.stack([(rows >= 0).any(axis=1) for rows in attached.known])
    fit = _Fit(state_WN, there_SW, ranks, onsets)
    alone = fit.alone()
    products, together_OP = fit.together(alone)
    weights = fit.final(alone, products, together_OP)
    variance_ON = np.zeros(tuple(modal.alone.weight.shape))
    for outcome, terms in alone.items():
        for term in terms:
            variance_ON[outcome] += term.width * np.square(term.basis).sum(axis=1)
    with torch.no_grad():
        for layer, values in zip((modal.alone, modal.together), weights, strict=True):
            layer.weight.copy_(torch.from_numpy(values.astype(np.float32)))
        modal.one.weight.zero_()
        modal.other.weight.zero_()
        for number, product in enumerate(products):
            modal.one.weight[number] = torch.from_numpy(product.one.astype(np.float32))
            modal.other.weight[number] = torch.from_numpy(product.other.astype(np.float32))
    with np.errstate(divide="ignore"):
        return Prior(1.0 / variance_ON, together_OP)


class _Fit:
    """The regressions, outcome by outcome."""

    def __init__(self, state_WN: Matrix, there_SW: NDArray[np.bool_], ranks: tuple[int, ...], onsets: Onsets) -> None:
        self.state, self.there, self.ranks = state_WN, there_SW, ranks
        self.subject = onsets.subject
        self.came, self.expected = onsets.came.astype(np.float64), onsets.expected.astype(np.float64)
        self.outcomes = np.flatnonzero(self.came.sum(axis=0) >= FEWEST_ONSETS).tolist()

    def alone(self) -> dict[int, list[Term]]:
        """Return, of each outcome, what of the single slots enters."""
        found: dict[int, list[Term]] = {outcome: [] for outcome in self.outcomes}
        for slot in np.flatnonzero(self.ranks).tolist():
            rows, places = np.flatnonzero(self.there[slot]), self._places(slot)
            features = self.state[np.ix_(rows, places)]
            effects = {}
            for outcome in self.outcomes:
                first = np.eye(len(places), self._best_block(features, rows, outcome))
                tried = self._tried(features @ first, rows, outcome, self.expected[rows, outcome], ENTERS)
                if tried is not None:
                    found[outcome].append(Term(self._placed(places, first), tried[0]))
                    effects[outcome] = first @ tried[1] * np.sqrt(self.came[rows, outcome].sum())
            directions = _main(list(effects.values()))
            for outcome in set(self.outcomes) - set(effects) if len(directions) else ():
                for direction in directions:
                    seen = features @ direction[:, None]
                    tried = self._tried(seen, rows, outcome, self.expected[rows, outcome], SHARED)
                    if tried is not None:
                        found[outcome].append(Term(self._placed(places, direction[:, None]), tried[0]))
        return found

    def together(self, alone: dict[int, list[Term]]) -> tuple[list[Together], Matrix]:
        """Return products that count, and what their weights cost [O, P]."""
        after = self.expected.copy()
        for outcome, terms in alone.items():
            after[:, outcome] *= np.exp(self._said(terms, outcome))
        places = tuple(self._places(slot) for slot in range(len(self.ranks)))
        found = find_products(
            Slots(self.state, self.there, places, self.subject), self.came, after, FEWEST_ONSETS, PRODUCTS
        )
        cost = np.full((self.came.shape[1], PRODUCTS), np.inf)
        for number, product in enumerate(found):
            cost[list(product.widths), number] = 1.0 / np.array(list(product.widths.values()))
            # One product is left to be tried, on outcomes that the family missed.
            seen = product.said(self.state)[:, None]
            rows = np.flatnonzero(seen[:, 0])
            for outcome in set(self.outcomes) - product.widths.keys():
                tried = self._tried(seen[rows], rows, outcome, after[rows, outcome], SHARED)
                if tried is not None:
                    cost[outcome, number] = 1.0 / tried[0]
        return found, cost

    def final(self, alone: dict[int, list[Term]], products: list[Together], cost_OP: Matrix) -> tuple[Matrix, Matrix]:
        """Return the weights of components [O, N] and of products [O, P], fitted together."""
        said = [np.zeros((len(self.state), 0)), *(product.said(self.state)[:, None] for product in products)]
        together = np.concatenate(said, axis=1)
        by_slot, by_product = np.zeros((self.came.shape[1], self.state.shape[1])), np.zeros_like(cost_OP)
        for outcome in range(self.came.shape[1]):
            terms, mine = alone.get(outcome, []), np.flatnonzero(np.isfinite(cost_OP[outcome]))
            if not terms and not len(mine):
                continue
            basis, cost = _joined(terms, self.state.shape[1])
            features = np.concatenate([self.state @ basis, together[:, mine]], axis=1)
            weights = regress(
                features, self.came[:, outcome], self.expected[:, outcome],
                np.concatenate([cost, cost_OP[outcome, mine]]),
            )  # fmt: skip
            by_slot[outcome] = basis @ weights[: basis.shape[1]]
            by_product[outcome, mine] = weights[basis.shape[1] :]
        return by_slot, by_product

    def _best_block(self, features: Matrix, rows: NDArray[np.int64], outcome: int) -> int:
        """Return of how many first components the marginal likelihood is greatest."""
        came, expected = self.came[rows, outcome], self.expected[rows, outcome]
        sizes: list[int] = sorted({min(size, features.shape[1]) for size in BLOCKS})
        return max(sizes, key=lambda size: evidence(features[:, :size], came, expected)[0])

    def _tried(
        self, features: Matrix, rows: NDArray[np.int64], outcome: int, expected: Matrix, least: float
    ) -> tuple[float, Matrix] | None:
        """Return the prior variance and the effects of features that enter, None of others."""
        came = self.came[rows, outcome]
        if came.sum() < FEWEST_ONSETS:
            return None
        gain, width, effect, _ = evidence(features, came, expected)
        if gain <= least or not serves_others(features, came, expected, self.subject[rows]):
            return None
        return width, effect

    def _said(self, terms: list[Term], outcome: int) -> Matrix:
        if not terms:
            return np.zeros(len(self.state))
        basis, cost = _joined(terms, self.state.shape[1])
        features = self.state @ basis
        weights = regress(features, self.came[:, outcome], self.expected[:, outcome], cost)
        return np.asarray(np.clip(features @ weights, -STEEPEST, STEEPEST))

    def _places(self, slot: int) -> NDArray[np.int64]:
        return slot * ITEM_WIDTH + np.arange(self.ranks[slot])

    def _placed(self, places: NDArray[np.int64], values: Matrix) -> Matrix:
        placed = np.zeros((self.state.shape[1], *values.shape[1:]))
        placed[places] = values
        return placed


def _joined(terms: list[Term], width: int) -> tuple[Matrix, Matrix]:
    basis = np.concatenate([np.zeros((width, 0)), *(term.basis for term in terms)], axis=1)
    return basis, np.concatenate([np.zeros(0), *(np.full(term.basis.shape[1], 1.0 / term.width) for term in terms)])


def _main(effects: list[Matrix]) -> list[Matrix]:
    """Return the main directions [F] of several outcomes' effects."""
    if not effects:
        return []
    _, size, turn = np.linalg.svd(np.stack(effects), full_matrices=False)
    kept = [number for number in range(min(len(size), _DIRECTIONS)) if size[number] > _WEAKEST * size[0]]
    return [turn[number] for number in kept]
