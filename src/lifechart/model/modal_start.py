"""Where notes, images and genomes begin: what they add to the hazards, fitted outcome by outcome, before encoders learn.

Given what the encoders make of the items, the likelihood of first onsets is convex in the weights: a Poisson regression
on windows that overlap nowhere, with what the history expects as exposure (Holford, Biometrics 1980). A block of
weights (a slot, or two slots' products) has a normal prior whose width the marginal likelihood chooses for each
outcome (empirical Bayes; a score test against no effect, as SKAT's: Wu et al., AJHG 2011), and enters only where that is
far above what chance gives: with a hundred outcomes and most signals in a few, one learning for all drowned them.
Shapes: W windows, O outcomes, S slots, D width of an item's vector, N = S x D, P products, F features of a fit.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from lifechart.model.encoders import Beginner, Lesson
from lifechart.model.modal_state import ITEM_WIDTH, PRODUCTS, ModalState
from lifechart.model.modalities import Attached, Items

Matrix = NDArray[np.float64]

ENTERS = 4.0
"""Log likelihood, over that without, that a block's marginal likelihood must reach."""
FEWEST_ONSETS = 10
_WIDTHS = np.geomspace(1e-3, 3.0, 24)
"""Variances that a prior may have: of the effect on the log hazard of a component's standard deviation."""
_ITERATIONS = 8
_STEEPEST = 4.0
_MOST_OF_PAIR, _FEWEST_OF_SLOT = 64, 8
_FLAT = 1e-3
"""A component with less than so much of the first one's spread is noise of the arithmetic."""


@dataclass(frozen=True, eq=False)
class Onsets:
    """What came in windows, and what the history expected: [W, O] each, both 0 where an outcome was on record."""

    came: NDArray[np.float32]
    expected: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Prior:
    """What a weight costs: one over its prior variance, [O, N] and [O, P]; infinite where it is held at 0."""

    alone: Matrix
    together: Matrix

    @property
    def outcomes(self) -> int:
        """How many outcomes have any weight."""
        return int((np.isfinite(self.alone).any(1) | np.isfinite(self.together).any(1)).sum())


def begin_encoders(modal: ModalState, items: Items, attached: Attached, onsets: Onsets) -> None:
    """Let each encoder that can take its first weights from the training items and what came of people."""
    for name in modal.names:
        plug = modal.encoders[name]
        if isinstance(plug, Beginner):
            known = [rows for slot, rows in zip(items.slots, attached.known, strict=True) if slot.modality == name]
            share = _shares(np.concatenate(known, axis=1), len(items.contents[name][0]))
            plug.begin(items.contents[name], Lesson(share, onsets.came, onsets.expected))


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
    factors, prior = fit.together(alone)
    weights = fit.final(alone, factors, prior)
    outcomes, inside = modal.alone.weight.shape
    found = Prior(np.full((outcomes, inside), np.inf), prior)
    for outcome, kept in alone.items():
        for slot, width in kept.items():
            found.alone[outcome, slot * ITEM_WIDTH : slot * ITEM_WIDTH + ranks[slot]] = 1.0 / width
    with torch.no_grad():
        for layer, values in zip((modal.alone, modal.together), weights, strict=True):
            layer.weight.copy_(torch.from_numpy(values.astype(np.float32)))
        for layer, side in ((modal.one, 0), (modal.other, 1)):
            layer.weight.zero_()
            layer.weight[: len(factors)] = torch.from_numpy(np.array([each[side] for each in factors], np.float32).reshape(-1, inside))
    return found


