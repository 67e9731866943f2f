"""The contract that ties the product together: a named thing that Lifechart may do for someone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable

from lifechart.core.answer import Answer
from lifechart.core.forecast import Forecaster
from lifechart.core.report import Report
from lifechart.core.timeline import Timeline


class Role(StrEnum):
    """Who may call. An account has one or more."""

    CLINICIAN = "clinician"
    NURSE = "nurse"
    PATIENT = "patient"
    STEWARD = "steward"
    AUDITOR = "auditor"
    OPERATOR = "operator"


class Phase(StrEnum):
    """How far a capability has been let out. The order is the order of trust."""

    OFF = "off"
    SIMULATION = "simulation"
    SHADOW = "shadow"
    TRIAL = "trial"
    CLINICIANS = "clinicians"
    INSTITUTIONS = "institutions"
    PUBLIC = "public"

    @property
    def rank(self) -> int:
        """Position in the order of trust, `off` being 0."""
        return list(Phase).index(self)


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a capability says of itself: the unit of validation, release, permission, monitoring and lineage."""

    name: str
    title: str
    intended_use: str
    users: tuple[Role, ...]
    inputs: tuple[str, ...]
    """Kinds of chart item it reads (core.timeline.KINDS)."""
    evidence_tasks: tuple[str, ...]
    """Names of the evaluation tasks whose Report must stand behind it."""
    limits: tuple[str, ...]
    """Plain sentences: what it must not be used for, where it is known to be weak."""


@dataclass(frozen=True, slots=True)
class Grounds:
    """What a capability may rest an answer on: the released forecaster, its Report, the names of codes."""

    forecaster: Forecaster
    report: Report
    names: dict[str, str]
    released: frozenset[tuple[str, int]]
    """Pairs of (outcome, horizon in days) that passed the gate. Nothing else may be claimed."""


@runtime_checkable
class Capability(Protocol):
    """One file in care/ each. Stateless: everything an answer rests on comes in as an argument."""

    @property
    def declaration(self) -> Declaration:
        """What this capability is for."""

    def answer(self, timeline: Timeline, as_of: datetime, grounds: Grounds) -> Answer:
        """Answer for one patient; abstaining, asking and escalating are answers too. `timeline` ends at `as_of`."""
