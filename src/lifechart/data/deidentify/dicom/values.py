"""Which values may stay: numbers that are numbers, words of the lexicon, codes that the standard knows, keyed UIDs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Any

from pydicom.datadict import dictionary_has_tag
from pydicom.multival import MultiValue
from pydicom.sr._concepts_dict import concepts
from pydicom.sr._snomed_dict import mapping
from pydicom.uid import UID

from lifechart.data.deidentify.dicom import tables
from lifechart.data.deidentify.dicom.subject import keyed_uid

TEXT_VRS = frozenset({"LO", "SH", "ST", "LT", "UT", "UC", "CS"})
LARGEST_WHOLE_NUMBER = 10_000_000
"""A whole number from here on may be a record's or a telephone's. It only stays where long ones belong (`large`: doses
in becquerel, say), and there rounded to _FIGURES significant figures."""
_FIGURES = 4

_DECIMAL = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?")
_WHOLE = re.compile(r"[+-]?\d{1,12}")
_TOKEN = re.compile(r"[A-Za-z0-9]+")
_MILLIMETRES = re.compile(r"\d{1,2}(?:MM|CM)", re.IGNORECASE)
_KERNEL = re.compile(r"[A-Z][a-z]?\d{2,3}[a-z]?(?:\\\d)?|[A-Z]{1,2}\d{2}")
_TERM = re.compile(r"[A-Z0-9 _]*")
_SHORT_TERM = re.compile(r"\d{0,2}|[aprlhf]{1,3}")
"""Numbers of one or two digits, and directions of the body (PatientOrientation)."""
_COUNTER = re.compile(r"\d{1,4}")
_LONGEST_UID = 64


def number(vr: str, value: Any, *, large: bool = False) -> Any:
    """Return a numeric value (or list of them) as it may stay, or None: DS and IS as strings written anew."""
    found = [_one_number(vr, item, large) for item in _items(value)]
    if not found or any(item is None for item in found):
        return None
    return found if len(found) > 1 else found[0]


def _one_number(vr: str, item: Any, large: bool) -> Any:
    if vr == "AT":
        tag = int(item)
        return tag if not (tag >> 16) & 1 and dictionary_has_tag(tag) else None
    if vr in ("DS", "IS"):
        written = str(getattr(item, "original_string", item)).strip(" \0")
        if not (_WHOLE if vr == "IS" else _DECIMAL).fullmatch(written) or len(written) > 16:
            return None
        if not _long(float(written)):
            return written
        return f"{_rounded(float(written)):.0f}"[:16] if large else None
    if isinstance(item, bool) or not isinstance(item, int | float):
        return None
    if not _long(float(item)):
        return item
    return type(item)(_rounded(float(item))) if large else None


def _long(value: float) -> bool:
    return abs(value) >= LARGEST_WHOLE_NUMBER and value == int(value) if abs(value) < 1e18 else False


def _rounded(value: float) -> float:
    return float(f"{value:.{_FIGURES - 1}e}")


def words(value: Any, names: frozenset[str]) -> str | None:
    """Return what is left of a description when only words of the lexicon stay; None if nothing is.

    `names`: words, in lower case, of the people whom the same file names: they go even if the lexicon has them.
    """
    lexicon = tables.lexicon()
    kept: list[str] = []
    for item in _items(value):
        for token in _TOKEN.findall(str(item)):
            low = token.lower()
            known = low in lexicon and not token.isdigit()
            if low not in names and (known or _MILLIMETRES.fullmatch(token)):
                kept.append(token)
    return " ".join(kept)[:64].strip() or None


def terms(value: Any) -> list[str] | None:
    """Return the coded strings (CS) of which every word is in the lexicon or is a number of at most two digits.

    A string that does not pass stays as an empty one, so that the others keep their places; None if none passes. Names
    are not looked at: a phantom called `CT` has a modality all the same.
    """
    lexicon = tables.lexicon()

    def passes(term: str) -> bool:
        if len(term) > 16 or not _TERM.fullmatch(term):
            return False
        return all(part in lexicon or _SHORT_TERM.fullmatch(part) for part in re.split(r"[ _]+", term.lower()))

    found = [str(item).strip(" \0") for item in _items(value)]
    kept = [term if passes(term) else "" for term in found]
    return kept if any(kept) else None


def short(value: Any, rule: str) -> str | None:
    """Return a reconstruction kernel's name or a counter, if it looks like one; a kernel may also be a word."""
    written = "\\".join(str(item).strip(" \0") for item in _items(value))
    if rule == "kernel" and written.lower() in tables.lexicon() and not written.isdigit():
        return written
    return written if (_KERNEL if rule == "kernel" else _COUNTER).fullmatch(written) else None


def uids(value: Any, key: bytes) -> list[str] | None:
    """Return the keyed UIDs of one or more UIDs; None if there is none. Whatever is not a UID is keyed all the same."""
    found = [str(item).strip(" \0") for item in _items(value)]
    keyed = [keyed_uid(key, item) for item in found if item]
    return keyed or None


def is_uid(value: str) -> bool:
    """Return whether a string is a well-formed UID of at most 64 characters."""
    return 0 < len(value) <= _LONGEST_UID and UID(value).is_valid


@cache
def _known_codes() -> dict[tuple[str, str], str]:
    found: dict[tuple[str, str], str] = {}
    for scheme, by_keyword in concepts.items():
        for codes in by_keyword.values():
            for code, (meaning, _) in codes.items():  # type: ignore[attr-defined]
                # The shortest of several names is the one that people use.
                found[scheme, code] = min(found.get((scheme, code), meaning), meaning, key=len)
    return found


def coded(scheme: str, code: str) -> tuple[str, str, str] | None:
    """Return (scheme, code, meaning) of a code in the standard's own context groups (PS3.16), or None.

    The meaning is the standard's: what the file says it means is free text. SNOMED RT codes become SNOMED CT ones.
    """
    if scheme in ("SRT", "SNM3", "99SDM") and code in mapping["SRT"]:
        scheme, code = "SCT", mapping["SRT"][code]
    meaning = _known_codes().get((scheme, code))
    return None if meaning is None else (scheme, code, meaning[:64])


def _items(value: Any) -> Iterable[Any]:
    if value is None or value == "":
        return []
    return value if isinstance(value, MultiValue | list | tuple) else [value]
