"""The risk of any code, group of codes or set of codes within any number of days: one question to both heads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lifechart.core.errors import InputError
from lifechart.core.timeline import DEATH
from lifechart.model.fit_codes import tell_codes
from lifechart.model.forecaster import NetworkForecaster
from lifechart.model.heads import incidence_within
from lifechart.model.inference import tell
from lifechart.model.questions import EDGES, ask_prompts
from lifechart.model.tokens import tokenise

# Shapes: P prompts, C asked codes or sets of codes, H horizons, B intervals.


def first_event_risks(
    forecaster: NetworkForecaster,
    events: pl.DataFrame,
    prompts: pl.DataFrame,
    wanted: Sequence[str | tuple[str, ...]],
    days: Sequence[float],
) -> NDArray[np.float32]:
    """Return the probability [P, C, H] that a first event of each of `wanted` comes within `days`, death competing.

    A string is a code of the vocabulary: one of the outcomes (answered by the calibrated forecast), any other code, or
    a group, such as `ICD10CM//I21` where codes below it were seen. A tuple is a set of them: the hazards of its members
    are added, which is too high where they tend to come together. Raises InputError for a code that was not learnt and
    for days beyond the last interval.
    """
    model = forecaster.model
    vocabulary = model.vocabulary
    members = [(each,) if isinstance(each, str) else tuple(each) for each in wanted]
    for code in {code for each in members for code in each}:
        if code not in vocabulary.rows:
            raise InputError("code", code, "a code or group that the model's vocabulary holds")
    if not days or min(days) <= 0 or max(days) > EDGES[-1]:
        raise InputError("days", tuple(days), f"numbers above 0 and up to {EDGES[-1]:g}")
    tokens = tokenise(events.join(prompts.select("subject_id").unique(), on="subject_id", how="semi"), vocabulary)
    questions = ask_prompts(tokens, prompts)
    told = tell(model.network, forecaster.collator, tokens, questions)
    calibrated = model.calibration.hazards(told.log_hazard)
    place = {code: number for number, code in enumerate(vocabulary.outcomes)}
    others = sorted({code for each in members for code in each if code not in place})
    rows = np.array([vocabulary.rows[code] for code in others], dtype=np.int64)
    far = tell_codes(model.network.every_code, tokens, questions, vocabulary, rows)
    column = {code: calibrated[:, number] for code, number in place.items()}
    column |= {code: far[:, number] for number, code in enumerate(others)}
    hazard = np.stack([np.exp(np.stack([column[code] for code in each])).sum(axis=0) for each in members], axis=1)
    death = np.exp(calibrated[:, place[DEATH]]) if DEATH in place else None
    itself = np.array([DEATH in each for each in members])
    return incidence_within(hazard, death, itself, np.asarray(days, dtype=np.float64))
