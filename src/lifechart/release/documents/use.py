"""The sentences that the ledger can make of a release in use: who was answered, and how often they disagreed."""

from __future__ import annotations

import tomllib
from collections import Counter
from functools import cache
from pathlib import Path

from lifechart.core.suppression import SMALLEST, shown, small, suppress_counts
from lifechart.ledger.log import Entry
from lifechart.release.documents.evidence import Dossier, Said, Source, entry_source

ACCEPTED, DISMISSED = "accepted", "dismissed"
_REASONS = Path(__file__).with_name("reasons.toml")


@cache
def reasons() -> dict[str, str]:
    """Return {reason of a dismissal: what it means, in plain words}."""
    words: dict[str, str] = tomllib.loads(_REASONS.read_text())["reasons"]
    return words


def answers(dossier: Dossier) -> list[Entry]:
    """Return the answers that the released model gave for this capability."""
    return [
        entry
        for entry in dossier.log.find(kind="answer", digest=dossier.manifest.model_digest)
        if entry.statement.predicate["capability"] == dossier.declaration.name
    ]


def decisions(dossier: Dossier) -> dict[tuple[str, str, str], Entry]:
    """Return the last decision of each user on each outcome of each answer that the released model gave."""
    of_card = {
        digest: entry.statement.subjects[0].digest
        for entry in answers(dossier)
        for digest in (entry.statement.subjects[0].digest, *entry.statement.predicate.get("cards", {}).values())
    }
    found: dict[tuple[str, str, str], Entry] = {}
    for entry in dossier.log.find(kind="feedback"):
        said = entry.statement.predicate
        about = [of_card[subject.digest] for subject in entry.statement.subjects if subject.digest in of_card]
        if said["capability"] == dossier.declaration.name and about:
            found[about[0], str(said["user"]), str(said["outcome"])] = entry
    return found


def in_use(dossier: Dossier) -> list[Said]:
    """How often it answered, through which outlets, and how often it could not or would not."""
    found = answers(dossier)
    if not found:
        return []
    said = [entry.statement.predicate for entry in found]
    users = shown(len({each["user"] for each in said}))
    outlets = ", ".join(sorted({str(each["outlet"]) for each in said}))
    dispositions = suppress_counts(Counter(str(each["disposition"]).replace("_", " ") for each in said))
    listed = "; ".join(f"{name} {_count(count)}" for name, count in sorted(dispositions.items()))
    text = f"{shown(len(found))} answers to {users} users, through {outlets}. By disposition: {listed}."
    return [Said(text, _span("answers", found))]


def disagreement(dossier: Dossier) -> list[Said]:
    """How often clinicians dismissed what it said, and why; counts below 11 are not told."""
    latest = list(decisions(dossier).values())
    if not latest:
        return []
    sources = _span("decisions", latest)
    total = len(latest)
    if small(total):
        few = (
            f"Clinicians have judged what it said fewer than {SMALLEST} times: too few to say how often they disagree."
        )
        return [Said(few, sources)]
    said = [entry.statement.predicate for entry in latest]
    counts = suppress_counts(
        {action: sum(each["action"] == action for each in said) for action in (ACCEPTED, DISMISSED)}
    )
    dismissed = counts[DISMISSED]
    if dismissed is None:
        text = (
            f"Clinicians judged what it said {total:,} times. How often they dismissed it is not told, because one of "
            f"the counts is below {SMALLEST}."
        )
        return [Said(text, sources)]
    found = [
        Said(
            f"Clinicians judged what it said {total:,} times and dismissed it {dismissed:,} times "
            f"({100 * dismissed / total:.0f} in 100).",
            sources,
        )
    ]
    why = suppress_counts(Counter(str(each["reason"]) for each in said if each["action"] == DISMISSED))
    listed = "; ".join(f"{reasons().get(reason, reason)}: {_count(count)}" for reason, count in sorted(why.items()))
    return [*found, Said(f"Why they dismissed it: {listed}.", sources)] if listed else found


def signals(dossier: Dossier) -> list[Said]:
    """Alarms of monitoring and reported incidents that name the capability."""
    found = []
    for kind, words in (("alarm", "alarms of monitoring"), ("incident", "statements about incidents")):
        numbers = dossier.log.numbers(kind=kind, capability=dossier.declaration.name).tolist()
        if entries := dossier.log.read(numbers):
            found.append(Said(f"The ledger holds {shown(len(entries))} {words}.", _span(words, entries)))
    return found


def _count(count: int | None) -> str:
    return "not told" if count is None else f"{count:,}"


def _span(name: str, entries: list[Entry]) -> tuple[Source, ...]:
    """Return the first and last of many entries: those between are found by kind."""
    ordered = sorted(entries, key=lambda entry: entry.index)
    first, last = entry_source(f"{name}, first", ordered[0]), entry_source(f"{name}, last", ordered[-1])
    return (first,) if len(ordered) == 1 else (first, last)
