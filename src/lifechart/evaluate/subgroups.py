"""People like this one: the groups of age, sex, ancestry, language, payer and site that metrics are repeated in."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lifechart.core.report import ATTRIBUTES, stated
from lifechart.data.history import DAY, History, microseconds

AGE_BANDS = ((0, 17), (18, 39), (40, 64), (65, 79), (80, None))
"""Years of age at the prompt, both ends included."""


def age_band(age: float) -> str:
    """Return the band that an age in years falls in, as it stands after `age=` in a Report.

    >>> age_band(65.2), age_band(91)
    ('65-79', '80+')
    """
    for low, high in AGE_BANDS:
        if high is None or age < high + 1:
            return f"{low}+" if high is None else f"{low}-{high}"
    raise AssertionError("the last band is open")


def subgroups(
    events: pl.DataFrame, history: History, prompts: pl.DataFrame, names: Mapping[str, str]
) -> dict[str, NDArray[np.bool_]]:
    """Return {`attribute=value`: which prompts belong to it [P]}; a subject may state several values of one.

    The value is the code's own word (`sex=female`), or where that is a number its display name (`race=White`).
    """
    owner = history.owner(prompts["subject_id"].to_numpy())
    ages = (microseconds(prompts["prediction_time"]) - history.births[owner]) / (365.25 * DAY)
    bands = np.array([age_band(age) for age in ages])
    groups = {f"age={band}": bands == band for band in sorted(set(bands.tolist()))}
    found = (
        events.filter(pl.col("time").is_null())
        .select("subject_id", part=pl.col("code").cast(pl.String).str.split("//"))
        .filter(pl.col("part").list.len() == 2)
        .select("subject_id", system=pl.col("part").list.first(), value=pl.col("part").list.last())
        .filter(pl.col("system").is_in(list(ATTRIBUTES)))
        .unique()
        .sort("system", "value", "subject_id")
    )
    for (system, value), rows in found.group_by(["system", "value"], maintain_order=True):
        members = prompts["subject_id"].is_in(rows["subject_id"].to_list()).to_numpy()
        group = stated(f"{system}//{value}", names)
        if group is not None:
            groups[group] = members
    return groups
