"""Futures of patients in MEDS rows: what the command line and whoever holds a forecaster ask for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lifechart.core.timeline import RECORD_END
from lifechart.model.forecaster import NetworkForecaster
from lifechart.model.futures import Futures
from lifechart.model.generate import Ask, generate
from lifechart.model.questions import ask_prompts
from lifechart.model.tokens import tokenise


@dataclass(frozen=True)
class Foreseen:
    """Futures of some prompts, and the same as MEDS rows whose `subject_id` is prompt x futures + future."""

    futures: Futures
    rows: pl.DataFrame

    def probability(self) -> NDArray[np.float64]:
        """Return the estimated probability of each target within each horizon [P, A, U]."""
        mean: NDArray[np.float64] = self.futures.expected.mean(axis=1, dtype=np.float64)
        return np.clip(mean, 0.0, 1.0)


def foresee(
    forecaster: NetworkForecaster,
    events: pl.DataFrame,
    prompts: pl.DataFrame,
    ask: Ask,
    advance: Callable[[float], None] = lambda share: None,
) -> Foreseen:
    """Generate futures of each prompt (subject_id, prediction_time) from the MEDS rows of its subject up to then.

    Nothing after a prompt is read for it. Raises InputError for a subject without events.
    """
    mine = events.join(prompts.select("subject_id").unique(), on="subject_id", how="semi")
    tokens = tokenise(mine, forecaster.model.vocabulary)
    questions = ask_prompts(tokens, prompts)
    made = generate(forecaster.model.network, forecaster.collator, tokens, questions, ask, advance)
    return Foreseen(made, made.frame(forecaster.model.vocabulary, tokens.origin[questions.subject]))


def whole_lives(events: pl.DataFrame, prompts: pl.DataFrame, foreseen: Foreseen) -> pl.DataFrame:
    """Return each future behind the record that it goes on from, under the future's `subject_id`: records to label."""
    number = foreseen.futures.futures
    asked = prompts.with_row_index("prompt").with_columns(pl.col("prompt").cast(pl.Int64))
    past = events.filter(pl.col("code") != RECORD_END).join(asked, on="subject_id")
    past = past.filter(pl.col("time").is_null() | (pl.col("time") <= pl.col("prediction_time")))
    copies = pl.DataFrame({"future": np.arange(number)})
    past = past.join(copies, how="cross").with_columns(subject_id=pl.col("prompt") * number + pl.col("future"))
    columns = [name for name in foreseen.rows.columns if name in past.columns]
    return pl.concat([past.select(columns), foreseen.rows.select(columns)], how="vertical_relaxed")
