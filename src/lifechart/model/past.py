"""What each generated event's own code did before it, kept up event by event, as `tokens` counts it in bulk."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lifechart.model.encoders.event import AGES, DAYS_A_YEAR, EventArrays
from lifechart.model.questions import Questions, ragged
from lifechart.model.tokens import DAY_US, RECENT_DAYS, Tokens
from lifechart.model.vocabulary import QUANTILES

# Shapes: E rows of futures, V codes. Days count from the subject's origin, as 64-bit floats.


@dataclass
class Past:
    """For each future [E, V]: how often its codes came, how lately, when first and last, and their values."""

    count: Tensor
    recent: Tensor
    first: Tensor
    last: Tensor
    last_level: Tensor
    level_sum: Tensor
    level_number: Tensor

    @classmethod
    def at(cls, tokens: Tokens, questions: Questions, num_codes: int) -> Past:
        """Return the past of each question [Q, V], from the arrays that `tokens` holds."""
        which, row = ragged(tokens.starts[questions.subject], questions.stop)
        latest = tokens.next_same[row] >= questions.stop[which]
        cell = which[latest] * num_codes + tokens.code[row[latest]]
        row = row[latest]
        # A mean of values needs their number too: it is counted here, since tokens keep the mean alone.
        every, every_row = ragged(tokens.starts[questions.subject], questions.stop)
        valued = ~np.isnan(tokens.level[every_row])
        number = np.bincount(
            every[valued] * num_codes + tokens.code[every_row[valued]], minlength=len(questions) * num_codes
        )

        def spread(column: NDArray[np.generic], missing: float) -> Tensor:
            out = np.full(len(questions) * num_codes, missing, dtype=np.float64)
            out[cell] = column
            return torch.from_numpy(out.reshape(len(questions), num_codes))

        mean = spread(tokens.mean_level[row], np.nan)
        numbers = torch.from_numpy(number.reshape(len(questions), num_codes).astype(np.float64))
        return cls(
            count=spread(tokens.count[row], 0.0),
            recent=spread(tokens.recent[row], 0.0),
            first=spread(tokens.first_micros[row] / DAY_US, 0.0),
            last=spread(tokens.micros[row] / DAY_US, 0.0),
            last_level=spread(tokens.last_level[row], np.nan),
            level_sum=torch.nan_to_num(mean) * numbers,
            level_number=numbers,
        )

    def take(self, rows: Tensor) -> Past:
        """Return some rows, or each of them several times."""
        return Past(*(getattr(self, each.name)[rows] for each in fields(self)))

    def levels(self, code: Tensor) -> Tensor:
        """Return the last level and the mean level of a code of each row [E, 2]; NaN without any."""
        row = torch.arange(len(code))
        number = self.level_number[row, code]
        mean = torch.where(number > 0, self.level_sum[row, code] / number.clamp(min=1.0), torch.nan)
        return torch.stack([self.last_level[row, code], mean], dim=1).float()

    def add(self, days: Tensor, gap: Tensor, code: Tensor, level: Tensor, tail: Tensor, valued: Tensor) -> EventArrays:
        """Add one event a row, and return what the encoder reads of it, each [E, 1].

        `level` is NaN without a value. `valued` [V]: each code's index among those that carry values, or -1.
        """
        row = torch.arange(len(code))
        seen = self.count[row, code] > 0
        fade = torch.exp(-(days - self.last[row, code]) / RECENT_DAYS)
        recent = 1.0 + torch.where(seen, self.recent[row, code] * fade, 0.0)
        first = torch.where(seen, self.first[row, code], days)
        count = self.count[row, code] + 1.0
        known = ~torch.isnan(level)
        self.count[row, code], self.recent[row, code] = count, recent
        self.first[row, code], self.last[row, code] = first, days
        self.level_sum[row, code] += torch.where(known, level, 0.0)
        self.level_number[row, code] += known
        self.last_level[row, code] = torch.where(known, level, self.last_level[row, code])
        mean = self.level_sum[row, code] / self.level_number[row, code].clamp(min=1.0)
        features = torch.stack(
            [
                torch.log1p(gap) / 6.0,
                torch.log(count) / 2.0,
                torch.log1p(recent) / 2.0,
                torch.log1p((days - first) / DAYS_A_YEAR) / 3.0,
                torch.where(known, level - mean, 0.0) / 3.0,
                tail,
                torch.zeros_like(tail),
            ],
            dim=1,
        )
        has_value = known & (valued[code] >= 0)
        low = level.nan_to_num().long().clamp(max=len(QUANTILES) - 2)
        return EventArrays(
            code=code.unsqueeze(1),
            value_row=torch.where(has_value, 1 + valued[code] * len(QUANTILES) + low, 0).unsqueeze(1),
            value_share=torch.where(has_value, level - low, 0.0).float().unsqueeze(1),
            features=torch.cat([_age_basis(days / DAYS_A_YEAR), features], dim=1).float().unsqueeze(1),
        )


def _age_basis(years: Tensor) -> Tensor:
    """Return hat functions of age [E, A], as encoders.event.age_basis does."""
    knots = torch.tensor(AGES, dtype=years.dtype)
    low = (torch.searchsorted(knots, years, right=True) - 1).clamp(0, len(AGES) - 2)
    share = ((years - knots[low]) / (knots[low + 1] - knots[low])).clamp(0.0, 1.0).unsqueeze(1)
    basis = torch.zeros(len(years), len(AGES), dtype=years.dtype)
    return basis.scatter(1, low.unsqueeze(1), 1.0 - share).scatter(1, low.unsqueeze(1) + 1, share)
