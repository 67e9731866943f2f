"""The design of a trial, as its protocol's [trial] table states it, and what follows from it: size, looks, bounds."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from itertools import pairwise
from math import sqrt
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lifechart.release import sequential
from lifechart.release.sequential import Boundaries
from lifechart.release.trial import power as powers


class Unit(StrEnum):
    """What is randomised."""

    INDIVIDUAL = "individual"
    CLUSTER = "cluster"
    STEPPED_WEDGE = "stepped-wedge"


class Clocks(BaseModel):
    """How soon adverse events go further, and what pauses the trial by itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    serious_hours: float = Field(default=24, gt=0, description="to the sponsor: serious, whether or not related")
    fatal_days: float = Field(default=7, gt=0, description="to the board: fatal or life-threatening and suspected")
    suspected_days: float = Field(default=15, gt=0, description="to the board: other serious and suspected")
    pause_after: int = Field(default=1, ge=1, description="serious events suspected of the intervention that pause it")

    def due(self, *, fatal: bool, suspected: bool) -> timedelta:
        """Return how soon a serious adverse event has to have gone further."""
        if not suspected:
            return timedelta(hours=self.serious_hours)
        return timedelta(days=self.fatal_days if fatal else self.suspected_days)


class Design(BaseModel):
    """How participants come to an arm, and how the arms are compared."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    unit: Unit
    outcome: str = Field(min_length=5, description="the primary outcome, measured the same way in both arms")
    higher_is_better: bool = Field(description="whether a positive difference speaks for the intervention")
    alpha: float = Field(default=0.025, gt=0, lt=0.5, description="one-sided type-I error")
    power: float = Field(default=0.9, gt=0.5, lt=1)
    effect: float = Field(gt=0, description="the smallest difference worth finding, in the outcome's unit")
    sd: float = Field(gt=0, description="standard deviation of the outcome; of a proportion p, sqrt(p (1 - p))")
    looks: tuple[float, ...] = Field(default=(1.0,), description="information fractions; the last is 1")
    spending: str = "obrien-fleming"
    futility: bool = True
    harm_alpha: float | None = Field(default=0.05, gt=0, lt=0.5)
    blocks: tuple[int, ...] = Field(default=(4, 6, 8), description="block sizes to draw from")
    strata: tuple[str, ...] = Field(default=("all",), min_length=1)
    clusters: tuple[str, ...] = Field(default=(), description="wards, clinics; for cluster and stepped-wedge designs")
    cluster_size: int = Field(default=1, ge=1, description="participants a cluster (stepped wedge: and period)")
    icc: float = Field(default=0.0, ge=0, lt=1)
    steps: int = Field(default=0, ge=0)
    period_days: int = Field(default=0, ge=0, description="length of a stepped wedge's periods")
    clocks: Clocks = Clocks()

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        rising = all(early < late for early, late in pairwise((0.0, *self.looks)))
        if not self.looks or not rising or self.looks[-1] != 1:
            raise ValueError("looks: expected rising information fractions that end in 1")
        if (self.unit is Unit.INDIVIDUAL) != (not self.clusters):
            raise ValueError("clusters: expected names for cluster and stepped-wedge designs, none for individual ones")
        if (self.unit is Unit.STEPPED_WEDGE) != (self.steps > 0):
            raise ValueError("steps: expected a number for stepped-wedge designs alone")
        if (self.steps > 0) != (self.period_days > 0):
            raise ValueError("period_days: expected a number for stepped-wedge designs alone")
        if self.unit is Unit.STEPPED_WEDGE and self.looks != (1.0,):
            raise ValueError("looks: a stepped wedge is analysed once, at its end")
        if self.planned_power() < self.power - 1e-9 and self.unit is not Unit.INDIVIDUAL:
            raise ValueError(
                f"power: {len(self.clusters)} clusters of {self.cluster_size} have power {self.planned_power():.2f}, "
                f"less than the {self.power:g} planned"
            )
        return self

    def boundaries(self) -> Boundaries:
        """Return the z bounds of every look; positive z speaks for the intervention."""
        planned = self.power if self.futility and len(self.looks) > 1 else None
        return sequential.boundaries(
            self.alpha, self.looks, power=planned, harm_alpha=self.harm_alpha, efficacy=self.spending
        )

    def inflation(self) -> float:
        """Return how many times the information of a trial without looks this one needs."""
        single = sequential.inflation(self.alpha, self.power, self.looks, self.spending)
        drift = self.boundaries().drift
        if drift is None:
            return single
        plain = sequential.drift_for(self.power, (1.0,), sequential.efficacy_bounds(self.alpha, (1.0,)))
        return max(single, (drift / plain) ** 2)

    def participants(self) -> int:
        """Return how many participants the trial needs, both arms together."""
        if self.unit is Unit.INDIVIDUAL:
            return powers.individual_size(
                self.effect, self.sd, alpha=self.alpha, power=self.power, inflation=self.inflation()
            )
        periods = self.steps + 1 if self.unit is Unit.STEPPED_WEDGE else 1
        return len(self.clusters) * self.cluster_size * periods

    def planned_power(self) -> float:
        """Return the power at the smallest difference worth finding."""
        number = len(self.clusters)
        if self.unit is Unit.INDIVIDUAL:
            return self.power
        if self.unit is Unit.STEPPED_WEDGE:
            return powers.stepped_wedge_power(
                self.effect, self.sd, number, self.steps, self.cluster_size, self.icc, alpha=self.alpha
            )
        effect = self.effect / sqrt(self.inflation())
        return powers.cluster_power(effect, self.sd, number, self.cluster_size, self.icc, alpha=self.alpha)
