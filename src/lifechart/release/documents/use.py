"""The sentences that the ledger can make of a release in use: who was answered, and how often they disagreed."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from lifechart.core.suppression import SMALLEST, shown, small, suppress_counts
from lifechart.release.documents.evidence import Dossier, Said, Source, entry_source
from lifechart.release.documents.tally import Use

ACCEPTED, DISMISSED = "accepted", "dismissed"
_REASONS = Path(__file__).with_name("reasons.toml")


@cache
def reasons() -> dict[str, str]:
    """Return {reason of a dismissal: what it means, in plain words}."""
    words: dict[str, str] = tomllib.loads(_REASONS.read_text())["reasons"]
    return words


def _use(dossier: Dossier) -> Use:
    return dossier.tally.of(dossier.manifest.model_digest, dossier.declaration.name)


def in_use(dossier: Dossier) -> list[Said]:
    """How often it answered, through which outlets, and how often it could not or would not."""
    found = _use(dossier)
    if not found.answers:
        return []
    users = shown(len(found.users))
    outlets = ", ".join(sorted(found.outlets))
    dispositions = suppress_counts({name.replace("_", " "): count for name, count in found.dispositions.items()})
    listed = "; ".join(f"{name} {_count(count)}" for name, count in sorted(dispositions.items()))
    text = f"{shown(found.answers)} answers to {users} users, through {outlets}. By disposition: {listed}."
    return [Said(text, _span(dossier, "answers", [found.first, found.last]))]


def disagreement(dossier: Dossier) -> list[Said]:
    """How often clinicians dismissed what it said, and why; counts below 11 are not told."""
    latest = list(_use(dossier).judged.values())
    if not latest:
        return []
    sources = _span(dossier, "decisions", [each.entry for each in latest])
    total = len(latest)
    if small(total):
        few = (
            f"Clinicians have judged what it said fewer than {SMALLEST} times: too few to say how often they disagree."
        )
        return [Said(few, sources)]
    counts = suppress_counts(
        {action: sum(each.action == action for each in latest) for action in (ACCEPTED, DISMISSED)}
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
    why = suppress_counts(Counter(each.reason for each in latest if each.action == DISMISSED))
    listed = "; ".join(f"{reasons().get(reason, reason)}: {_count(count)}" for reason, count in sorted(why.items()))
    return [*found, Said(f"Why they dismissed it: {listed}.", sources)] if listed else found


def signals(dossier: Dossier) -> list[Said]:
    """Alarms of monitoring and reported incidents that name the capability."""
    found = []
    for kind, words in (("alarm", "alarms of monitoring"), ("incident", "statements about incidents")):
        numbers = dossier.log.numbers(kind=kind, capability=dossier.declaration.name).tolist()
        if numbers:
            found.append(Said(f"The ledger holds {shown(len(numbers))} {words}.", _span(dossier, words, numbers)))
    return found


def _count(count: int | None) -> str:
    return "not told" if count is None else f"{count:,}"


def _span(dossier: Dossier, name: str, numbers: Sequence[int]) -> tuple[Source, ...]:
    """Return the first and last of many entries: those between are found by kind."""
    ends = sorted({min(numbers), max(numbers)})
    entries = dossier.log.read(ends)
    if len(entries) == 1:
        return (entry_source(f"{name}, first", entries[0]),)
    return entry_source(f"{name}, first", entries[0]), entry_source(f"{name}, last", entries[-1])
