"""Generated futures as data: events that any reader of MEDS rows can read, and what was seen on the way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lifechart.core.timeline import RECORD_END
from lifechart.model.vocabulary import Vocabulary

# Shapes: K generated events, P prompts, N futures of a prompt, A targets, U horizons.

TIME, DIED, MET, LENGTH = 0, 1, 2, 3
"""Why a future ended: its time was spent, the patient died, every target was met, or it has as many events as may be."""


@dataclass(frozen=True)
class Futures:
    """What was generated. Events are sorted by prompt, future, then in the order they came."""

    prompt: NDArray[np.int64]
    future: NDArray[np.int64]
    micros: NDArray[np.int64]
    """Since the subject's origin, as Tokens counts."""
    code: NDArray[np.int64]
    value: NDArray[np.float32]
    """In the usual unit of its code; NaN without one."""
    ended: NDArray[np.int8]
    """[P, N] one of TIME, DIED, MET, LENGTH."""
    stop_micros: NDArray[np.int64]
    """[P] the moment at which each prompt's time is spent."""
    hits: NDArray[np.float32]
    """[P, N, A, U] 1 where the target was met within the horizon."""
    expected: NDArray[np.float32]
    """[P, N, A, U] the sum of the probabilities, step by step until it was met, that the next event meets it: SCOPE.
    Where targets were kept out (`without`), one less the product of the probabilities that it does not: REACH."""

    def __len__(self) -> int:
        return len(self.code)

    @property
    def futures(self) -> int:
        """How many of each prompt."""
        return int(self.ended.shape[1])

    def frame(self, vocabulary: Vocabulary, origin: NDArray[np.int64]) -> pl.DataFrame:
        """Return MEDS rows; `subject_id` numbers the futures (prompt x N + future), `origin` [P] is in microseconds.

        A code that carries a text is split again. A future that ended in time closes with RECORD_END there: what
        follows is unknown, as in a real record. One whose criterion was met or that grew too long has none.
        """
        split = [code.partition("=") for code in vocabulary.codes]
        bare = pl.Series([code for code, _, _ in split], dtype=pl.String)
        text = pl.Series([word or None for _, _, word in split], dtype=pl.String)
        units = pl.Series(vocabulary.units, dtype=pl.String)
        micros = origin[self.prompt] + self.micros
        valued = np.isfinite(self.value)
        rows = pl.DataFrame(
            {
                "subject_id": self.prompt * self.futures + self.future,
                "time": pl.Series(micros).cast(pl.Datetime("us")),
                "code": bare.gather(self.code),
                "numeric_value": pl.Series(self.value, dtype=pl.Float32).fill_nan(None),
                "text_value": text.gather(self.code),
                "unit": pl.select(pl.when(pl.Series(valued)).then(units.gather(self.code))).to_series(),
            }
        )
        prompts, futures = np.nonzero((self.ended == TIME) | (self.ended == DIED))
        ends = pl.DataFrame(
            {
                "subject_id": prompts * self.futures + futures,
                "time": pl.Series(origin[prompts] + self.stop_micros[prompts]).cast(pl.Datetime("us")),
                "code": pl.Series([RECORD_END] * len(prompts), dtype=pl.String),
            }
        )
        return pl.concat([rows, ends], how="diagonal").sort("subject_id", "time", maintain_order=True)
