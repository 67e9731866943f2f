"""What an evaluation found: metrics with intervals, per subgroup, bound by hash to model, data and protocol."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from lifechart.core import durable
from lifechart.core.errors import InputError
from lifechart.core.forecast import Interval

EVERYONE = "all"
ATTRIBUTES = {
    "GENDER": "sex",
    "RACE": "race",
    "ETHNICITY": "ethnicity",
    "LANGUAGE": "language",
    "PAYER": "payer",
    "INSURANCE": "payer",
    "SITE": "site",
}
"""Systems of undated codes, and the attribute that each one states; a Report's subgroups are of these and of age."""


def stated(code: str, names: Mapping[str, str]) -> str | None:
    """Return the subgroup that an undated code puts a person in, or None: its own word, or a number's display name.

    >>> stated("GENDER//female", {}), stated("RACE//2106-3", {"RACE//2106-3": "White"}), stated("SITE//a//b", {})
    ('sex=female', 'race=White', None)
    """
    system, _, value = code.partition("//")
    if system not in ATTRIBUTES or not value or "//" in value:
        return None
    return f"{ATTRIBUTES[system]}={names.get(code, value) if value[0].isdigit() else value}"


@dataclass(frozen=True, slots=True)
class Metric:
    """One number that an evaluation found, with its interval and how many people it rests on."""

    name: str
    """As in evaluate.metrics: auroc, average_precision, brier, calibration_slope, calibration_intercept …"""
    value: float
    interval: Interval | None
    forecaster: str
    """Whose number: the model's name, `boosted-trees`, `record-oracle`, `latent-oracle`."""
    outcome: str
    horizon_days: int
    onset: str = "new"
    """`new`: nobody in the sample had the outcome before; `recurrent`: everybody had."""
    subgroup: str = EVERYONE
    """`all`, or `attribute=value` as in `sex=female` and `age=65-79`."""
    num_prompts: int = 0
    num_events: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """One evaluation of one forecaster on one data set by one protocol."""

    model_digest: str
    data_digest: str
    protocol_digest: str
    created: str
    """Date and time, ISO 8601, UTC."""
    metrics: tuple[Metric, ...]
    outcome_names: dict[str, str]
    """Display name of each outcome code."""

    @property
    def digest(self) -> str:
        """SHA-256 of the report's canonical JSON."""
        return durable.digest_of(asdict(self))

    def select(self, **criteria: object) -> Iterator[Metric]:
        """Yield the metrics whose fields equal all `criteria`, as in `select(name="auroc", subgroup="all")`."""
        for metric in self.metrics:
            if all(getattr(metric, key) == value for key, value in criteria.items()):
                yield metric

    def save(self, path: Path) -> None:
        """Write the report as JSON, whole or not at all."""
        durable.write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> Report:
        """Read a report; raises InputError if the file is not one."""
        try:
            content: dict[str, Any] = orjson.loads(path.read_bytes())
            metrics = tuple(
                Metric(**{**row, "interval": row["interval"] and Interval(**row["interval"])})
                for row in content.pop("metrics")
            )
            return cls(metrics=metrics, **content)
        except (OSError, orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise InputError("report", str(path), f"a report written by `lifechart evaluate` ({error})") from error
