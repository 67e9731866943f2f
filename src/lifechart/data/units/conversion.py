"""By which factor and offset a value in one unit becomes a value in another, for what was measured.

UCUM is parsed by ucumvert and calculated by pint, once a pair of units; they are loaded when a pair is first met that
is not the same. On top of them stand the three things that units alone do not know: molar mass (mg/dL and mmol/L),
charge (meq/L and mmol/L) and equations between assays (HbA1c). And what units alone get wrong is refused: a molar
fraction is not a mass fraction though both are pure numbers, an equivalent is a mole only of what has one charge, an
INR is no hundredth of a per cent, and two different annotations (`{FEU}`, `{DDU}`) are two different things.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from lifechart.data.units.spellings import known, rows

ANNOTATION = re.compile(r"\{[^}]*\}")
_EQUIVALENT = re.compile(r"(?<![a-zA-Z])([munpk]?)eq(?![a-zA-Z])")
_ARBITRARY = re.compile(r"\[(?:HPF|LPF|CFU|PFU|pH)\]|osm")
"""Units that UCUM lets count as 1 or as a mole, and that yet are only comparable with themselves."""
_FLATTENED = re.compile(r"10(?:[2-9]|1[0-2])/")
"""10⁴/uL after a system that knows no raised digits: UCUM would read a hundred and four."""
_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Linear:
    """`value * factor + offset`. The factor is positive, so order is kept."""

    factor: float = 1.0
    offset: float = 0.0

    def __call__(self, value: float) -> float:
        """Return the converted value."""
        return value * self.factor + self.offset

    def inverse(self) -> Linear:
        """Return the conversion back."""
        return Linear(1 / self.factor, -self.offset / self.factor)

    def then(self, after: Linear) -> Linear:
        """Return this conversion followed by another."""
        return Linear(self.factor * after.factor, self.offset * after.factor + after.offset)


SAME = Linear()


@dataclass(frozen=True, slots=True)
class Analyte:
    """What must be known of a substance beside its units; None where it is not."""

    grams_per_mole: float | None = None
    charge: float | None = None


@cache
def analytes() -> dict[str, Analyte]:
    """Return analytes.csv by name."""

    def number(text: str) -> float | None:
        return float(text) if text else None

    return {
        row["analyte"]: Analyte(number(row["grams_per_mole"]), number(row["charge"])) for row in rows("analytes.csv")
    }


@cache
def equations() -> dict[str, list[tuple[str, str, Linear]]]:
    """Return equations.csv and the inverses: analyte -> (from, to, equation)."""
    found: dict[str, list[tuple[str, str, Linear]]] = {}
    for row in rows("equations.csv"):
        equation = Linear(float(row["factor"]), float(row["offset"]))
        both = (row["from"], row["to"], equation), (row["to"], row["from"], equation.inverse())
        found.setdefault(row["analyte"], []).extend(both)
    return found


@cache
def targets() -> frozenset[tuple[str, str, str]]:
    """Return the (unit, analyte, per) that factors.csv leads to: those of the canonical units, and every known unit."""
    stated = {(row["unit"], row["analyte"], row["per"]) for row in rows("canonical_units.csv")}
    return frozenset(stated | {(unit, "", "") for unit in known()})


@cache
def _factors() -> dict[tuple[str, str, str, str], Linear]:
    return {
        (row["from"], row["to"], row["analyte"], row["per"]): Linear(float(row["factor"]), float(row["offset"]))
        for row in rows("factors.csv")
    }


@cache
def between(written: str, wanted: str, analyte: str = "", per: str = "") -> Linear | None:
    """Return what makes a value in the UCUM unit `written` one in `wanted`, or None if nothing sound does.

    `analyte`, `per`: names in analytes.csv of what is measured, and of what it is measured against in a ratio.

    >>> round(between("mmol/L", "mg/dL", "glucose")(5.5), 1), between("mmol/L", "mg/dL")
    (99.1, None)
    >>> round(between("mmol/mol", "%", "hba1c")(48.0), 1)
    6.5
    """
    if written == wanted:
        return SAME
    if written in known() and (wanted, analyte, per) in targets():
        return _factors().get((written, wanted, analyte, per))
    return worked_out(written, wanted, analyte, per)


def worked_out(written: str, wanted: str, analyte: str = "", per: str = "") -> Linear | None:
    """Return what `between` does, from the units' own grammar: the slow way, which factors.csv was made by."""
    if written == wanted:
        return SAME
    for start, end, equation in equations().get(analyte, []):
        before, after = _plain(written, start), _plain(end, wanted)
        if before is not None and after is not None:
            return before.then(equation).then(after)
    return _plain(written, wanted) or _by_substance(written, wanted, analyte, per)


