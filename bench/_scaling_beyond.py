"""Long records: what becomes of what lies beyond the context, against the record oracle."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bench._scaling_laws import Estimate, Floats, jackknife
from bench._scaling_lives import Lives, expected_auroc, latest
from bench._scaling_run import CPU
from lifechart.core.timeline import DEATH
from lifechart.evaluate.tasks import default_task, draw_prompts
from lifechart.model.batches import Collator
from lifechart.model.heads import cumulative_incidence
from lifechart.model.inference import tell
from lifechart.model.network import Network
from lifechart.model.questions import HORIZONS, ask_prompts, label
from lifechart.model.tokens import tokenise

LONG = 256
"""A record is long with more events known than this, the context of the small sizes."""
_LEAST_EVENTS, _LEAST_AUROC = 8.0, 0.6


@dataclass(frozen=True)
class Long:
    """Prompts of lives that had more than LONG events by then."""

    data: Lives
    prompts: pl.DataFrame
    had: NDArray[np.bool_]
    """Each outcome is on record already [P, O]."""

    @classmethod
    def of(cls, data: Lives) -> Long:
        """Draw the default task's prompts from the lives scored on, and keep those of long records."""
        prompts = draw_prompts(data.events, default_task(), 0, None)
        tokens = tokenise(data.events, data.vocabulary)
        questions = ask_prompts(tokens, prompts)
        known = questions.stop - tokens.starts[questions.subject]
        had = label(tokens, questions, len(data.vocabulary.outcomes)).had
        long = known > LONG
        return cls(data, prompts.filter(pl.Series(long)), had[long])

    def risks(self, network: Network, context: int, most: int | None = None) -> Floats:
        """Return one-year risks [P, O]; with `most`, of records cut to so many of their latest events."""
        vocabulary = self.data.vocabulary
        record, prompts = self.data.events, self.prompts
        if most is not None:
            record, prompts = latest(record, prompts, most)
        tokens = tokenise(record, vocabulary)
        told = tell(network, Collator(vocabulary, context, CPU), tokens, ask_prompts(tokens, prompts))
        death = vocabulary.outcomes.index(DEATH) if DEATH in vocabulary.outcomes else None
        risks: Floats = cumulative_incidence(told.log_hazard, death)[:, :, HORIZONS.index(365)].astype(np.float64)
        return risks

    def oracle(self) -> Floats:
        """Return the record oracle's risks [P, O]; NaN where it knows no such outcome."""
        oracle = self.data.oracle()
        table = oracle.risks(self.data.events, self.prompts)[:, :, 0]
        place = {code: number for number, code in enumerate(oracle.outcomes)}
        out = np.full(self.had.shape, np.nan)
        for number, code in enumerate(self.data.vocabulary.outcomes):
            if code in place:
                out[:, number] = table[:, place[code]]
        return out

    def shares(self, risks: dict[str, Floats]) -> tuple[dict[str, Estimate], int]:
        """Return each reader's mean share of the oracle's expected AUROC above chance, and over how many outcomes.

        New onsets; outcomes with eight expected events and an oracle above 0.6. Intervals: jackknife over 20 groups of
        lives.
        """
        truth = risks["oracle"]
        group = self.prompts["subject_id"].rank("dense").to_numpy().astype(np.int64) % 20
        fresh = ~self.had & ~np.isnan(truth)
        expected = np.where(fresh, truth, 0.0).sum(0)
        enters = [o for o in range(truth.shape[1]) if expected[o] >= _LEAST_EVENTS]
        enters = [o for o in enters if expected_auroc(truth[fresh[:, o], o], truth[fresh[:, o], o]) > _LEAST_AUROC]

        def share(table: Floats, kept: NDArray[np.int64]) -> float:
            among = np.isin(group, kept)
            found = []
            for o in enters:
                rows = among & fresh[:, o]
                best = expected_auroc(truth[rows, o], truth[rows, o]) - 0.5
                found.append((expected_auroc(table[rows, o], truth[rows, o]) - 0.5) / best)
            return float(np.mean(found)) if found else float("nan")

        names = [name for name in risks if name != "oracle"]
        return {name: jackknife(20, partial(share, risks[name])) for name in names}, len(enters)
