"""What became of the people most like this one: claims of their own, in aggregates, beside the forecast.

They are no forecast and do not replace one: those people are alike in what the model reads, each was followed from one
moment, and counts are rounded. Where nobody may be counted, one claim says why.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from lifechart.core.answer import Claim, Evidence, EvidenceKind
from lifechart.core.capability import Grounds
from lifechart.core.forecast import Alike, Became, Forecast, Interval
from lifechart.core.suppression import SMALLEST

_Z = 1.959964


def claims(forecast: Forecast, shown: Iterable[Claim], grounds: Grounds) -> Iterator[Claim]:
    """Yield a claim for each outcome that is shown; or one with the reason why there is none. Nothing without index."""
    found = forecast.alike
    if found is None:
        return
    if found.refusal:
        model = Evidence(EvidenceKind.MODEL, grounds.forecaster.digest, f"Model {grounds.forecaster.name}")
        yield Claim(f"Nobody is counted who was like this person: {found.refusal}.", (model,))
        return
    became = {each.outcome: each for each in found.became}
    for outcome in dict.fromkeys(claim.outcome for claim in shown):
        if outcome in became:
            name = grounds.report.outcome_names.get(outcome, outcome)
            yield _claim(found, became[outcome], name)


def _claim(found: Alike, each: Became, name: str) -> Claim:
    whom = f"Of the {found.people} people most like this one, about {each.at_risk} had not had it before"
    evidence = Evidence(
        EvidenceKind.MODEL,
        found.digest,
        f"Index of {found.among:,} de-identified people whom the model learnt from; counts rounded to a multiple of 5",
    )
    when = horizon_in_words(found.horizon_days)
    if each.had is None:
        text = f"{name}: {whom[0].lower()}{whom[1:]}; fewer than {SMALLEST} of them had it {when}"
        return Claim(text, (evidence,), outcome=each.outcome, horizon_days=found.horizon_days)
    share, bounds = each.had / each.at_risk, interval_of(each.had, each.at_risk)
    text = (
        f"{name}: {whom[0].lower()}{whom[1:]}; about {each.had} of them had it {when}: {in_percent(share)} "
        f"({in_percent(bounds.low)} to {in_percent(bounds.high)})"
    )
    return Claim(text, (evidence,), share, bounds, each.outcome, found.horizon_days)


def interval_of(had: int, people: int) -> Interval:
    """Return the 95% score interval of a share (Wilson 1927); rounding of the counts is small beside it."""
    share, extra = had / people, _Z * _Z / people
    middle, reach = share + extra / 2, _Z * math.sqrt(share * (1 - share) / people + extra / (4 * people))
    return Interval(max(0.0, (middle - reach) / (1 + extra)), min(1.0, (middle + reach) / (1 + extra)))


def horizon_in_words(days: int) -> str:
    """Return a horizon as it is said.

    >>> [horizon_in_words(days) for days in (30, 365, 1825)]
    ['within 30 days', 'within 1 year', 'within 5 years']
    """
    years = round(days / 365.25)
    if years < 1 or abs(days / 365.25 - years) > 0.05:
        return f"within {days} days"
    return f"within {years} year{'s' if years > 1 else ''}"


def in_percent(probability: float) -> str:
    """Return a share as it is said.

    >>> [in_percent(share) for share in (0.0004, 0.034, 0.21)]
    ['under 0.1%', '3.4%', '21%']
    """
    percent = 100 * probability
    if 0 < percent < 0.1:
        return "under 0.1%"
    return f"{percent:.1f}%" if percent < 10 else f"{percent:.0f}%"
