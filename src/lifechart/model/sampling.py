"""Draws for generated futures: reproducible lots, waiting times, choices, values."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lifechart.model.steps import NO_VALUE, WAITS
from lifechart.model.targets import TAIL_SPREAD

# Shapes: P prompts, N futures of a prompt, E = P x N, B intervals of waiting, V choices, K knots.

NUM_LOTS = 5


def draws(seed: int, prompts_P: Tensor, who_PN: Tensor, futures: int, step: int) -> Tensor:
    """Return uniforms in (0, 1) [NUM_LOTS, E], fixed by seed, prompt, future and step (splitmix64's finaliser)."""
    future = (who_PN % futures).numpy().astype(np.uint64)
    prompt = prompts_P.numpy().astype(np.uint64)[:, None]
    with np.errstate(over="ignore"):
        state = prompt * np.uint64(0x9E3779B97F4A7C15) + future * np.uint64(0xD1B54A32D192ED03)
        state = (
            state + np.uint64(seed) * np.uint64(0x8CB92BA72F3D8DD7) + np.uint64(step) * np.uint64(0xA24BAED4963EE407)
        )
        state = state.reshape(-1)[None, :] + np.arange(1, NUM_LOTS + 1, dtype=np.uint64)[:, None] * np.uint64(
            0x9FB21C651E98DF25
        )
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
        state ^= state >> np.uint64(31)
    return torch.from_numpy(((state >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53)


def wait(log_hazard_EB: Tensor, since_E: Tensor, lot_E: Tensor) -> Tensor:
    """Return days from the last event to the next [E], given that `since_E` days had passed without one.

    The hazard is constant within each interval of WAITS, so the cumulative hazard is inverted exactly.
    """
    lows = torch.tensor(WAITS, dtype=torch.float64)
    hazard = log_hazard_EB.exp()
    at_low = torch.cat([torch.zeros_like(hazard[:, :1]), torch.cumsum(hazard[:, :-1] * lows.diff(), dim=1)], dim=1)
    here = (torch.searchsorted(lows, since_E, right=True) - 1).clamp(min=0).unsqueeze(1)
    passed = at_low.gather(1, here) + hazard.gather(1, here) * (since_E.unsqueeze(1) - lows[here])
    target = passed - torch.log(lot_E).unsqueeze(1)
    place = (torch.searchsorted(at_low, target, right=True) - 1).clamp(0, len(WAITS) - 1)
    return (lows[place] + (target - at_low.gather(1, place)) / hazard.gather(1, place)).squeeze(1).clamp(max=1e6)


def choose(probability_EV: Tensor, lot_E: Tensor) -> Tensor:
    """Return a choice for each row [E], by inverting its cumulative distribution; rows need not sum to 1."""
    cumulative = torch.cumsum(probability_EV, dim=1)
    target = (lot_E * cumulative[:, -1].double()).to(cumulative.dtype).unsqueeze(1)
    found = torch.searchsorted(cumulative, target, right=True).squeeze(1)
    # Where rounding reaches the very end, the last choice that has any probability.
    last = torch.searchsorted(cumulative, cumulative[:, -1:].contiguous()).squeeze(1)
    return torch.minimum(found, last)


def draw_value(kind_E: Tensor, lot_E: Tensor, knots_EK: Tensor, valued_E: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return level, tail and value of events whose kinds of value were drawn; NaN (0 for the tail) without one.

    Uniform between two knots; beyond the outer ones exponential, with TAIL_SPREAD of the spread between the inner.
    """
    has = valued_E & (kind_E != NO_VALUE)
    between = (kind_E >= 1) & (kind_E < NO_VALUE - 1)
    low = (kind_E - 1).clamp(0, knots_EK.shape[1] - 2)
    level = torch.where(between, low + lot_E, torch.where(kind_E == 0, 0.0, float(knots_EK.shape[1] - 1)))
    row = torch.arange(len(kind_E))
    start, stop = knots_EK[row, low], knots_EK[row, low + 1]
    beyond = -torch.log(lot_E) * TAIL_SPREAD
    side = torch.where(between, 0.0, torch.where(kind_E == 0, -1.0, 1.0)).double()
    spread = (knots_EK[:, -2] - knots_EK[:, 1]).clamp(min=1e-6)
    outside = torch.where(kind_E == 0, knots_EK[:, 0], knots_EK[:, -1]) + side * beyond * spread
    value = torch.where(between, start + (stop - start) * lot_E, outside)
    nothing = torch.full_like(level, torch.nan)
    return (
        torch.where(has, level, nothing),
        torch.where(has, torch.asinh(side * beyond), 0.0),
        torch.where(has, value, nothing),
    )