class _Fit:
    """The regressions, outcome by outcome."""

    def __init__(self, state_WN: Matrix, there_SW: NDArray[np.bool_], ranks: tuple[int, ...], onsets: Onsets) -> None:
        self.state, self.there, self.ranks = state_WN, there_SW, ranks
        self.came, self.expected = onsets.came.astype(np.float64), onsets.expected.astype(np.float64)
        self.outcomes = np.flatnonzero(self.came.sum(axis=0) >= FEWEST_ONSETS).tolist()

    def slot(self, number: int, rows: NDArray[np.int64] | slice = slice(None), most: int = ITEM_WIDTH) -> Matrix:
        """Return a slot's components [W, its rank, at most `most`]."""
        first = number * ITEM_WIDTH
        return self.state[rows, first : first + min(self.ranks[number], most)]

    def alone(self) -> dict[int, dict[int, float]]:
        """Return, of each outcome, the slots that enter and the prior variance of each."""
        found: dict[int, dict[int, float]] = {outcome: {} for outcome in self.outcomes}
        for slot, rank in enumerate(self.ranks):
            rows = np.flatnonzero(self.there[slot])
            features = self.slot(slot, rows)
            for outcome in self.outcomes if rank else ():
                gain, width, _ = evidence(features, self.came[rows, outcome], self.expected[rows, outcome])
                if gain > ENTERS:
                    found[outcome][slot] = width
        return found

    def together(self, alone: dict[int, dict[int, float]]) -> tuple[list[tuple[Matrix, Matrix]], Matrix]:
        """Return pairs of directions [N] whose products count, and what their weights cost [O, P]."""
        after = {outcome: self.expected[:, outcome] * np.exp(self._said(kept, outcome)) for outcome, kept in alone.items()}
        drafts: list[tuple[float, Matrix, Matrix, tuple[int, int]]] = []
        widths: dict[tuple[int, int], dict[int, float]] = {}
        for one, other in itertools.combinations(np.flatnonzero(self.ranks).tolist(), 2):
            rows = np.flatnonzero(self.there[one] & self.there[other])
            if len(rows) < 2 * ITEM_WIDTH:
                continue
            # Against a score, which has one component, all those of an image count; else the first few of both.
            left = self.slot(one, rows, _MOST_OF_PAIR // min(self.ranks[other], _FEWEST_OF_SLOT))
            right = self.slot(other, rows, _MOST_OF_PAIR // min(left.shape[1], _MOST_OF_PAIR))
            features = (left[:, :, None] * right[:, None, :]).reshape(len(rows), -1)
            tables = []
            for outcome in self.outcomes:
                gain, width, effect = evidence(features, self.came[rows, outcome], after[outcome][rows])
                if gain > ENTERS:
                    widths.setdefault((one, other), {})[outcome] = width
                    tables.append(effect * np.sqrt(self.came[rows, outcome].sum()))
            drafts += [
                (size, self._placed(one, first), self._placed(other, second), (one, other))
                for size, first, second in _directions(tables, left.shape[1])
            ]
        drafts.sort(key=lambda draft: -draft[0])
        chosen = drafts[:PRODUCTS]
        cost = np.full((self.came.shape[1], PRODUCTS), np.inf)
        for number, (*_, pair) in enumerate(chosen):
            for outcome, width in widths[pair].items():
                cost[outcome, number] = 1.0 / width
        return [(first, second) for _, first, second, _ in chosen], cost

    def final(
        self, alone: dict[int, dict[int, float]], factors: list[tuple[Matrix, Matrix]], cost_OP: Matrix
    ) -> tuple[Matrix, Matrix]:
        """Return the weights of components [O, N] and of products [O, P], fitted together."""
        products = np.stack([(self.state @ one) * (self.state @ other) for one, other in factors], axis=1) if factors else np.zeros((len(self.state), 0))
        by_slot, by_product = np.zeros((self.came.shape[1], self.state.shape[1])), np.zeros_like(cost_OP)
        for outcome, kept in alone.items():
            mine = np.flatnonzero(np.isfinite(cost_OP[outcome]))
            places = [slot * ITEM_WIDTH + np.arange(self.ranks[slot]) for slot in kept]
            columns = np.concatenate([np.zeros(0, np.int64), *places])
            if not len(columns) and not len(mine):
                continue
            features = np.concatenate([self.state[:, columns], products[:, mine]], axis=1)
            cost = np.concatenate([*(np.full(self.ranks[slot], 1.0 / width) for slot, width in kept.items()), cost_OP[outcome, mine]])
            found = regress(features, self.came[:, outcome], self.expected[:, outcome], cost)
            by_slot[outcome, columns], by_product[outcome, mine] = found[: len(columns)], found[len(columns) :]
        return by_slot, by_product

    def _said(self, kept: dict[int, float], outcome: int) -> Matrix:
        if not kept:
            return np.zeros(len(self.state))
        features = np.concatenate([self.slot(slot) for slot in kept], axis=1)
        cost = np.concatenate([np.full(self.ranks[slot], 1.0 / width) for slot, width in kept.items()])
        return np.clip(features @ regress(features, self.came[:, outcome], self.expected[:, outcome], cost), -_STEEPEST, _STEEPEST)

    def _placed(self, slot: int, direction: Matrix) -> Matrix:
        placed = np.zeros(self.state.shape[1])
        placed[slot * ITEM_WIDTH : slot * ITEM_WIDTH + len(direction)] = direction
        return placed


def _directions(tables: list[Matrix], width: int) -> list[tuple[float, Matrix, Matrix]]:
    """Return, of outcomes' tables of effects [left x right], directions left and right of length 1 that make them up."""
    if not tables:
        return []
    stacked = np.stack([table.reshape(-1) for table in tables])
    _, size, shapes = np.linalg.svd(stacked, full_matrices=False)
    found = []
    for strength, shape in zip(size, shapes, strict=True):
        left, parts, right = np.linalg.svd(shape.reshape(width, -1), full_matrices=False)
        found += [(float(strength * part), left[:, n], right[n]) for n, part in enumerate(parts[:3])]
    return [each for each in found if each[0] > 0.2 * max(size)]


def evidence(features_WF: Matrix, came_W: Matrix, expected_W: Matrix) -> tuple[float, float, Matrix]:
    """Return the log marginal likelihood of features over that without, the prior variance with the most, and effects.

    To second order about no effect; the mean of the features is taken out, so that no level is told by them.
    """
    total = expected_W.sum()
    if came_W.sum() < FEWEST_ONSETS or total <= 0:
        return 0.0, 0.0, np.zeros(features_WF.shape[1])
    # What the history gets wrong on the whole is nothing that the features tell.
    expected_W = expected_W * (came_W.sum() / total)
    total = expected_W.sum()
    middle = expected_W @ features_WF / total
    centred = features_WF - middle
    gradient = centred.T @ (came_W - expected_W)
    size, turn = np.linalg.eigh((centred * expected_W[:, None]).T @ centred)
    size, turned = np.maximum(size, 0.0), turn.T @ gradient
    widths = _WIDTHS[:, None]
    gains = 0.5 * (widths * turned**2 / (1 + widths * size) - np.log1p(widths * size)).sum(axis=1)
    best = int(gains.argmax())
    width = float(_WIDTHS[best])
    return float(gains[best]), width, turn @ (width * turned / (1 + width * size))


def regress(features_WF: Matrix, came_W: Matrix, expected_W: Matrix, cost_F: Matrix) -> Matrix:
    """Return the weights [F] with the most posterior probability, by Newton's method."""
    rows = np.flatnonzero(expected_W > 0)
    features, came, expected = features_WF[rows], came_W[rows], expected_W[rows]
    weights = np.zeros(features.shape[1])
    for _ in range(_ITERATIONS):
        rate = expected * np.exp(np.clip(features @ weights, -_STEEPEST, _STEEPEST))
        gradient = features.T @ (came - rate) - cost_F * weights
        step = np.linalg.solve((features * rate[:, None]).T @ features + np.diag(cost_F), gradient)
        weights = weights + step * min(1.0, 2.0 / max(float(np.abs(step).max(initial=0.0)), 1e-9))
        if np.abs(step).max(initial=0.0) < 1e-4:
            break
    return weights
