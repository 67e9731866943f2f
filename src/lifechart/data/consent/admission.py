"""Who may enter a build: the register's answer as keyed ids, and the one place where records are held against it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from lifechart.core import durable
from lifechart.core.errors import InputError
from lifechart.data.consent.register import BUILD_PURPOSES, CONSENTED, HEAD, POLICIES, PURPOSES, WITHDRAWN, Register
from lifechart.data.deidentify import structured
from lifechart.data.sources import KEPT, WITHHELD, Batch


@dataclass(frozen=True, slots=True)
class Admission:
    """Who may enter a build. Holds keyed subject ids only, so it may travel to other processes and machines."""

    policy: str = "opt-out"
    purposes: tuple[str, ...] = BUILD_PURPOSES
    listed: frozenset[int] = field(default=frozenset(), repr=False)
    """Subject ids: under `opt-out` those who are kept out, under `opt-in` those who are let in."""

    @property
    def open(self) -> bool:
        """Whether everybody is let in, so that nobody needs to be looked up."""
        return self.policy == "opt-out" and not self.listed

    @property
    def identity(self) -> str:
        """What tells one admission from another: not the same for another list of people."""
        return HEAD + durable.digest_of([self.policy, self.purposes, sorted(self.listed)])

    def admits(self, subject_id: int) -> bool:
        """Return whether one subject, by keyed id, may enter."""
        return (subject_id in self.listed) == (self.policy == "opt-in")

    def to_json(self) -> dict[str, Any]:
        """Return what the ledger may say of it: neither who nor how many."""
        return {"policy": self.policy, "purposes": list(self.purposes)}


EVERYBODY = Admission()
"""Nobody has decided anything, and nobody needs to."""


def admission(register: Register, key: bytes, policy: str, purposes: Sequence[str] = BUILD_PURPOSES) -> Admission:
    """Return who may enter a build for these purposes, as the register stands now."""
    if policy not in POLICIES:
        raise InputError("LIFECHART_CONSENT_POLICY", policy, f"one of {POLICIES}")
    if not purposes or not set(purposes) <= set(PURPOSES):
        raise InputError("--purpose", list(purposes), f"some of {PURPOSES}")
    standing = [register.standing(purpose) for purpose in purposes]
    if policy == "opt-out":
        patients = {patient for each in standing for patient, what in each.items() if what == WITHDRAWN}
    else:
        consenting = [{patient for patient, what in each.items() if what == CONSENTED} for each in standing]
        patients = set.intersection(*consenting)
    ids = structured.subject_ids(key, pl.Series(sorted(patients), dtype=pl.String))
    return Admission(policy, tuple(purposes), frozenset(ids.to_list()))


def admit(batch: Batch, who: Admission, key: bytes) -> Batch:
    """Return a batch without the rows of those who may not enter; their resources count as withheld by consent.

    Rows are taken away before anything of them is written, so not even the work folder holds them.
    """
    if who.open or batch.rows.is_empty():
        return batch
    patients = batch.rows.get_column("patient").unique()
    listed = structured.subject_ids(key, patients).is_in(list(who.listed))
    out = patients.filter(listed if who.policy == "opt-out" else ~listed)
    if out.is_empty():
        return batch
    theirs = pl.col("patient").is_in(out.to_list()).fill_null(who.policy == "opt-in")
    counts = Counter(batch.counts)
    resources = batch.rows.filter(theirs).unique("position")
    for type_, number in resources.group_by("type").len().iter_rows():
        counts[type_, KEPT] -= number
        counts[type_, WITHHELD] += number
    return replace(batch, rows=batch.rows.filter(~theirs), counts=+counts)
