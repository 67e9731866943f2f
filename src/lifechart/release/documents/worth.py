"""The sentences that a release's Report can make: how well it tells who from who not, and for whom less well."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import exp
from math import log as log_of
from statistics import mean, median

from lifechart.core.report import EVERYONE, Metric
from lifechart.core.suppression import shown, small
from lifechart.release.documents.evidence import Dossier, Said
from lifechart.release.gate import COMPARATORS

WORSE = 0.02
"""A group's mean AUROC this much below everyone's for the same outcomes is named as a weakness."""
_MOST_NAMED = 12


@dataclass(frozen=True, slots=True)
class Group:
    """A group of people: the model's means in it, beside everyone's for the same outcomes."""

    name: str
    auroc: float
    everyone: float
    num_people: int
    num_pairs: int

    @property
    def words(self) -> str:
        """`sex female` for `sex=female`."""
        return self.name.replace("=", " ").replace("_", " ")


def days(horizon: int) -> str:
    """Return a horizon in words.

    >>> days(30), days(365), days(1825)
    ('30 days', '1 year', '5 years')
    """
    years, rest = divmod(horizon, 365)
    return f"{horizon} days" if rest or not years else f"{years} year{'s' if years > 1 else ''}"


def released_rows(dossier: Dossier, name: str, forecaster: str = "") -> list[Metric]:
    """Return a metric's rows for everyone, of new onset, for the pairs that may be shown."""
    released = set(dossier.manifest.released)
    wanted = {"name": name, "forecaster": forecaster or dossier.model, "onset": "new", "subgroup": EVERYONE}
    return [row for row in dossier.report.select(**wanted) if (row.outcome, row.horizon_days) in released]


def groups(dossier: Dossier) -> list[Group]:
    """Return every group with figures, the weakest against everyone first; groups of too few people are left out."""
    everyone = {(row.outcome, row.horizon_days): row.value for row in released_rows(dossier, "auroc")}
    by_name: dict[str, list[Metric]] = {}
    for row in dossier.report.select(name="auroc", forecaster=dossier.model, onset="new"):
        if row.subgroup != EVERYONE and (row.outcome, row.horizon_days) in everyone:
            by_name.setdefault(row.subgroup, []).append(row)
    found = [
        Group(
            name,
            mean(row.value for row in rows),
            mean(everyone[row.outcome, row.horizon_days] for row in rows),
            max(row.num_prompts for row in rows),
            len(rows),
        )
        for name, rows in by_name.items()
        if not small(max(row.num_prompts for row in rows))
    ]
    return sorted(found, key=lambda group: group.auroc - group.everyone)


def names(dossier: Dossier, outcomes: Iterable[str]) -> str:
    """Return outcomes by their names, shortened where they are many."""
    found = sorted({dossier.report.outcome_names.get(outcome, outcome) for outcome in outcomes})
    more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    return ", ".join(found[:_MOST_NAMED]) + more


def outputs(dossier: Dossier) -> list[Said]:
    """What it may say: outcomes and horizons that passed the gate."""
    released = dossier.manifest.released
    horizons = ", ".join(days(each) for each in sorted({horizon for _, horizon in released}))
    num = len({outcome for outcome, _ in released})
    what = f"each of {num} outcomes" if num > 1 else "one outcome"
    text = (
        f"The probability of {what} within a stated time ({horizons}), {_pairs(len(released))} of outcome and time in "
        f"all: {names(dossier, (outcome for outcome, _ in released))}."
    )
    return [Said(text, dossier.file("manifest", "report"))]


def left_out(dossier: Dossier) -> list[Said]:
    """What was examined and may not be shown, because it did not meet the gate's criteria."""
    released = set(dossier.manifest.released)
    failed = {
        (check.outcome, check.horizon_days)
        for check in dossier.manifest.checks
        if check.outcome and (check.outcome, check.horizon_days) not in released and check.scope != "whole"
    }
    if not failed:
        return []
    text = (
        f"{_pairs(len(failed))} of outcome and time examined and withheld, because the criteria were not met: "
        f"{names(dossier, (outcome for outcome, _ in failed))}."
    )
    return [Said(text, dossier.file("manifest"))]


def discrimination(dossier: Dossier) -> list[Said]:
    """AUROC over the released pairs, and of boosted trees on the same."""
    rows = released_rows(dossier, "auroc")
    if not rows:
        return []
    low, high = min(rows, key=lambda row: row.value), max(rows, key=lambda row: row.value)
    text = (
        f"AUROC for new onset, over {_pairs(len(rows))} released: median {median(row.value for row in rows):.3f}, "
        f"lowest {_figure(dossier, low)}, highest {_figure(dossier, high)}. Intervals: 95%, bootstrap of patients."
    )
    found = [Said(text, dossier.file("report"))]
    for name in COMPARATORS:
        others = {(row.outcome, row.horizon_days): row.value for row in released_rows(dossier, "auroc", name)}
        gains = [row.value - others[key] for row in rows if (key := (row.outcome, row.horizon_days)) in others]
        if gains:
            beside = (
                f"Mean difference from {name.replace('-', ' ')} on the same {len(gains)} pairs: {mean(gains):+.3f}."
            )
            found.append(Said(beside, dossier.file("report")))
    return found


