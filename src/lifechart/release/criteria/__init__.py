"""What each capability must show before it may leave: one TOML file a capability, read as data."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from lifechart.core.errors import InputError

PAIR, SUBGROUP, WHOLE = "pair", "subgroup", "whole"
EVERYONE_ELSE = "everyone"
NUM_EVENTS, NUM_PROMPTS, PAIRS_RELEASED = "num_events", "num_prompts", "pairs_released"

_CHOICES = {
    "scope": (PAIR, SUBGROUP, WHOLE),
    "bound": ("low", "high", "value"),
    "if_absent": ("fail", "skip"),
}


@dataclass(frozen=True, slots=True)
class Criterion:
    """One demand: a bound of a metric, or of its difference from another forecaster's value, against a limit."""

    name: str
    scope: str
    """`pair`, `subgroup` or `whole`."""
    metric: str
    """As in a Report, or `num_events`, `num_prompts`, `pairs_released`."""
    why: str
    at_least: float | None = None
    at_most: float | None = None
    bound: str = "value"
    """`low` or `high` end of the interval, or the `value` itself."""
    versus: str = ""
    """A forecaster whose value is subtracted; in scope `subgroup`, `everyone` subtracts the whole sample's."""
    outcome: str = ""
    """In scope `whole`: the outcome of the row, `*` for a mean over outcomes."""
    horizons_days: tuple[int, ...] = ()
    """The horizons asked about; empty: all."""
    onset: str = "new"
    if_absent: str = "fail"
    """What becomes of a figure that the Report does not have."""

    def __post_init__(self) -> None:
        for key, choices in _CHOICES.items():
            if getattr(self, key) not in choices:
                raise InputError(f"criterion {self.name!r}: {key}", getattr(self, key), f"one of {choices}")
        if (self.at_least is None) == (self.at_most is None):
            raise InputError(f"criterion {self.name!r}", (self.at_least, self.at_most), "either at_least or at_most")
        if not self.why:
            raise InputError(f"criterion {self.name!r}: why", self.why, "the reason for it")

    @property
    def limit(self) -> str:
        """The limit in words: `low >= 0.55`."""
        sign, number = (">=", self.at_least) if self.at_least is not None else ("<=", self.at_most)
        return f"{self.bound} {sign} {number:g}"

    def met(self, figure: float) -> bool:
        """Tell whether a figure keeps the limit; one that is not a number never does."""
        if self.at_least is not None:
            return figure >= self.at_least
        return self.at_most is not None and figure <= self.at_most


@dataclass(frozen=True, slots=True)
class Criteria:
    """All that is demanded of one capability."""

    capability: str
    review_by: str
    criteria: tuple[Criterion, ...]
    digest: str
    """SHA-256 of the file."""


def default_path(capability: str) -> Path:
    """Return the criteria that come with Lifechart; raises InputError if there are none for this capability."""
    path = Path(__file__).with_name(f"{capability}.toml")
    if not path.exists():
        known = sorted(found.stem for found in path.parent.glob("*.toml"))
        raise InputError("capability", capability, f"one with criteria: {known}, or a file of your own")
    return path


def load(path: Path) -> Criteria:
    """Read criteria; raises InputError that names the key and what was expected."""
    try:
        content = path.read_bytes()
        table = tomllib.loads(content.decode())
        rows: list[dict[str, Any]] = table["criterion"]
        capability, review_by = str(table["capability"]), str(table["review_by"])
    except (OSError, ValueError, KeyError) as error:
        expected = f"TOML with capability, review_by and [[criterion]] tables ({error})"
        raise InputError("criteria", str(path), expected) from error
    return Criteria(capability, review_by, of_rows(rows), hashlib.sha256(content).hexdigest())


def of_rows(rows: Iterable[Mapping[str, Any]]) -> tuple[Criterion, ...]:
    """Return criteria from their tables; raises InputError that names the criterion, the key and what was expected."""
    return tuple(map(_criterion, rows))


def _criterion(row: Mapping[str, Any]) -> Criterion:
    known = {field.name for field in fields(Criterion)}
    if unknown := sorted(set(row) - known):
        raise InputError(f"criterion {row.get('name')!r}", unknown, f"only the keys {sorted(known)}")
    try:
        return Criterion(**{**row, "horizons_days": tuple(row.get("horizons_days", ()))})
    except TypeError as error:
        expected = f"at least name, scope, metric and why ({error})"
        raise InputError(f"criterion {row.get('name')!r}", sorted(row), expected) from error
