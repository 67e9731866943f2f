"""What the ledger says of a model in shadow: answers, uptime, alert burden, label lag, what is left to adjudicate.

Replayed from statements of kinds `answer`, `fault`, `label` and `adjudication`, each read once: a `Course` that is kept
takes in only what is new, so a page about a million answers costs what came since it was last looked at.
"""

from __future__ import annotations

import threading
from array import array
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median

import orjson

from lifechart.core.errors import GateRefused
from lifechart.ledger.log import Entry, Log
from lifechart.release.shadow.queue import ADJUDICATION, LABEL, Disagreement, Verdict, disagrees

_KINDS = ("answer", "fault", LABEL, ADJUDICATION)
_SECONDS_A_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Standing:
    """How a model's shadow stands."""

    since: datetime | None
    """When the first answer was kept from sight."""
    days: float
    """From then until the last one."""
    answers: int
    patients: int
    faults: int
    """Questions that could not be answered."""
    uptime: float
    """Answers over answers and faults."""
    alerts_per_100: float
    """Outcomes that were told at `ALERT` or more within a year, for 100 answers."""
    sealed: int
    """Boxes: an answer's claims at one horizon each."""
    labelled: int
    lag_days: float
    """Median days from when a box was due until its label was stated."""
    observed: int
    """Claims that came true."""
    expected: float
    """As many as their probabilities come to."""
    queue: tuple[Disagreement, ...]
    """Claims that came out otherwise, oldest first."""

    @property
    def adjudicated(self) -> float:
        """Share of the disagreements that somebody has looked at; 1 where there are none."""
        return sum(each.verdict is not None for each in self.queue) / len(self.queue) if self.queue else 1.0


@dataclass(slots=True)
class _Counts:
    """What has been read of one model."""

    first: str = ""
    last: str = ""
    answers: int = 0
    faults: int = 0
    alerts: int = 0
    sealed: int = 0
    patients: set[bytes] = field(default_factory=set)
    """First 8 bytes of each keyed hash: for counting, a collision in 2^32 does not matter."""
    lags: array[float] = field(default_factory=lambda: array("d"))
    observed: int = 0
    expected: float = 0.0
    queue: dict[tuple[str, str, int], Disagreement] = field(default_factory=dict)


class Course:
    """The shadow periods of every model of one log, kept up with it. Safe for threads."""

    def __init__(self, log: Log) -> None:
        self._log, self._read = log, dict.fromkeys(_KINDS, 0)
        self._models: dict[str, _Counts] = {}
        self._lock = threading.Lock()

    def of(self, model: str) -> Standing:
        """Return how a model's shadow stands; it costs the reading of what is new in the log."""
        with self._lock:
            self._follow()
            return _standing(self._models.get(model, _Counts()))

    def _follow(self) -> None:
        self._log.refresh()
        for kind in _KINDS:
            numbers = self._log.numbers(kind=kind)
            fresh = numbers[self._read[kind] :].tolist()
            self._read[kind] = len(numbers)
            for entry in self._log.read(fresh):
                self._take(kind, entry)

    def _take(self, kind: str, entry: Entry) -> None:
        if kind == "answer" and b'"sealed":' not in entry.payload:
            return
        content = orjson.loads(entry.payload)
        said, subjects = content["predicate"], content["subject"]
        counts = self._models.setdefault(said["model"], _Counts())
        if kind == "answer":
            counts.first, counts.last = counts.first or said["created"], said["created"]
            counts.answers += 1
            counts.alerts += said["alerts"]
            counts.sealed += len(said["sealed"])
            counts.patients.add(bytes.fromhex(said["patient"][:16]))
        elif kind == "fault":
            counts.faults += 1
        elif kind == LABEL:
            self._label(counts, entry.index, said, subjects[0]["digest"]["sha256"])
        else:
            key = subjects[0]["digest"]["sha256"], said["outcome"], said["horizon_days"]
            before = counts.queue[key]
            counts.queue[key] = Disagreement(
                before.answer, before.outcome, before.horizon_days, before.probability, before.happened, before.entry,
                Verdict(said["verdict"]),
            )  # fmt: skip

    def _label(self, counts: _Counts, index: int, said: dict[str, object], answer: str) -> None:
        claims, days = said["claims"], said["horizon_days"]
        assert isinstance(claims, list)
        assert isinstance(days, int)
        counts.lags.append(float(str(said["lag_days"])))
        for claim in claims:
            counts.observed += claim["happened"]
            counts.expected += claim["probability"]
            if disagrees(claim):
                counts.queue[answer, claim["outcome"], days] = Disagreement(
                    answer, claim["outcome"], days, claim["probability"], claim["happened"], index
                )


def _standing(counts: _Counts) -> Standing:
    since, last = (datetime.fromisoformat(each) if each else None for each in (counts.first, counts.last))
    asked = counts.answers + counts.faults
    return Standing(
        since=since,
        days=(last - since).total_seconds() / _SECONDS_A_DAY if since and last else 0.0,
        answers=counts.answers,
        patients=len(counts.patients),
        faults=counts.faults,
        uptime=counts.answers / asked if asked else 0.0,
        alerts_per_100=100 * counts.alerts / counts.answers if counts.answers else 0.0,
        sealed=counts.sealed,
        labelled=len(counts.lags),
        lag_days=median(counts.lags) if counts.lags else 0.0,
        observed=counts.observed,
        expected=counts.expected,
        queue=tuple(counts.queue.values()),
    )


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a shadow period has to have shown."""

    days: float
    answers: int
    uptime: float
    labelled: int
    adjudicated: float
    alerts_per_100: float
    """At most."""
    lag_days: float
    """At most, in the median."""


def require(found: Standing, wanted: Wanted) -> None:
    """Raise GateRefused that names everything which a shadow period has not shown yet."""
    least = (
        ("days with answers", found.days, wanted.days),
        ("answers", found.answers, wanted.answers),
        ("uptime", found.uptime, wanted.uptime),
        ("labels that matured", found.labelled, wanted.labelled),
        ("share of disagreements adjudicated", found.adjudicated, wanted.adjudicated),
    )
    most = (
        ("alerts per 100 answers", found.alerts_per_100, wanted.alerts_per_100),
        ("median days until a label was known", found.lag_days, wanted.lag_days),
    )
    short = [f"{name} {value:.4g}, wanted at least {limit:g}" for name, value, limit in least if value < limit]
    short += [f"{name} {value:.4g}, wanted at most {limit:g}" for name, value, limit in most if value > limit]
    if short:
        raise GateRefused(f"shadow: {'; '.join(short)}")
