"""A predetermined change control plan: which retrained models may take their predecessor's place without a new trial.

A plan is a protocol of purpose `change`, with an [envelope] table: what may change, how much worse no figure may get,
and what happens otherwise (FDA, Marketing Submission Recommendations for a Predetermined Change Control Plan, 2024). It
is registered like any protocol. A candidate inside the envelope takes up the phase that its predecessor stands in; with
one outside, the capability goes back to `shadow`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import log as log_of

from pydantic import BaseModel, ConfigDict, Field

from lifechart.core.errors import GateRefused
from lifechart.core.report import EVERYONE, Metric, Report
from lifechart.ledger.lineage import makers_of
from lifechart.ledger.log import Log
from lifechart.release.gate import COMPARATORS


class Envelope(BaseModel):
    """What a retrained model may differ in, and by how much."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    modifications: tuple[str, ...] = Field(min_length=1, description="what may be changed, each in a sentence")
    impact: str = Field(min_length=20, description="benefits and risks of these changes, and how the risks are met")
    fixed: tuple[str, ...] = Field(default=("size",), description="keys of the training statement that stay the same")
    max_auroc_drop: float = Field(ge=0, le=0.1, description="of any released pair, against the predecessor")
    max_mean_auroc_drop: float = Field(ge=0, le=0.1, description="of the mean over released pairs")
    max_calibration_gap: float = Field(gt=0, le=1, description="|log of observed over expected| of any released pair")
    max_pairs_lost: int = Field(ge=0, description="pairs that the predecessor may show and the candidate may not")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A release as change control sees it: what it may show, and its Report."""

    capability: str
    version: str
    manifest: str
    model: str
    report: Report
    released: frozenset[tuple[str, int]]


def breaches(envelope: Envelope, log: Log, sealed: int, old: Candidate, new: Candidate) -> list[str]:
    """Return every way in which `new` lies outside the envelope around `old`; none: it may take its place.

    `sealed`: ledger entry of the plan's last amendment. A model that was trained before it is outside: an envelope is
    not widened around a candidate that is known already.
    """
    return [*_changed(envelope, log, sealed, old, new), *_worse(envelope, old, new)]


def _changed(envelope: Envelope, log: Log, sealed: int, old: Candidate, new: Candidate) -> Iterator[str]:
    trained = {one.version: makers_of(log, one.model) for one in (old, new)}
    if not all(trained.values()):
        raise GateRefused("change control: the ledger does not say how both models were trained")
    before, after = (trained[one.version][-1] for one in (old, new))
    if after.index < sealed:
        yield (
            f"the model was trained (entry {after.index}) before the plan was sealed (entry {sealed}): "
            "an envelope is not widened around a candidate"
        )
    for key in envelope.fixed:
        was, now = before.statement.predicate.get(key), after.statement.predicate.get(key)
        if was != now:
            yield f"{key} changed from {was!r} to {now!r}, which the plan keeps fixed"
    if old.report.protocol_digest != new.report.protocol_digest:
        yield "the Reports were made by different evaluation protocols, so they do not compare"


def _worse(envelope: Envelope, old: Candidate, new: Candidate) -> Iterator[str]:
    lost = sorted(old.released - new.released)
    if len(lost) > envelope.max_pairs_lost:
        yield f"{len(lost)} pairs may no longer be shown, the plan allows {envelope.max_pairs_lost}: {lost[:3]}"
    drops = []
    for pair in sorted(old.released & new.released):
        was, now = _figure(old.report, "auroc", pair), _figure(new.report, "auroc", pair)
        if was is None or now is None:
            yield f"{pair[0]} within {pair[1]} days: no AUROC to compare"
            continue
        drops.append(was.value - now.value)
        if drops[-1] > envelope.max_auroc_drop:
            yield f"{pair[0]} within {pair[1]} days: AUROC {was.value:.3f} became {now.value:.3f}"
        ratio = _figure(new.report, "observed_expected", pair)
        if ratio is None or ratio.value <= 0 or abs(log_of(ratio.value)) > envelope.max_calibration_gap:
            shown = "unknown" if ratio is None else f"{ratio.value:.2f}"
            yield f"{pair[0]} within {pair[1]} days: observed over expected {shown}"
    if drops and sum(drops) / len(drops) > envelope.max_mean_auroc_drop:
        yield f"mean AUROC fell by {sum(drops) / len(drops):.4f}, the plan allows {envelope.max_mean_auroc_drop:g}"


def _figure(report: Report, name: str, pair: tuple[str, int]) -> Metric | None:
    outcome, horizon = pair
    rows = report.select(name=name, outcome=outcome, horizon_days=horizon, onset="new", subgroup=EVERYONE)
    return next((row for row in rows if row.forecaster not in COMPARATORS), None)
