"""How a code of each system is written: the one notation of it, and what speaks against a code as it stands.

`normal` changes notation only (`e1165` is E11.65), and only where it cannot mean anything else. `problems` says what is
wrong (a check digit, a length); a code with a problem is still kept as it was written.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from lifechart.codes.notation import split

_ICD10 = re.compile(r"[A-Z]\d[0-9A-Z](?:\.[0-9A-Z]{1,4})?")
_ICD9 = re.compile(r"(?:\d{3}|V\d{2})(?:\.\d{1,2})?|E\d{3}(?:\.\d)?|\d{2}(?:\.\d{1,2})?")
_PATTERNS = {
    "ICD10CM": _ICD10,
    "ICD10": _ICD10,
    "ICD9CM": _ICD9,
    "ICD10PCS": re.compile(r"[0-9A-HJ-NP-Z]{7}"),
    "ATC": re.compile(r"[A-Z](?:\d\d(?:[A-Z](?:[A-Z](?:\d\d)?)?)?)?"),
    "CPT": re.compile(r"\d{4}[0-9A-Z]"),
    "HPO": re.compile(r"HP:\d{7}"),
    "LOINC": re.compile(r"(?:\d{1,7}|L[AGLPG]\d+)-\d"),
    "NDC": re.compile(r"\d{11}"),
    "OMOP": re.compile(r"\d+"),
    "RxNorm": re.compile(r"\d{1,8}"),
    "SNOMED": re.compile(r"\d{6,18}"),
}
_UNDOTTED = re.compile(r"[A-Z]\d[0-9A-Z][0-9A-Z]{1,4}")
_NDC_PARTS = ((4, 4, 2), (5, 3, 2), (5, 4, 1), (5, 4, 2))
_NDC_WIDTHS = (5, 4, 2)

CHECK_DIGIT, NOT_A_CODE, AMBIGUOUS = "check digit", "not of the system's form", "10 digits without hyphens"


def normal(system: str, local: str) -> str:
    """Return a local code in its system's notation; unchanged where that is not certain.

    >>> normal("ICD10CM", "e1165"), normal("ICD9CM", "25000"), normal("ICD9CM", "E8120"), normal("HPO", "0001250")
    ('E11.65', '250.00', 'E812.0', 'HP:0001250')
    >>> normal("NDC", "0002-7597-01"), normal("NDC", "0002759701")
    ('00002759701', '0002759701')
    """
    plain = local.strip()
    if system in ("ICD10CM", "ICD10"):
        upper = plain.upper()
        return f"{upper[:3]}.{upper[3:]}" if _UNDOTTED.fullmatch(upper) else _if_of_form(_ICD10, upper, plain)
    if system == "ICD9CM":
        return _icd9(plain)
    if system == "NDC":
        return _ndc(plain)
    if system == "HPO":
        return f"HP:{plain[-7:]}" if re.fullmatch(r"(?i)(?:hp[:_])?\d{7}", plain) else plain
    if system in ("ATC", "ICD10PCS", "CPT", "LOINC"):
        return _if_of_form(_PATTERNS[system], plain.upper(), plain)
    return plain


def problems(code: str) -> tuple[str, ...]:
    """Return what speaks against `SYSTEM//CODE`: nothing for a sound code and for a system whose form is not known.

    >>> problems("LOINC//4548-4"), problems("LOINC//4548-3"), problems("SNOMED//44054006"), problems("SNOMED//44054007")
    ((), ('check digit',), (), ('check digit',))
    """
    system, local = split(code)
    pattern = _PATTERNS.get(system)
    if pattern is None or local == "*" or "//" in local:
        return ()
    if system == "NDC" and re.fullmatch(r"\d{10}", local):
        return (AMBIGUOUS,)
    if not pattern.fullmatch(local):
        return (NOT_A_CODE,) if not _is_group(system, local) else ()
    if system == "LOINC" and local[0].isdigit() and luhn(local[:-2]) != int(local[-1]):
        return (CHECK_DIGIT,)
    if system == "SNOMED" and not verhoeff(local):
        return (CHECK_DIGIT,)
    return ()


def unsound(codes: Iterable[str]) -> dict[str, int]:
    """Return how many of some codes have which problem: {"LOINC: check digit": 2}, sorted."""
    found = Counter(f"{split(code)[0]}: {problem}" for code in codes for problem in problems(code))
    return dict(sorted(found.items()))


def luhn(digits: str) -> int:
    """Return LOINC's check digit of a number: mod 10, every other digit from the right doubled (LOINC Users' Guide)."""
    doubled = [int(digit) * (2 if place % 2 == 0 else 1) for place, digit in enumerate(reversed(digits))]
    return -sum(number // 10 + number % 10 for number in doubled) % 10


def verhoeff(digits: str) -> bool:
    """Return whether a number that ends in its check digit passes Verhoeff's test in the dihedral group D5.

    SNOMED CT identifiers do (SNOMED CT Release File Specifications, 5.1.5).
    """
    check = 0
    for place, digit in enumerate(reversed(digits)):
        check = _compose(check, _permuted(place % 8, int(digit)))
    return check == 0


def _compose(a: int, b: int) -> int:
    """Multiply two of D5's ten elements: 0 to 4 turn, 5 to 9 turn and flip."""
    turn = a + b if a < 5 else a - b
    return turn % 5 + (5 if (a < 5) != (b < 5) else 0)


def _permuted(times: int, digit: int) -> int:
    for _ in range(times):
        digit = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)[digit]
    return digit


def _icd9(plain: str) -> str:
    upper = plain.upper()
    # Four digits alone may be a diagnosis (451.3) or a procedure (45.13).
    for pattern, whole in ((r"E\d{4}", 4), (r"V\d{3,4}|\d{5}", 3)):
        if re.fullmatch(pattern, upper):
            return f"{upper[:whole]}.{upper[whole:]}"
    return _if_of_form(_ICD9, upper, plain)


def _ndc(plain: str) -> str:
    parts = plain.split("-")
    if tuple(len(part) for part in parts) not in _NDC_PARTS or not all(part.isdigit() for part in parts):
        return plain
    return "".join(part.zfill(width) for part, width in zip(parts, _NDC_WIDTHS, strict=True))


def _if_of_form(pattern: re.Pattern[str], changed: str, plain: str) -> str:
    return changed if pattern.fullmatch(changed) else plain


def _is_group(system: str, local: str) -> bool:
    """Return whether a code stands for a chapter or block: `E08-E13`."""
    return system.startswith("ICD") and re.fullmatch(r"[A-Z0-9]{3,4}-[A-Z0-9]{3,4}", local) is not None
