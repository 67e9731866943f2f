"""What would bring a scenario below the threshold: identifiers made coarser step by step, then records held back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from lifechart.data.deidentify.risk.classes import class_sizes, least_class
from lifechart.data.deidentify.risk.identifiers import Identifier, coarser, rung_in_words, rungs

FEW = 0.05
"""Share of records that may still be held back at the end, rather than make everything coarser for their sake."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a remedy, and how things stand after it."""

    what: str
    at_risk: float
    """Share of the records in classes smaller than the threshold allows: to be held back if one stops here."""
    mean: float
    """Probability of a right link, averaged over the records, by somebody who knows that the person is in the data."""


def remedy(people: pl.DataFrame, identifiers: list[Identifier], threshold: float) -> list[Step]:
    """Return steps, each the one rung of a ladder that takes most records out of danger, until few are left in it.

    The first step is to do nothing. `people`: as identifiers.people_of makes it. Greedy, so not always the shortest
    way.
    """
    least = least_class(threshold)
    now = people.select(each.name for each in identifiers)
    columns = {each.name: [*rungs(each)] for each in identifiers}
    steps = [_step("Nothing", now, least)]
    while steps[-1].at_risk > FEW and any(columns.values()):
        tried = []
        for each in identifiers:
            if columns[each.name]:
                rung = columns[each.name][0]
                frame = now.with_columns(coarser(_original(people, each), each, rung).alias(each.name))
                tried.append((_step(rung_in_words(each, rung), frame, least), each.name, frame))
        # Of equal ones the first in the table, so that the same data give the same advice.
        step, name, now = min(tried, key=lambda found: (found[0].at_risk, found[0].mean))
        columns[name].pop(0)
        steps.append(step)
    return steps


def _original(people: pl.DataFrame, identifier: Identifier) -> pl.Expr:
    return pl.lit(people.get_column(identifier.name))


def _step(what: str, frame: pl.DataFrame, least: int) -> Step:
    sizes = class_sizes(frame, frame.columns)
    return Step(what, float(np.mean(sizes < least)), float(np.mean(1 / sizes)))
