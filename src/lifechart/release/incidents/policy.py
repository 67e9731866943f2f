"""What an institution demands of incidents: severities with their clocks, kinds of problem and cause, regulators."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lifechart.core.errors import InputError

DEFAULT = Path(__file__).with_name("policy.toml")


class Choice(BaseModel):
    """One of a list that people choose from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z][a-z-]*$")
    words: str


class Severity(Choice):
    """How bad it is; the list runs from worst to least."""

    triage_hours: float = Field(gt=0, description="hours from the report within which somebody has to triage it")


class Regulator(BaseModel):
    """Who has to be told, and by when."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z][a-z-]*$")
    title: str
    source: str
    days: dict[str, int] = Field(description="severity to days from the report; others need not be reported")


class Demands(BaseModel):
    """The policy file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    review_by: date
    severity: tuple[Severity, ...] = Field(min_length=1)
    problem: tuple[Choice, ...] = Field(min_length=1)
    cause: tuple[Choice, ...] = Field(min_length=1)
    regulator: tuple[Regulator, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """The demands, and the digest of the file that states them."""

    demands: Demands
    digest: str

    @classmethod
    def load(cls, path: Path | None = None) -> Policy:
        """Read a policy file, by default the one that comes along; raises InputError that says what is wrong."""
        path = path or DEFAULT
        try:
            content = path.read_bytes()
            demands = Demands.model_validate(tomllib.loads(content.decode()))
        except OSError as error:
            raise InputError("incident policy", str(path), "a TOML file that can be read") from error
        except (ValidationError, ValueError) as error:
            raise InputError(
                "incident policy", str(path), f"an incident policy ({str(error).splitlines()[0]})"
            ) from error
        names = {severity.name for severity in demands.severity}
        for regulator in demands.regulator:
            if not regulator.days.keys() <= names:
                raise InputError(f"{path}: days of {regulator.name}", sorted(regulator.days), f"of {sorted(names)}")
        return cls(demands, hashlib.sha256(content).hexdigest())

    def severity(self, name: str) -> Severity:
        """Return a severity by name; raises InputError."""
        return _named("severity", name, self.demands.severity)

    def problem(self, name: str) -> Choice:
        """Return a kind of problem by name; raises InputError."""
        return _named("problem", name, self.demands.problem)

    def cause(self, name: str) -> Choice:
        """Return a kind of cause by name; raises InputError."""
        return _named("cause", name, self.demands.cause)

    def regulator(self, name: str) -> Regulator:
        """Return a regulator by name; raises InputError."""
        found = next((each for each in self.demands.regulator if each.name == name), None)
        if found is None:
            raise InputError("regulator", name, f"one of {[each.name for each in self.demands.regulator]}")
        return found


Named = TypeVar("Named", bound=Choice)


def _named(key: str, name: str, choices: Sequence[Named]) -> Named:
    found = next((each for each in choices if each.name == name), None)
    if found is None:
        raise InputError(key, name, f"one of {[each.name for each in choices]}")
    return found
