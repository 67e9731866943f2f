"""Who the simulated people are on paper: names, addresses, numbers. Each follows from the seed and the life alone."""

from __future__ import annotations

import tomllib
import unicodedata
import zlib
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import polars as pl

_GOLDEN = 0x9E3779B97F4A7C15
_MRN_STRIDE, _SSN_STRIDE, _LICENCE_STRIDE = 7_368_787, 15_485_863, 49_979_687
"""Primes that divide none of the ranges below, so that a multiple of one never repeats within its range."""
_MRN_RANGE, _LICENCE_RANGE = 10_000_000, 100_000_000
_SSN_GROUPS, _SSN_SERIALS = 49, 9_999
_ADULT_DAYS, _ELDERLY_DAYS = 6_575, 21_915
_SSN_RANGE = 101 * _SSN_GROUPS * _SSN_SERIALS

_DRAWN = (
    *("given", "middle", "family", "maiden", "suffix", "town", "zip", "street", "phone", "mail"),
    *("contact", "relative", "relative-phone", "gp", "clinic"),
)

RELATIVES = {
    "parent": (("mother", "female"), ("father", "male")),
    "partner": (("wife", "female"), ("husband", "male")),
    "child": (("daughter", "female"), ("son", "male")),
}
"""Role to the words for it, and the sex that each word means."""


@dataclass(frozen=True, slots=True)
class Clinician:
    """Someone who sees patients; their names are in notes, so they are gold spans too."""

    number: int
    given: str
    family: str
    specialty: str
    title: str
    taxonomy: str
    npi: str

    @property
    def name(self) -> str:
        """The name as a note has it."""
        return f"{self.given} {self.family}"


@cache
def table(name: str) -> dict[str, Any]:
    """Return `tables/NAME.toml`."""
    return tomllib.loads((files("lifechart.simulate") / "tables" / f"{name}.toml").read_text(encoding="utf-8"))


