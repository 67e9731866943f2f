"""Who lives in the simulated catchment: birth, sex, ancestry, language, height, and the latents nobody sees."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from datetime import date, datetime, time

import numpy as np
from numpy.typing import NDArray

from lifechart.simulate import tables
from lifechart.simulate.processes import LATENTS, MONTH_MINUTES, SEXES, Floats, names


@dataclass(frozen=True)
class People:
    """N lives, numbered from `first`."""

    first: int
    birth: NDArray[np.datetime64]
    """Midnight, in minutes."""
    sex: NDArray[np.int8]
    ancestry: NDArray[np.int8]
    language: list[str]
    height: Floats
    latents_ND: Floats

    def __len__(self) -> int:
        return len(self.sex)


def draw(num: int, first: int, today: date, rng: np.random.Generator) -> People:
    """Draw `num` people, born evenly over the years that population.toml gives, before `today`."""
    settings, name = tables.parameters(), names()
    births = settings["births"]
    years = rng.uniform(births["youngest_years"], births["oldest_years"], num)
    midnight = np.datetime64(datetime.combine(today, time()), "D")
    birth = (midnight - np.ceil(years * 365.25).astype(int)).astype("datetime64[m]")
    sex = (rng.random(num) >= births["female_share"]).astype(np.int8)
    share = np.array([float(row["share"]) for row in tables.rows("ancestries")])
    ancestry = rng.choice(len(share), num, p=share / share.sum()).astype(np.int8)
    mean, spread = np.array([settings["height"][key] for key in SEXES]).T
    height = mean[sex] + spread[sex] * rng.standard_normal(num)
    language = [_language(name.ancestries[code], value) for code, value in zip(ancestry, rng.random(num), strict=True)]
    latents = rng.standard_normal((num, len(LATENTS)), np.float32)
    return People(first, birth, sex, ancestry, language, height.astype(np.float32), latents)


def _language(ancestry: str, value: float) -> str:
    shares = tables.parameters()["languages"][ancestry]
    edges = np.cumsum(list(shares.values()))
    return str(list(shares)[min(int(np.searchsorted(edges, value * edges[-1])), len(edges) - 1)])


def patient_id(seed: int, life: int) -> str:
    """Return the FHIR Patient.id of a life: a UUID that depends on seed and number alone."""
    return str(uuid.UUID(bytes=hashlib.sha256(f"{seed}:{life}".encode()).digest()[:16], version=4))


def steps_until(birth: NDArray[np.datetime64], moment: np.datetime64) -> NDArray[np.float64]:
    """Return the months (with fraction) from each birth to `moment`."""
    return (moment - birth) / np.timedelta64(1, "m") / MONTH_MINUTES
