"""Tasks in the ACES format: predicates, a trigger, windows around it, a label. Read here; `realise` carries them out.

ACES: Xu et al. 2024, https://eventstreamaces.readthedocs.io. What is read: plain predicates (`code` as a string, `any`
or `regex`; `value_min`, `value_max` and their `_inclusive`; `static`), derived ones (`and(...)`, `or(...)` of plain
ones), `_ANY_EVENT`, `_RECORD_START`, `_RECORD_END`; windows by offset, by next or last event, or open; `has`, `label`,
`index_timestamp`. What is not (`other_cols`, nesting, several labels) is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

from lifechart.core.errors import InputError
from lifechart.core.predicate import Predicate, Target
from lifechart.core.timeline import RECORD_END

ANY, START, END = "_ANY_EVENT", "_RECORD_START", "_RECORD_END"
_SPECIAL = (ANY, START, END)
_UNITS = {"d": 86400, "day": 86400, "h": 3600, "hour": 3600, "hr": 3600, "m": 60, "min": 60, "minute": 60, "s": 1,
          "sec": 1, "second": 1, "w": 604800, "week": 604800}  # fmt: skip
_REFERENCE = re.compile(r"^\s*([\w.]+)\s*(?:(\+|->|<-|-)\s*(.+?))?\s*$")
_DELTA = re.compile(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]+)")
_PLAIN = {"code", "value_min", "value_max", "value_min_inclusive", "value_max_inclusive", "static"}
_WINDOW = {"start", "end", "start_inclusive", "end_inclusive", "has", "label", "index_timestamp"}


@dataclass(frozen=True, slots=True)
class Both:
    """A derived predicate: every one of several at the same time."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Bound:
    """One end of a window: `base` (trigger, start, end, WINDOW.start, WINDOW.end), moved by `days` or to an event."""

    base: str
    days: float = 0.0
    event: str | None = None
    """The predicate of the next event (`forward`) or the last one."""
    forward: bool = True


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of a record; a bound of None is the record's own."""

    name: str
    start: Bound | None
    end: Bound | None
    start_inclusive: bool
    end_inclusive: bool
    has: Mapping[str, tuple[int | None, int | None]]


@dataclass(frozen=True, slots=True)
class AcesTask:
    """A task as its file defines it."""

    name: str
    predicates: Mapping[str, Target | Both]
    trigger: str
    windows: Mapping[str, Window]
    label_window: str
    label: str
    index: tuple[str, str]
    """Window and side (`start` or `end`) whose time is the moment of prediction."""

    def horizon(self) -> tuple[float, float] | None:
        """Return (first, last) day after the moment of prediction in which the label counts, if offsets alone say it."""
        window = self.windows[self.label_window]
        first, last = (self._days(window.name, side, 0) for side in ("start", "end"))
        index = self._days(*self.index, 0)
        if first is None or last is None or index is None:
            return None
        return first - index, last - index

    def target(self) -> Target | None:
        """Return the label as one target, if it can be told event by event and the future need satisfy nothing else."""
        ahead = self.horizon()
        label = self.predicates[self.label]
        if ahead is None or isinstance(label, Both) or ahead[0] < 0:
            return None
        window = self.windows[self.label_window]
        if window.has or not window.end_inclusive or (window.start_inclusive and ahead[0] > 0):
            return None
        others = [each for name, each in self.windows.items() if name != self.label_window and each.has]
        ends = [self._days(each.name, "end", 0) for each in others]
        index = self._days(*self.index, 0)
        if any(end is None or index is None or end > index for end in ends):
            return None
        return Target(self.name, label.any_of)

    def _days(self, window: str, side: str, depth: int) -> float | None:
        """Return the offset of a window's side from the trigger in days; None where an event or the record decides."""
        bound = getattr(self.windows[window], side)
        if depth > 2 * len(self.windows) + 2:
            raise InputError(f"{self.name}: windows", window, "bounds that do not refer to each other in a circle")
        if bound is None or bound.event is not None:
            return None
        if bound.base == "trigger":
            return float(bound.days)
        home, which = (window, bound.base) if bound.base in ("start", "end") else bound.base.split(".")
        base = self._days(home, which, depth + 1)
        return None if base is None else base + bound.days