def scramble(seed: int, numbers: np.ndarray, purpose: str) -> np.ndarray:
    """Return 64 well-mixed bits for each number (splitmix64): distinct for distinct numbers, independent by purpose."""
    with np.errstate(over="ignore"):
        start = np.uint64((seed * 0xD1342543DE82EF95 + zlib.crc32(purpose.encode())) & 0xFFFFFFFFFFFFFFFF)
        bits = (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(_GOLDEN) + _mixed(np.array([start]))
        return _mixed(bits)


def _mixed(bits: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed: np.ndarray = bits ^ (bits >> np.uint64(31))
        return mixed


def uniform(seed: int, numbers: np.ndarray, purpose: str) -> np.ndarray:
    """Return a number in [0, 1) for each of `numbers`."""
    return (scramble(seed, numbers, purpose) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def hex_ids(seed: int, numbers: np.ndarray, purpose: str) -> list[str]:
    """Return a distinct 16-digit hexadecimal resource id for each number."""
    text = scramble(seed, numbers, purpose).astype(">u8").tobytes().hex()
    return [text[start : start + 16] for start in range(0, len(text), 16)]


def identities(people: pl.DataFrame, seed: int, today: date) -> list[dict[str, Any]]:
    """Return one identity per row of `people` (columns life, sex, ancestry, birth), in the same order.

    Record numbers, social security numbers (from ranges that are never issued: area 666, and areas from 900 with a
    group below 50) and licence numbers are distinct between lives. Telephone numbers are of the 555-01xx range.
    """
    lives = people.get_column("life").to_numpy()
    draw = {purpose: uniform(seed, lives, purpose).tolist() for purpose in _DRAWN}
    rows = people.select("life", "sex", "ancestry", "birth").iter_rows()
    return [
        _identity(seed, life, sex, ancestry, birth.date(), today, {key: values[row] for key, values in draw.items()})
        for row, (life, sex, ancestry, birth) in enumerate(rows)
    ]


def _identity(
    seed: int, life: int, sex: str, ancestry: str, born: date, today: date, draw: dict[str, float]
) -> dict[str, Any]:
    pool = _pool(ancestry, _again(draw["given"]))
    family = _pick(pool["family"], draw["family"])
    given = [_pick(pool[sex], draw["given"])]
    if draw["middle"] < 0.7:
        given.append(_pick(pool[sex], _again(draw["middle"])))
    age_days = (today - born).days
    suffixes = table("identity_names")["suffixes"].get(sex, [])
    relatives = {role: _relative(role, sex, pool, family, draw) for role in RELATIVES}
    role = "parent" if age_days < _ADULT_DAYS else "child" if age_days > _ELDERLY_DAYS else "partner"
    return {
        "life": life,
        "given": given,
        "family": family,
        "maiden": _pick(pool["family"], draw["maiden"] * 4) if _has_maiden(sex, age_days, draw["maiden"]) else "",
        "suffix": _pick(suffixes, draw["suffix"] / 0.04) if suffixes and draw["suffix"] < 0.04 else "",
        "relatives": relatives,
        "relation_word": relatives[role][0],
        "contact": relatives[role][1],
        "contact_phone": _phone(_town(draw["town"])["area"], draw["relative-phone"]),
        "gp": draw["gp"],
        "clinic": draw["clinic"],
        **_address(draw),
        **_numbers(seed, life, given[0], family, draw),
    }


def _relative(role: str, sex: str, pool: dict[str, Any], family: str, draw: dict[str, float]) -> tuple[str, str]:
    words = RELATIVES[role]
    word, relative_sex = words[sex == "female"] if role == "partner" else _pick(words, draw["contact"])
    # Relatives share the family name three times in four.
    shared = family if draw["contact"] % 0.1 < 0.075 else _pick(pool["family"], _again(draw["contact"]))
    # The role's length sets the three relatives' given names apart without another draw.
    return word, f"{_pick(pool[relative_sex], _again(draw['relative'] + len(role) / 10))} {shared}"


def _has_maiden(sex: str, age_days: int, draw: float) -> bool:
    return sex == "female" and age_days > _ADULT_DAYS and draw < 0.25


def _address(draw: dict[str, float]) -> dict[str, str]:
    places = table("identity_places")
    town = _town(draw["town"])
    streets = places["streets"]
    street = f"{_pick(streets['names'], draw['street'])} {_pick(streets['kinds'], _again(draw['street']))}"
    if draw["street"] % 0.1 < 0.005:
        street = _pick(streets["whole"], _again(draw["street"]))
    unit = _pick(streets["units"], _again(draw["zip"]) * 5) if _again(draw["zip"]) < 0.2 else ""
    return {
        "line": f"{int(1 + _again(draw['town']) ** 2 * 9_800)} {street}",
        "unit": unit,
        "city": town["city"],
        "state": town["state"],
        "zip": _pick(town["zips"], draw["zip"]),
        "phone": _phone(town["area"], draw["phone"]),
        "mobile": _phone(town["area"], _again(draw["phone"])),
    }


def _numbers(seed: int, life: int, given: str, family: str, draw: dict[str, float]) -> dict[str, str]:
    places = table("identity_places")
    local = _ascii(f"{given}.{family}") if draw["mail"] < 0.7 else _ascii(f"{given[0]}{family}{life % 97}")
    ssn = (life * _SSN_STRIDE + seed * 7_919) % _SSN_RANGE
    area, rest = divmod(ssn, _SSN_GROUPS * _SSN_SERIALS)
    group, serial = divmod(rest, _SSN_SERIALS)
    mrn = (life * _MRN_STRIDE + seed * 104_729) % _MRN_RANGE
    return {
        "mrn": f"{mrn:07d}",
        "ssn": f"{666 if area == 100 else 900 + area:03d}-{group + 1:02d}-{serial + 1:04d}",
        "licence": f"D{(life * _LICENCE_STRIDE + seed * 1_299_709) % _LICENCE_RANGE:08d}",
        "email": f"{local}@{_pick(places['mail_domains'], _again(draw['mail']))}",
        "url": f"https://portal.{places['domain']}/charts/{mrn:07d}",
    }


@cache
def clinicians(seed: int) -> tuple[Clinician, ...]:
    """Return the hospital's staff, grouped by specialty in the order of the table."""
    staff = [row for row in table("identity_places")["staff"] for _ in range(row["count"])]
    numbers = np.arange(len(staff))
    ancestries: dict[str, float] = {"european": 55, "hispanic": 15, "asian": 18, "african": 10, "other": 2}
    found = []
    for number, row in enumerate(staff):
        one = numbers[number : number + 1]
        which, first, last = (float(uniform(seed, one, f"staff {part}")[0]) for part in ("group", "given", "family"))
        pool = _pool(_weighted(ancestries, which), _again(which))
        given = _pick(pool["female" if _again(first) < 0.5 else "male"], first)
        # A real National Provider Identifier begins with 1 or 2, so one that begins with 9 is nobody's.
        npi = f"9{number:03d}{int(_again(last) * 1e6):06d}"
        found.append(
            Clinician(number, given, _pick(pool["family"], last), row["specialty"], row["title"], row["taxonomy"], npi)
        )
    return tuple(found)


def _pool(ancestry: str, draw: float) -> dict[str, Any]:
    names = table("identity_names")
    pool: dict[str, Any] = names["pools"][_weighted(names["ancestry"][ancestry], draw)]
    return pool


def _town(draw: float) -> dict[str, Any]:
    towns = table("identity_places")["towns"]
    town: dict[str, Any] = towns[int(_weighted({str(i): row["weight"] for i, row in enumerate(towns)}, draw))]
    return town


def _phone(areas: list[str], draw: float) -> str:
    return f"{_pick(areas, _again(draw))}-555-01{int(draw * 100):02d}"


def _pick(choices: Any, draw: float) -> Any:
    return choices[int(draw % 1.0 * len(choices))]


def _weighted(weights: dict[str, float], draw: float) -> str:
    left = draw * sum(weights.values())
    for name, weight in weights.items():
        left -= weight
        if left < 0:
            return name
    return name


def _again(draw: float) -> float:
    """Return another number in [0, 1) that looks unrelated to `draw`: its low digits brought up."""
    return draw * 9_973.0 % 1.0


_FOLD = str.maketrans("øØłŁßđĐþÞ", "oOlLsdDtT")


def _ascii(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text.translate(_FOLD)).encode("ascii", "ignore").decode()
    return "".join(character for character in plain.lower() if character.isalnum() or character == ".").strip(".")