def calibration(dossier: Dossier) -> list[Said]:
    """Observed over expected and calibration slope over the released pairs."""
    found = []
    for name, words in (("observed_expected", "Observed over expected"), ("calibration_slope", "Calibration slope")):
        rows = [row.value for row in released_rows(dossier, name)]
        if rows:
            text = (
                f"{words}: median {median(rows):.2f}, from {min(rows):.2f} to {max(rows):.2f} over {_pairs(len(rows))}."
            )
            found.append(Said(text, dossier.file("report")))
    return found


def by_group(dossier: Dossier) -> list[Said]:
    """How well it does in each group of people, beside everyone."""
    return [
        Said(
            f"{group.words} ({shown(group.num_people)} prompts, {_pairs(group.num_pairs)}): mean AUROC "
            f"{group.auroc:.3f}, everyone {group.everyone:.3f}.",
            dossier.file("report"),
        )
        for group in sorted(groups(dossier), key=lambda group: group.name)
    ]


def weakest(dossier: Dossier) -> list[Said]:
    """The groups in which it does worse than for everyone, or that it was not seen to in those examined."""
    found = groups(dossier)
    if not found:
        return []
    worse = [group for group in found if group.everyone - group.auroc >= WORSE]
    if not worse:
        text = f"In none of the {len(found)} groups examined was mean AUROC {WORSE:g} or more below everyone's."
        return [Said(text, dossier.file("report"))]
    listed = "; ".join(f"{group.words}: {group.auroc:.3f} against {group.everyone:.3f}" for group in worse)
    return [Said(f"Weaker than for everyone (mean AUROC) in: {listed}.", dossier.file("report"))]


def who_was_in_it(dossier: Dossier) -> list[Said]:
    """The groups of people in the evaluation, by prompts."""
    listed = "; ".join(
        f"{group.words} {shown(group.num_people)}" for group in sorted(groups(dossier), key=lambda each: each.name)
    )
    return [Said(f"Evaluated on (prompts): {listed}.", dossier.file("report"))] if listed else []


def numbers(dossier: Dossier) -> list[Said]:
    """Sample and events of the evaluation."""
    rows = released_rows(dossier, "auroc")
    if not rows:
        return []
    few, most = min(row.num_events for row in rows), max(row.num_events for row in rows)
    people = dossier.evaluated.statement.predicate.get("people")
    who = f"{shown(int(people))} people, " if people else ""
    text = (
        f"Evaluation on {who}up to {shown(max(row.num_prompts for row in rows))} prompts a pair; "
        f"{shown(few)} to {shown(most)} events a pair."
    )
    return [Said(text, dossier.file("report"))]


def worst_calibrated(dossier: Dossier) -> list[Said]:
    """The released pair whose observed and expected counts lie furthest apart."""
    rows = [row for row in released_rows(dossier, "observed_expected") if row.value > 0]
    if not rows:
        return []
    row = max(rows, key=lambda each: abs(log_of(each.value)))
    apart = exp(abs(log_of(row.value)))
    text = (
        f"Furthest from its own numbers for {names(dossier, [row.outcome])} within {days(row.horizon_days)}: "
        f"observed over expected {row.value:.2f}, a factor of {apart:.2f}."
    )
    return [Said(text, dossier.file("report"))]


def in_plain_words(dossier: Dossier) -> list[Said]:
    """Discrimination as a natural frequency, for the public."""
    rows = released_rows(dossier, "auroc")
    if not rows:
        return []
    low, high = (round(100 * pick(row.value for row in rows)) for pick in (min, max))
    times = (
        f"{low} times out of 100" if low == high else f"{low} to {high} times out of 100, depending on the condition"
    )
    text = (
        "Take two people, one who went on to have a condition and one who did not. "
        f"It gave the higher risk to the right one {times}. Guessing would be right 50 times out of 100."
    )
    return [Said(text, dossier.file("report"))]


def weak_in_plain_words(dossier: Dossier) -> list[Said]:
    """Where it is weak, for the public."""
    found = []
    worse = [group for group in groups(dossier) if group.everyone - group.auroc >= WORSE]
    if worse:
        listed = "; ".join(group.words for group in worse)
        found.append(Said(f"It was right less often for these groups of people: {listed}.", dossier.file("report")))
    elif examined := groups(dossier):
        text = (
            f"Of {len(examined)} groups of people looked at, none was found for whom it was clearly less often right."
        )
        found.append(Said(text, dossier.file("report")))
    withheld = {check.outcome for check in dossier.manifest.checks if check.outcome and check.scope != "whole"} - {
        outcome for outcome, _ in dossier.manifest.released
    }
    if withheld:
        text = f"It was not good enough to say anything about: {names(dossier, withheld)}."
        found.append(Said(text, dossier.file("manifest")))
    return found


def _pairs(number: int) -> str:
    return f"{number:,} pair{'s' if number != 1 else ''}"


def _figure(dossier: Dossier, row: Metric) -> str:
    bounds = f" ({row.interval.low:.3f} to {row.interval.high:.3f})" if row.interval else ""
    return f"{row.value:.3f}{bounds} for {names(dossier, [row.outcome])} within {days(row.horizon_days)}"
