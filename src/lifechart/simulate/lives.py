"""Whole lives, a block at a time: every life of a block is taken from birth, month by month, to death or today."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lifechart.simulate import course
from lifechart.simulate.care import Bodies, attend
from lifechart.simulate.events import KIND, Events, concatenate
from lifechart.simulate.physiology import SMOKING, physiology
from lifechart.simulate.population import People, steps_until
from lifechart.simulate.processes import LATENTS, Floats, loadings_of, names
from lifechart.simulate.state import STEPS_A_YEAR, State

Watch = Callable[[State, Floats, NDArray[np.int64]], None]
"""Called each month with the state, the rates [N, K + H] with latents but no hidden disease, and the rows' lives."""


@dataclass(frozen=True)
class Lives:
    """What happened to one block of people. Rows of `events` are positions in the block."""

    events: Events
    step: NDArray[np.int64]
    """Month of each event."""
    occult_life: NDArray[np.int64]
    occult_disease: NDArray[np.int64]
    """1 + position among the hidden diseases."""
    occult_start: NDArray[np.int64]
    occult_end: NDArray[np.int64]
    """Month of onset, and the month in which it was diagnosed (-1: never)."""


class _Hidden:
    """The hidden disease of each life now, and the episodes so far."""

    def __init__(self, num: int) -> None:
        self.now = np.zeros(num, np.int64)
        self._since = np.zeros(num, np.int64)
        self.episodes: list[tuple[int, int, int, int]] = []

    def began(self, lives: NDArray[np.int64], disease: NDArray[np.int64], step: int) -> None:
        fresh = (disease > 0) & (self.now[lives] == 0)
        self.now[lives[fresh]], self._since[lives[fresh]] = disease[fresh], step

    def found(self, lives: NDArray[np.int64], step: int) -> None:
        for life in lives.tolist():
            self.episodes.append((life, int(self.now[life]), int(self._since[life]), step))
        self.now[lives] = 0

    def close(self) -> NDArray[np.int64]:
        for life in np.flatnonzero(self.now).tolist():
            self.episodes.append((life, int(self.now[life]), int(self._since[life]), -1))
        return np.array(sorted(self.episodes), np.int64).reshape(-1, 4).T


def live(people: People, today: np.datetime64, rng: np.random.Generator, watch: Watch | None = None) -> Lives:
    """Simulate a block of people until death or `today`."""
    name = names()
    occult_condition = np.array([-1, *(name.conditions.index(key) for key in name.occults)])
    ends = steps_until(people.birth, today)
    lives = np.arange(len(people))
    state = State.newborn(people.sex, people.ancestry)
    effects = course.effects(people.latents_ND)
    bodies = _bodies(people)
    hidden = _Hidden(len(people))
    parts, steps = [], []
    for step in range(int(np.ceil(ends.max()))):
        if step % STEPS_A_YEAR == 0:
            kept = np.flatnonzero(ends[lives] > step)
            lives, state, effects, bodies = lives[kept], state.take(kept), effects[kept], bodies.take(kept)
        if not len(lives):
            break
        rates = state.rates()
        rates *= effects
        if watch is not None:
            watch(state, rates, lives)
        bodies.hidden_N = hidden.now[lives].copy()
        course.begin_hidden(rates, bodies.hidden_N, rng)
        hidden.began(lives, bodies.hidden_N, step)
        fired = course.fire(course.bend(rates, bodies.hidden_N), rng)
        events = attend(state, fired, bodies, rng)
        state.observe(events)
        seen = events.take(events.when + step < ends[lives[events.row]])
        found = seen.of("condition")
        cured = found.row[found.key == occult_condition[bodies.hidden_N[found.row]]]
        hidden.found(lives[np.unique(cured)], step)
        dead = lives[seen.row[seen.kind == KIND["death"]]]
        ends[dead] = np.minimum(ends[dead], step)
        parts.append(_of_lives(seen, lives))
        steps.append(np.full(len(seen), step))
        if len(dead):
            kept = np.flatnonzero(~np.isin(lives, dead))
            lives, state, effects, bodies = lives[kept], state.take(kept), effects[kept], bodies.take(kept)
    return Lives(concatenate(parts), np.concatenate([np.zeros(0, np.int64), *steps]), *hidden.close())


def _bodies(people: People) -> Bodies:
    return Bodies(
        people.latents_ND[:, : len(LATENTS)] @ physiology().loadings_JD.T,
        people.latents_ND[:, : len(LATENTS)] @ loadings_of([SMOKING])[0],
        people.height,
        np.zeros(len(people), np.int64),
    )


def _of_lives(events: Events, lives: NDArray[np.int64]) -> Events:
    return Events(
        lives[events.row], events.when, events.kind, events.key, events.value, events.encounter, events.process,
        events.found, events.eligible,
    )  # fmt: skip
