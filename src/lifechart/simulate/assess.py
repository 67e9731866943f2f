"""Risks of one block of lives: replay the records to the prompts, draw what is not seen, look ahead."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lifechart.core.errors import InputError
from lifechart.simulate import futures
from lifechart.simulate.events import Events, concatenate
from lifechart.simulate.planted import TRAITS
from lifechart.simulate.posterior import posterior
from lifechart.simulate.processes import LATENTS, MONTH_MINUTES, Floats, names
from lifechart.simulate.record import read
from lifechart.simulate.replay import Evidence, Replay, relabelled

_TOGETHER = 16_000
"""Futures drawn together."""


@dataclass(frozen=True)
class Block:
    """Lives, their truth or None, and the prompts about them."""

    people: pl.DataFrame
    events: pl.DataFrame
    latent: pl.DataFrame | None
    """None: only the record may be used."""
    occult: pl.DataFrame | None
    prompts: pl.DataFrame
    """index, life, prediction_time"""
    keys: tuple[str, ...]
    horizons: tuple[int, ...]
    """Days, rising."""
    draws: int
    seed: int
    dims: int = len(LATENTS)
    """How many latents, planted traits included."""


@dataclass(frozen=True)
class _Asked:
    """The prompts in order of the month of life that they fall in."""

    index: NDArray[np.int64]
    row: NDArray[np.int64]
    step: NDArray[np.int64]
    when: NDArray[np.float64]
    dead: NDArray[np.bool_]


def assess(block: Block) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return (the prompts' `index`, their risks [P, O, Z])."""
    rng = np.random.Generator(np.random.SFC64(block.seed))
    asked = _ask(block)
    replay = Replay(read(block.people, block.events), hidden=block.latent is None)
    evidence = replay.run(asked.row, asked.step, asked.when)
    horizons = np.array(block.horizons) * 1440 / MONTH_MINUTES
    risks = np.zeros((len(asked.index), len(block.keys), len(horizons)), np.float32)
    for here in np.array_split(np.arange(len(risks)), -(-len(risks) * block.draws // _TOGETHER)):
        some = evidence.take(here)
        if block.latent is None:
            found = posterior(some, replay.trail, block.draws, rng, block.dims)
            latents, weights, hidden = found.latents_PRD, found.weights_PR, found.hidden_PRH
        else:
            latents, hidden = _truth(block, some)
            weights = np.full(latents.shape[:2], 1 / block.draws)
        drawn = _look_ahead(block, some, latents, hidden, horizons, rng)
        risks[here] = (drawn * weights[:, :, None, None]).sum(1)
    risks[asked.dead] = 0.0
    return asked.index, risks


def _ask(block: Block) -> _Asked:
    rows = block.people.select("life", "birth", "death").with_row_index("row")
    frame = block.prompts.join(rows, on="life", how="left", maintain_order="left")
    minutes = (frame["prediction_time"] - frame["birth"]).dt.total_minutes().to_numpy()
    if minutes.min() < 0:
        raise InputError("prediction_time", "a time before birth", "a time at or after birth")
    dead = (frame["death"] <= frame["prediction_time"]).fill_null(False).to_numpy()
    order = np.argsort(minutes // MONTH_MINUTES, kind="stable")
    # Events at the prompt's own minute are known: they stand at its half, the prompt at three quarters.
    return _Asked(
        frame["index"].to_numpy()[order].astype(np.int64),
        frame["row"].to_numpy()[order].astype(np.int64),
        minutes[order] // MONTH_MINUTES,
        (minutes[order] % MONTH_MINUTES + 0.75) / MONTH_MINUTES,
        dead[order],
    )


def _truth(block: Block, evidence: Evidence) -> tuple[Floats, NDArray[np.float64]]:
    """True latents [P, R, D] and hidden diseases [P, R, 1 + H], the same for every draw."""
    assert block.latent is not None
    assert block.occult is not None
    life = block.people["life"].to_numpy()
    latents = block.latent.join(block.people.select("life"), on="life", how="right", maintain_order="right")
    hidden = np.zeros((len(evidence.row_P), 1 + len(names().occults)))
    hidden[:, 0] = 1.0
    episodes = block.occult.join(block.people.select("life", "birth"), on="life", how="left")
    for episode in episodes.iter_rows(named=True):
        first = (episode["start"] - episode["birth"]).total_seconds() // 60 // MONTH_MINUTES
        last = (episode["end"] - episode["birth"]).total_seconds() // 60 // MONTH_MINUTES if episode["end"] else np.inf
        here = (life[evidence.row_P] == episode["life"]) & (evidence.step_P >= first) & (evidence.step_P < last)
        hidden[here] = 0.0
        hidden[here, 1 + names().occults.index(episode["key"])] = 1.0
    true = latents.select((*LATENTS, *TRAITS)[: block.dims]).to_numpy().astype(np.float32)[evidence.row_P]
    return np.repeat(true[:, None], block.draws, 1), np.repeat(hidden[:, None], block.draws, 1)


def _look_ahead(
    block: Block, evidence: Evidence, latents_PRD: Floats, hidden_PRH: NDArray[np.float64],
    horizons: NDArray[np.float64], rng: np.random.Generator,
) -> NDArray[np.float32]:  # fmt: skip
    """Return risks [P, R, O, Z], one future a draw."""
    num, draws = latents_PRD.shape[:2]
    start = futures.Start(
        evidence.state.take(np.repeat(np.arange(num), draws)),
        np.repeat(evidence.when_P, draws),
        _spread(evidence.running, draws),
        latents_PRD.reshape(-1, block.dims),
        hidden_PRH.reshape(num * draws, -1),
    )
    risks = futures.risks(start, block.keys, horizons, rng)
    return risks.reshape(num, draws, *risks.shape[1:])


def _spread(running: list[Events], draws: int) -> Events:
    """Copy each prompt's events of the running month to all its draws."""
    once = relabelled(running)
    copies = [replace(once, row=once.row * draws + draw) for draw in range(draws)]
    joined = concatenate(copies)
    return joined.take(np.argsort(joined.row, kind="stable"))
