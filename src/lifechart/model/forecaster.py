"""The network as a Forecaster: bulk risks for evaluation, one chart's forecast for the bedside."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from lifechart.core.errors import InputError
from lifechart.core.forecast import Alike, Driver, Forecast, Interval, Risk
from lifechart.core.timeline import DEATH, Timeline
from lifechart.model.batches import Collator
from lifechart.model.checkpoint import Model, load_model, load_neighbours
from lifechart.model.drivers import drivers_of, look
from lifechart.model.encoders import Pictures
from lifechart.model.heads import cumulative_incidence
from lifechart.model.inference import Told, tell
from lifechart.model.labelled.folder import is_labelled
from lifechart.model.labelled.forecaster import LabelledForecaster, load_labelled
from lifechart.model.live_notes import as_learnt
from lifechart.model.neighbours import Neighbours, private
from lifechart.model.questions import HORIZONS, ask_prompts
from lifechart.model.stack import Stack, load_stack
from lifechart.model.tokens import timeline_entries, tokenise, tokens_of, with_items


class NetworkForecaster:
    """Keeps the Forecaster contract. Stateless between calls; safe to share among threads."""

    def __init__(
        self,
        model: Model,
        device: torch.device | None = None,
        stack: Stack | None = None,
        pictures: Pictures | None = None,
        neighbours: Neighbours | None = None,
    ) -> None:
        self.model, self.stack, self.pictures, self.neighbours = model, stack, pictures, neighbours
        self.collator = Collator(model.vocabulary, model.size.context, device or torch.device("cpu"))
        outcomes = model.vocabulary.outcomes
        self._death = outcomes.index(DEATH) if DEATH in outcomes else None

    @property
    def name(self) -> str:
        """A short name for tables and plots."""
        return "lifechart"

    @property
    def digest(self) -> str:
        """SHA-256 that names these exact weights."""
        return self.model.digest

    @property
    def outcomes(self) -> tuple[str, ...]:
        """Codes whose first occurrence is forecast."""
        return self.model.vocabulary.outcomes

    @property
    def horizons(self) -> tuple[int, ...]:
        """Horizons in days, rising."""
        return HORIZONS

    def risks(
        self, events: pl.DataFrame, prompts: pl.DataFrame, advance: Callable[[float], None] = lambda share: None
    ) -> NDArray[np.float32]:
        """Return probabilities [prompts, outcomes, horizons]; `advance` is told what share of the work is done.

        Events after a prompt's time are never read for it: attention is causal, and the history stops there too.
        """
        told, asked = self._told(events, prompts, advance)
        return self._probabilities(told, asked, prompts)

    def intervals(self, events: pl.DataFrame, prompts: pl.DataFrame) -> NDArray[np.float32]:
        """Return lower and upper 95% bounds [prompts, outcomes, horizons, 2], those that `forecast` gives one chart."""
        told, asked = self._told(events, prompts)
        probability = self._probabilities(told, asked, prompts)
        return np.stack(self.model.calibration.bounds(probability, told.state), axis=-1)

    def situate(self, events: pl.DataFrame, prompts: pl.DataFrame) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Return the network's states [prompts, D] and their novelty [prompts]."""
        state = self._told(events, prompts)[0].state
        return state, self.model.calibration.novelty(state)

    def forecast(self, timeline: Timeline, as_of: datetime) -> Forecast:
        """Return every outcome at every horizon for one chart, with intervals, drivers and novelty.

        Raises InputError for a chart without any event up to `as_of`.
        """
        return self._forecast(timeline, as_of, None)

    def explain(self, timeline: Timeline, as_of: datetime, outcome: str) -> Forecast:
        """Return the same forecast, its drivers sought for one outcome rather than for those that stand out.

        Raises InputError as `forecast` does, and for an outcome that is not forecast.
        """
        if outcome not in self.outcomes:
            raise InputError("outcome", outcome, f"one of the {len(self.outcomes)} that are forecast")
        return self._forecast(timeline, as_of, np.array([self.outcomes.index(outcome)]))

    def _forecast(self, timeline: Timeline, as_of: datetime, about: NDArray[np.int64] | None) -> Forecast:
        known = as_learnt(timeline.until(as_of), self.model.vocabulary)
        if not len(known):
            raise InputError("timeline", "no event", f"a chart with events up to {as_of:%Y-%m-%d}")
        read = timeline_entries(known, self.model.vocabulary)
        events = known.events.with_columns(subject_id=pl.lit(known.subject_id, pl.Int64))
        tokens = with_items(tokens_of(read, self.model.vocabulary), events, self.model.vocabulary, self.pictures)
        prompt = pl.DataFrame({"subject_id": [timeline.subject_id], "prediction_time": [as_of]})
        questions = ask_prompts(tokens, prompt)
        seen = look(self.model, self.collator, tokens, questions, about)
        told = seen.told
        probability = self._probabilities(told, _rows_of(known), prompt)[0]
        low, high = (side[0] for side in self.model.calibration.bounds(probability[None], told.state))
        drivers = drivers_of(self.model, self.collator, read, tokens, questions, seen, known, self.pictures)
        codes = known.events.get_column("code")
        risks = tuple(
            Risk(
                outcome=outcome,
                horizon_days=horizon,
                probability=float(probability[o, h]),
                interval=Interval(float(low[o, h]), float(high[o, h])),
                drivers=tuple(Driver(row, codes[row], effect) for row, effect in drivers[o][h]),
                already_recorded=bool(told.had[0, o]),
            )
            for o, outcome in enumerate(self.outcomes)
            for h, horizon in enumerate(self.horizons)
        )
        novelty = float(self.model.calibration.novelty(told.state)[0])
        return Forecast(timeline.subject_id, as_of, risks, novelty, self.digest, self._alike(told))

    def _alike(self, told: Told) -> Alike | None:
        """Return what became of the people most like the one that was asked about, or why nobody is counted."""
        if self.model.config.get("privacy"):
            return private("the model was trained under a promise that no single patient shows in it")
        if self.neighbours is None:
            return None
        return self.neighbours.alike(self.model.calibration.hazards(told.log_hazard)[0])

    def _told(
        self, events: pl.DataFrame, prompts: pl.DataFrame, advance: Callable[[float], None] = lambda share: None
    ) -> tuple[Told, pl.DataFrame]:
        """Return what the network tells of prompts, and the events of those asked about."""
        asked = events.join(prompts.select("subject_id").unique(), on="subject_id", how="semi")
        tokens = tokenise(asked, self.model.vocabulary, self.pictures)
        return tell(self.model.network, self.collator, tokens, ask_prompts(tokens, prompts), advance), asked

    def _probabilities(self, told: Told, events: pl.DataFrame, prompts: pl.DataFrame) -> NDArray[np.float32]:
        """Return probabilities [Q, O, H], the trees' corrections of first onsets included where there are any.

        Drivers and intervals are the network's own.
        """
        log_hazard = self.model.calibration.hazards(told.log_hazard)
        if self.stack is not None:
            added = self.stack.corrections(events, prompts, told.state, len(self.outcomes))
            log_hazard = log_hazard + (added * ~told.had)[:, :, None]
        return cumulative_incidence(log_hazard, self._death)


def _rows_of(chart: Timeline) -> pl.DataFrame:
    return chart.events.with_columns(subject_id=pl.lit(chart.subject_id, pl.Int64))


def load_forecaster(
    folder: Path, device: torch.device | None = None, pictures: Pictures | None = None
) -> NetworkForecaster | LabelledForecaster:
    """Load a model that `lifechart train` wrote; raises InputError if the folder does not hold one.

    `pictures`: where the images of those asked about are; without it a model that reads images does without.
    """
    if is_labelled(folder):
        return load_labelled(folder)
    model = load_model(folder, device)
    neighbours = load_neighbours(folder, model.config)
    return NetworkForecaster(model, device, load_stack(folder, model.config), pictures, neighbours)
