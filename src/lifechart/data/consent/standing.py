"""What the ledger alone says of withdrawals: which data sets still hold somebody who withdrew, and what rests on them.

Reads nothing but statements, and finds nobody: in them a patient is a keyed hash. Made for the steward's page and for
auditors; with the register and the key, `holdings` says the same of one patient by name.
"""

from __future__ import annotations

from dataclasses import dataclass

from lifechart.ledger.lineage import made_models
from lifechart.ledger.log import Entry, Log


@dataclass(frozen=True, slots=True)
class Model:
    """A model that was trained on a data set."""

    digest: str
    index: int
    """Entry in the ledger."""


@dataclass(frozen=True, slots=True)
class Shelved:
    """A release that rests on a data set."""

    capability: str
    version: str
    current: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """A data set that holds people who withdrew, and what rests on it."""

    dataset: str
    withdrawn: int
    """People in it who have withdrawn and have not consented again."""
    models: tuple[Model, ...]
    releases: tuple[Shelved, ...]
    deleted: bool
    """Whether the data set itself was deleted since; what was learned from it was not."""


def affected(log: Log) -> list[Standing]:
    """Return the data sets that still hold somebody who withdrew, oldest first."""
    people: dict[str, set[str]] = {}
    for entry in log.find(kind="withdrawal"):
        said = entry.statement
        person = said.subjects[0].digest
        if said.predicate["what"] == "withdrawn":
            # The newest statement names them all: another purpose may have been given back since.
            people[person] = set(said.predicate["held_by"])
        else:
            people.pop(person, None)
    held: dict[str, int] = {}
    for seen in people.values():
        for dataset in seen:
            held[dataset] = held.get(dataset, 0) + 1
    order = {digest: entry.index for digest in held for entry in log.find(kind="ingest", digest=digest)}
    return [resting_on(log, digest, held[digest]) for digest in sorted(held, key=lambda each: order.get(each, -1))]


def resting_on(log: Log, dataset: str, withdrawn: int = 0) -> Standing:
    """Return what rests on a data set, by the ledger."""
    models: list[Model] = []
    waiting, behind = [dataset], {dataset}
    while waiting:
        # A model rests on what its data set was joined of, and on the data behind the model it was adapted from.
        lower = waiting.pop(0)
        joined = [entry.statement.subjects[0].digest for entry in log.find(kind="combine", digest=lower)]
        waiting += [digest for digest in joined if digest not in behind]
        behind |= set(joined)
        for entry in made_models(log, lower):
            made = [subject.digest for subject in entry.statement.subjects if subject.digest not in behind]
            models += [Model(digest, entry.index) for digest in made]
            waiting += made
            behind |= set(made)
    return Standing(dataset, withdrawn, tuple(models), tuple(_releases(log, behind)), is_deleted(log, dataset))


def is_deleted(log: Log, digest: str) -> bool:
    """Return whether a retention statement says that a thing was deleted."""
    return any(
        any(subject.digest == digest for subject in entry.statement.subjects)
        for entry in log.find(kind="retention", digest=digest)
    )


def _releases(log: Log, behind: set[str]) -> list[Shelved]:
    """Return the releases that name one of these digests, newest of each version, and which of them is current."""
    current: dict[str, str] = {}
    named: dict[tuple[str, str], Entry] = {}
    for entry in log.find(kind="release"):
        said = entry.statement.predicate
        current[said["capability"]] = said["version"]
        if behind & set(_digests(said)):
            named[said["capability"], said["version"]] = entry
    return [Shelved(name, version, current[name] == version) for name, version in named]


def _digests(value: object) -> list[str]:
    if isinstance(value, dict):
        return [digest for inner in value.values() for digest in _digests(inner)]
    if isinstance(value, list):
        return [digest for inner in value for digest in _digests(inner)]
    return [value] if isinstance(value, str) else []