def load_aces(path: Path) -> AcesTask:
    """Read an ACES task file; raises InputError that names the key, its value and what was expected."""
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise InputError("task", str(path), f"an ACES task file ({error})") from error
    if not isinstance(content, dict):
        raise InputError("task", str(path), "a mapping of predicates, trigger and windows")
    _known(path.name, content, {"predicates", "trigger", "windows", "description", "metadata"})
    plain = {name: _plain(name, each) for name, each in content.get("predicates", {}).items() if "expr" not in each}
    predicates: dict[str, Target | Both] = dict(plain)
    for name, each in content.get("predicates", {}).items():
        if "expr" in each:
            predicates[name] = _derived(name, each, plain)
    predicates |= {ANY: Target(ANY, (Predicate(),)), END: Target(END, (Predicate(codes=(RECORD_END,)),))}
    windows = {name: _window(name, each, predicates) for name, each in content.get("windows", {}).items()}
    labels = [(name, each["label"]) for name, each in content["windows"].items() if each.get("label")]
    if len(labels) != 1:
        raise InputError(f"{path.name}: label", [name for name, _ in labels], "exactly one window with a label")
    index = [
        (name, each["index_timestamp"]) for name, each in content["windows"].items() if each.get("index_timestamp")
    ]
    if len(index) != 1 or index[0][1] not in ("start", "end"):
        raise InputError(f"{path.name}: index_timestamp", index, "start or end, in exactly one window")
    trigger = str(content.get("trigger"))
    for key, name in (("trigger", trigger), ("label", labels[0][1])):
        if name not in predicates and name not in _SPECIAL:
            raise InputError(f"{path.name}: {key}", name, f"one of {sorted(predicates)}")
    task = AcesTask(path.stem, predicates, trigger, windows, labels[0][0], labels[0][1], index[0])
    task.horizon()
    return task


def _plain(name: str, each: Mapping[str, Any]) -> Target:
    _known(f"predicate {name}", each, _PLAIN)
    code = each.get("code")
    codes: tuple[str, ...] = ()
    pattern = None
    if isinstance(code, str):
        codes = (code,)
    elif isinstance(code, dict) and list(code) == ["any"]:
        codes = tuple(code["any"])
    elif isinstance(code, dict) and list(code) == ["regex"]:
        pattern = str(code["regex"])
    else:
        raise InputError(f"predicate {name}: code", code, "a code, {any: [codes]} or {regex: pattern}")
    low, high = each.get("value_min"), each.get("value_max")
    return Target(
        name,
        (
            Predicate(
                codes,
                pattern,
                float("-inf") if low is None else float(low),
                float("inf") if high is None else float(high),
                bool(each.get("value_min_inclusive", False)),
                bool(each.get("value_max_inclusive", False)),
            ),
        ),
    )


def _derived(name: str, each: Mapping[str, Any], plain: Mapping[str, Target]) -> Target | Both:
    _known(f"predicate {name}", each, {"expr"})
    found = re.fullmatch(r"\s*(and|or)\(([^()]*)\)\s*", str(each["expr"]))
    parts = [part.strip() for part in found.group(2).split(",")] if found else []
    if not found or any(part not in plain for part in parts):
        raise InputError(f"predicate {name}: expr", each["expr"], f"and(...) or or(...) of {sorted(plain)}")
    if found.group(1) == "and":
        return Both(tuple(parts))
    return Target(name, tuple(predicate for part in parts for predicate in plain[part].any_of))


def _window(name: str, each: Mapping[str, Any], predicates: Mapping[str, Target | Both]) -> Window:
    _known(f"window {name}", each, _WINDOW)
    has = {}
    for predicate, limits in (each.get("has") or {}).items():
        if predicate not in predicates:
            raise InputError(f"window {name}: has", predicate, f"one of {sorted(predicates)}")
        has[predicate] = _limits(f"window {name}: has {predicate}", limits)
    start, end = (_bound(f"window {name}: {side}", each.get(side), predicates) for side in ("start", "end"))
    return Window(name, start, end, bool(each.get("start_inclusive", True)), bool(each.get("end_inclusive", True)), has)


def _limits(key: str, limits: object) -> tuple[int | None, int | None]:
    parts = re.findall(r"None|null|\d+", limits) if isinstance(limits, str) else limits
    if not isinstance(parts, list) or len(parts) != 2:
        raise InputError(key, limits, "(least, most), either of which may be None")
    low, high = (None if part in (None, "None", "null") else int(part) for part in parts)
    return low, high


def _bound(key: str, text: str | None, predicates: Mapping[str, Target | Both]) -> Bound | None:
    if text is None:
        return None
    found = _REFERENCE.match(text)
    if not found:
        raise InputError(key, text, "a reference, alone or with + TIME, - TIME, -> PREDICATE or <- PREDICATE")
    base, sign, rest = found.groups()
    if sign is None:
        return Bound(base)
    if sign in ("->", "<-"):
        if rest not in predicates and rest not in _SPECIAL:
            raise InputError(key, rest, f"one of {sorted(predicates)}")
        return Bound(base, event=rest, forward=sign == "->")
    days = _delta(key, rest) / timedelta(days=1)
    return Bound(base, days if sign == "+" else -days)


def _delta(key: str, text: str) -> timedelta:
    parts = _DELTA.findall(text)
    names = [unit.lower().rstrip("s") if len(unit) > 1 else unit.lower() for _, unit in parts]
    if not parts or _DELTA.sub("", text).strip() or any(name not in _UNITS for name in names):
        raise InputError(key, text, "a time such as 30d, 24h or 365 days")
    return timedelta(seconds=sum(float(n) * _UNITS[unit] for (n, _), unit in zip(parts, names, strict=True)))


def _known(key: str, content: Mapping[str, Any], allowed: set[str]) -> None:
    if unknown := sorted(set(content) - allowed):
        raise InputError(key, unknown, f"only {sorted(allowed)}")
