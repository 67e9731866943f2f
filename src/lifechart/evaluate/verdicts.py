"""What the fairness of a model and of its labels comes to, in the words and tables of the evaluation's page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from lifechart.core.suppression import shown, small
from lifechart.evaluate.fairness import AND, METRICS, UNJUDGED, WORSE, Fairness, Figure
from lifechart.evaluate.figures import percent
from lifechart.evaluate.recorded import Recording

Found = TypeVar("Found", Recording, Figure)
WORDS = {
    "auroc": "ranking",
    "observed_expected": "calibration",
    "false_negative_rate": "events missed at the threshold",
    "net_benefit": "net benefit at the threshold",
}


def section(fairness: Fairness, names: Mapping[str, str]) -> dict[str, Any]:
    """Return what the page's section shows: findings in words, then a table for each outcome of single attributes."""
    outcomes = list(dict.fromkeys(each.outcome for each in fairness.figures))
    return {
        "tests": fairness.num_tests,
        "record": [_of_record(each) for each in _widest(fairness.under_recorded, _about_record)],
        "model": [_of_model(each, names) for each in _widest(fairness.worse, _about_model)],
        "unjudged": sorted(
            {(names.get(each.outcome, each.outcome), in_words(each.group)) for each in fairness.figures if _aside(each)}
        ),
        "tables": [
            {"title": names.get(outcome, outcome), "threshold": _threshold(fairness, outcome), "rows": rows}
            for outcome in outcomes
            if (rows := _rows(fairness, outcome))
        ],
    }


def _widest(findings: Sequence[Found], about: Callable[[Found], str]) -> list[Found]:
    """Return the findings without those of pairs that a finding about one of the two already says."""
    said = {(about(each), each.group) for each in findings}
    return [
        each
        for each in findings
        if AND not in each.group or not any((about(each), part) in said for part in each.group.split(AND))
    ]


def _about_record(found: Recording) -> str:
    return found.condition.condition


def _about_model(found: Figure) -> str:
    return f"{found.metric} of {found.outcome}"


def in_words(group: str) -> str:
    """Return a group as a page calls it.

    >>> in_words("sex=female & race=Black_or_African_American")
    'sex: female, race: Black or African American'
    """
    return ", ".join(part.replace("=", ": ", 1).replace("_", " ") for part in group.split(AND))


def _of_record(found: Recording) -> dict[str, str]:
    missing = found.shown - found.recorded
    others_missing = found.others_shown - found.others_recorded
    ours = theirs = "a share withheld for its small numbers"
    if not small(missing) and not small(found.recorded):
        ours = percent(found.recorded / found.shown)
    if not small(others_missing) and not small(found.others_recorded):
        theirs = percent(found.others_recorded / found.others_shown)
    return {
        "condition": found.condition.condition,
        "group": in_words(found.group),
        "shown": shown(found.shown),
        "ours": ours,
        "theirs": theirs,
        "source": found.condition.source,
    }


def _of_model(found: Figure, names: Mapping[str, str]) -> dict[str, Any]:
    return {
        "outcome": names.get(found.outcome, found.outcome),
        "group": in_words(found.group),
        "what": WORDS[found.metric],
        "value": found.value,
        "interval": found.interval,
        "others": found.others,
    }


def _aside(figure: Figure) -> bool:
    return figure.verdict == UNJUDGED and AND not in figure.group


def _threshold(fairness: Fairness, outcome: str) -> float:
    return next(each.threshold for each in fairness.figures if each.outcome == outcome)


def _rows(fairness: Fairness, outcome: str) -> list[dict[str, Any]]:
    """Return a row for each group of one attribute: its figures by metric, and what is to be said of it."""
    by_group: dict[tuple[str, bool], dict[str, Figure]] = {}
    for figure in fairness.figures:
        if figure.outcome == outcome and AND not in figure.group:
            by_group.setdefault((figure.group, figure.verdict == UNJUDGED), {})[figure.metric] = figure
    found = []
    for (group, is_aside), figures in sorted(by_group.items()):
        worse = [WORDS[name] for name, figure in figures.items() if figure.verdict == WORSE]
        said = "not judged: under-recorded" if is_aside else f"worse: {', '.join(worse)}" if worse else "–"
        found.append({"group": in_words(group), "figures": [figures.get(name) for name in METRICS], "said": said})
    return found
