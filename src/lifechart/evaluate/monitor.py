"""Follows an institution week by week, raises alarms, and says in words what shifted.

`Monitor(reference weeks)` then `observe(week)`. All streams share one rate of false alarms, first divided evenly among
the kinds of signal, apart for the whole and for subgroups, then among a kind's streams: hundreds of codes do not drown
one calibration.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from lifechart.evaluate.shift import Baseline, Detectors, Floats, calibrated_run_length, onset
from lifechart.evaluate.signals import ALL, KINDS, Batch, Key, Measure, Reference
from lifechart.release.monitoring import Alarm

_ARCSINE = ("demographic format", "result format", "wording", "unseen code", "code")
_MEMORY = 26
"""Weeks that an alarm looks back for its onset."""
_PRESENT, _LATE_PRESENT = 0.9, 0.5
"""Share of the reference weeks that a stream must be there in to be followed; less where labels come late."""
_LATE = ("calibration", "discrimination")
_NEWEST = 3
"""Codes never seen before that a message names at most."""


class Monitor:
    """Detectors over all streams of one institution."""

    def __init__(
        self,
        reference: Sequence[Batch],
        *,
        false_alarms_per_year: float,
        min_people: int = 11,
        names: Mapping[str, str] | None = None,
    ) -> None:
        """Learn the reference weeks. `min_people`: smaller cells are not followed. `names`: {code: what it is called}.

        Raises InputError for a reference of fewer than 8 weeks.
        """
        self._usual, self._names, self._min_people = Reference(reference, min_people), names or {}, min_people
        measured = [self._usual.measure(batch) for batch in reference]
        self.keys = _followed(measured, min_people)
        values, counts, self._shown = _matrix(measured, self.keys)
        self._baseline = Baseline.of(values, counts, np.array([_floor(key) for key in self.keys]))
        alike = Counter((key.kind, key.where == ALL) for key in self.keys)
        weights = np.array([1 / alike[key.kind, key.where == ALL] for key in self.keys])
        self._detectors = Detectors(weights, calibrated_run_length(false_alarms_per_year))
        self._recent: deque[tuple[str, Floats, Floats, Floats]] = deque(maxlen=_MEMORY)
        self._new_codes: deque[Counter[str]] = deque(maxlen=_MEMORY)

    def observe(self, batch: Batch) -> list[Alarm]:
        """Take one week in; return its alarms, the gravest kind first."""
        values, counts, shown = (row[0] for row in _matrix([self._usual.measure(batch)], self.keys))
        z = self._baseline.standardised(values, counts)
        self._recent.append((batch.name, z, counts, shown))
        self._new_codes.append(self._unseen(batch.events))
        found = self._detectors.update(z, self._baseline.tolerance(counts), counts > 0)
        order = list(KINDS)
        return sorted((self._alarm(int(k)) for k in found), key=lambda alarm: (order.index(alarm.kind), alarm.what))

    def _alarm(self, k: int) -> Alarm:
        key = self.keys[k]
        weeks = [(name, z[k], counts[k], shown[k]) for name, z, counts, shown in self._recent if counts[k] > 0]
        since = weeks[onset([z for _, z, _, _ in weeks]) :]
        sizes = [size for _, _, size, _ in since]
        before, after = float(self._shown[k]), float(np.average([w[3] for w in since], weights=sizes))
        if key.kind in _ARCSINE:
            # A share of a handful of people is not told more exactly than that it is one.
            after = after if after == 0 else max(after, self._min_people / sum(sizes))
        return Alarm(
            week=self._recent[-1][0],
            since=since[0][0],
            kind=key.kind,
            what=key.what,
            where=key.where,
            before=before,
            after=after,
            said=self._said(key, before, after),
        )

    def _said(self, key: Key, before: float, after: float) -> str:
        name = self._named(key.what)
        place = "" if key.where == ALL else f" ({key.where})"
        if key.kind == "value":
            return f"{name}{place}: median from {before:.4g} to {after:.4g}{_times(before, after)}"
        if key.kind in ("calibration", "risk", "discrimination", "novelty", "embedding") or key.what == "age":
            return f"{KINDS[key.kind] if key.what != 'age' else 'mean age'} {name}{place}: {before:.3g} to {after:.3g}"
        if key.kind == "unseen code":
            newest = sum(self._new_codes, Counter()).most_common(_NEWEST)
            listed = [self._named(code) for code, people in newest if people >= self._min_people]
            return f"{KINDS[key.kind]}: {before:.1%} to {after:.1%}; {', '.join(listed) or 'many, each rare'}"
        return f"{KINDS[key.kind]}, {name}{place}: {before:.1%} to {after:.1%}"

    def _named(self, code: str) -> str:
        base, _, _ = code.partition("@")
        name = self._names.get(base)
        return f"{name} [{code}]" if name else code

    def _unseen(self, events: pl.DataFrame) -> Counter[str]:
        new = events.filter(~pl.col("code").is_in(self._usual.codes))
        return Counter(dict(new.group_by("code").agg(pl.col("subject_id").n_unique()).iter_rows()))


def cause(alarms: Sequence[Alarm]) -> str:
    """Say what most likely lies behind alarms that belong together; nothing for none.

    What upstream systems do comes first: a feed that sends sex in other letters moves everything after it.
    """
    kinds: dict[str, list[Alarm]] = {}
    for alarm in alarms:
        kinds.setdefault(alarm.kind, []).append(alarm)
    for kind in ("demographic format", "result format", "wording"):
        if kind in kinds:
            return f"format change upstream: {', '.join(sorted({alarm.what for alarm in kinds[kind]}))}"
    jumps = [alarm for alarm in kinds.get("value", ()) if alarm.before and not 0.5 < alarm.after / alarm.before < 2]
    if jumps:
        return f"unit or format of results: {', '.join(sorted({alarm.what for alarm in jumps}))}"
    if "unseen code" in kinds:
        gone = sorted({alarm.what for alarm in kinds.get("code", ()) if alarm.after < alarm.before / 2})
        return f"coding change: {', '.join(gone)}" if gone else "new code"
    if "population" in kinds:
        return f"population: {', '.join(sorted({alarm.what for alarm in kinds['population']}))}"
    if "value" in kinds:
        places = sorted({f"{alarm.what} ({alarm.where})" for alarm in kinds["value"]})
        return f"assay: {', '.join(places)}"
    if "code" in kinds:
        return f"use of a code: {', '.join(sorted({alarm.what for alarm in kinds['code']}))}"
    if "calibration" in kinds or "discrimination" in kinds:
        return "the model no longer fits: outcomes came otherwise than forecast, on charts like before"
    return "the charts look different to the model" if kinds else ""


def _times(before: float, after: float) -> str:
    return f" (x {after / before:.3g})" if before else ""


def _floor(key: Key) -> float:
    if key.kind in _ARCSINE or (key.kind == "population" and key.what != "age"):
        return 0.5
    return 1.0 if key.kind == "calibration" else 1e-9


def _followed(measured: Sequence[Mapping[Key, Measure]], min_people: int) -> list[Key]:
    """Return the streams that are there in nearly all reference weeks, on enough people."""
    there = Counter(key for week in measured for key, measure in week.items() if measure.weight > 0)
    size: Counter[Key] = Counter()
    for week in measured:
        for key, measure in week.items():
            size[key] += measure.weight  # type: ignore[assignment]
    # Cases are few by nature: how forecasts held is followed from one case a week, expected or observed.
    least = dict.fromkeys(_LATE, 1)
    return sorted(
        key
        for key, weeks in there.items()
        if weeks >= (_LATE_PRESENT if key.kind in _LATE else _PRESENT) * len(measured)
        and size[key] >= least.get(key.kind, min_people) * weeks
    )


def _matrix(measured: Sequence[Mapping[Key, Measure]], keys: Sequence[Key]) -> tuple[Floats, Floats, Floats]:
    """Return values [R, K], counts [R, K] and shown: [K] over the weeks together, or [1, K] of a single week."""
    absent = Measure(0.0, 0.0, 0.0)
    cells = np.array([[week.get(key, absent) for key in keys] for week in measured], float).reshape(-1, len(keys), 3)
    values, counts, shown = cells[..., 0], cells[..., 1], cells[..., 2]
    if len(measured) == 1:
        return values, counts, shown
    return values, counts, (shown * counts).sum(0) / np.maximum(counts.sum(0), 1e-12)
