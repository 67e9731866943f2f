"""The slow twin of `futures`: simulate the months ahead outright and count what happened."""

import numpy as np
from numpy.typing import NDArray

from lifechart.simulate import course
from lifechart.simulate.care import Bodies, attend
from lifechart.simulate.events import KIND, Events, concatenate
from lifechart.simulate.futures import Start
from lifechart.simulate.physiology import SMOKING, physiology
from lifechart.simulate.processes import CLASSES, loadings_of, names


def frequencies(
    start: Start, hidden: NDArray[np.int64], outcomes: tuple[str, ...], horizons: NDArray[np.float64], seed: int
) -> NDArray[np.bool_]:
    """Return whether each outcome came within each horizon (months), [N, O, Z]."""
    rng = np.random.Generator(np.random.SFC64(seed))
    name, state, num = names(), start.state, len(start.state)
    effects = course.effects(start.latents)
    bodies = Bodies(
        start.latents @ physiology().loadings_JD.T,
        start.latents @ loadings_of([SMOKING])[0],
        np.full(num, 170.0, np.float32),
        hidden.copy(),
    )
    diseases = [name.conditions.index(key) for key in name.occults]
    came = np.zeros((num, len(outcomes), len(horizons)), np.bool_)
    ends = start.when[:, None] + horizons
    alive = np.ones(num, np.bool_)
    running = start.running
    for month in range(int(np.ceil(ends.max()))):
        rates = state.rates() * effects
        if month > 0:
            course.begin_hidden(rates, bodies.hidden_N, rng)
        bent = course.bend(rates, bodies.hidden_N)
        bent[~alive] = 0.0
        blocked = np.zeros(bent.shape, np.bool_)
        opened = running.of("encounter")
        blocked[opened.row, opened.process] = True
        fired = course.fire(bent, rng, start.when if month == 0 else None, blocked)
        events = attend(state, fired, bodies, rng)
        for index, outcome in enumerate(outcomes):
            hits = _hits(events, outcome)
            hits = hits.take(~_had(running, hits, outcome))
            for horizon in range(len(horizons)):
                within = hits.row[month + hits.when <= ends[hits.row, horizon]]
                came[within, index, horizon] = True
        alive[events.row[events.kind == KIND["death"]]] = False
        joined = concatenate([running, events])
        state.observe(joined)
        found = joined.of("condition")
        bodies.hidden_N[found.row[np.isin(found.key, diseases)]] = 0
        running = concatenate([])
    return came


def _hits(events: Events, outcome: str) -> Events:
    if outcome == "death":
        return events.of("death")
    if outcome == "inpatient":
        visits = events.of("encounter")
        return visits.take(visits.key == CLASSES.index("inpatient"))
    found = events.of("condition")
    return found.take(found.key == names().conditions.index(outcome))


def _had(running: Events, hits: Events, outcome: str) -> NDArray[np.bool_]:
    """Lasting conditions recorded earlier in the running month cannot come again."""
    if outcome in ("death", "inpatient"):
        return np.zeros(len(hits), np.bool_)
    found = running.of("condition")
    rows = found.row[found.key == names().conditions.index(outcome)]
    return np.isin(hits.row, rows)