def _by_substance(written: str, wanted: str, analyte: str, per: str) -> Linear | None:
    """Convert between mass, amount and charge, of the analyte or of what it is measured against."""
    if set(_ARBITRARY.findall(written)) != set(_ARBITRARY.findall(wanted)):
        return None
    unit, charged = _without_equivalents(written, analytes().get(analyte))
    target, discharged = _without_equivalents(wanted, analytes().get(analyte))
    if unit is None or target is None:
        return None
    scale = charged / discharged
    for bridge in ("", *_bridges(analyte), *_bridges(per)):
        step = _plain(unit, target) if not bridge else _times(unit, bridge, target)
        if step is not None and step.offset == 0:
            return Linear(_rounded(step.factor * scale))
    return None


def _bridges(name: str) -> Iterator[str]:
    """Yield a substance's molar mass and its inverse, as UCUM units with a factor before them."""
    known = analytes().get(name)
    if known is not None and known.grams_per_mole is not None:
        yield f"{known.grams_per_mole} g/mol"
        yield f"{1 / known.grams_per_mole} mol/g"


def _without_equivalents(unit: str, of: Analyte | None) -> tuple[str | None, float]:
    """Return the unit in moles and what a value is multiplied by; (None, 1) for equivalents of an unknown charge."""
    if not _EQUIVALENT.search(unit):
        return unit, 1.0
    if of is None or of.charge is None:
        return None, 1.0
    return _EQUIVALENT.sub(r"\1mol", unit), 1.0 / of.charge


@cache
def _plain(written: str, wanted: str) -> Linear | None:
    """Convert by the units alone."""
    if written == wanted:
        return SAME
    if not _same_kind(written, wanted):
        return None
    quantity = _registry()
    start, end = _parsed(written), _parsed(wanted)
    if start is None or end is None or start.dimensionality != end.dimensionality:
        return None
    zero, one, hundred = (float(quantity.Quantity(value, start).to(end).magnitude) for value in (0.0, 1.0, 100.0))
    found = Linear(_rounded(one - zero), _rounded(zero))
    if not math.isclose(found(100.0), hundred, rel_tol=_TOLERANCE) or found.factor <= 0:
        return None  # a logarithmic unit: not a line
    return found


def _rounded(number: float) -> float:
    # What pint's own arithmetic leaves behind the twelfth digit; a factor of 1 must be 1.
    return float(f"{number:.12g}")


def _same_kind(written: str, wanted: str) -> bool:
    """Return whether two units speak of the same thing as far as their letters tell."""
    notes = set(ANNOTATION.findall(written)), set(ANNOTATION.findall(wanted))
    if notes[0] and notes[1] and notes[0] != notes[1]:
        return False
    bare = ANNOTATION.sub("", written), ANNOTATION.sub("", wanted)
    if not all(bare) and not set(bare) <= {"", "1"}:
        return False  # an INR is a pure number, but no hundredth of a per cent
    if set(_ARBITRARY.findall(bare[0])) != set(_ARBITRARY.findall(bare[1])):
        return False
    return bool(_EQUIVALENT.search(bare[0])) == bool(_EQUIVALENT.search(bare[1])) and _moles(bare[0]) == _moles(bare[1])


def _moles(unit: str) -> int:
    return unit.count("mol")


def _times(written: str, bridge: str, wanted: str) -> Linear | None:
    number, unit = bridge.split(" ")
    start, by, end = _parsed(written), _parsed(unit), _parsed(wanted)
    if start is None or by is None or end is None:
        return None
    if start.dimensionality == _parsed("Cel").dimensionality:
        return None  # a temperature holds no substance, and its degrees cannot be multiplied
    made = _registry().Quantity(float(number), start * by)
    if made.dimensionality != end.dimensionality:
        return None
    return Linear(float(made.to(end).magnitude))


@cache
def _registry() -> Any:
    from ucumvert import PintUcumRegistry

    return PintUcumRegistry()


@cache
def _parsed(unit: str) -> Any:
    """Return pint's unit for a UCUM one, or None if it is none (or one that pint cannot calculate with, as pH)."""
    if _FLATTENED.match(unit):
        return None
    try:
        # An annotation alone (`{score}`) is a pure number.
        found = _registry().from_ucum(unit if ANNOTATION.sub("", unit) else "1")
    except Exception:  # lark, pint and ucumvert each raise their own for what is not UCUM
        return None
    return found if hasattr(found, "dimensionality") else None
