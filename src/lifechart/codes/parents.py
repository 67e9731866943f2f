"""The parent of a code, for back-off when too few people hold it. Hierarchies that the code itself spells out."""

from __future__ import annotations

from lifechart.codes.systems import URIS, split

ANY = "*"
"""`SYSTEM//*` stands for any code of a system: the last parent of all."""

_STEPPED = ("VARIANT",)
"""Systems whose codes say what they belong to part by part: `VARIANT//GENE//consequence//zygosity`."""
_ATC_LENGTHS = (5, 4, 3, 1)


def parent(code: str) -> str | None:
    """Return the next wider code, or None at the top.

    A question's answer (`LOINC//72166-2//SNOMED//266919005`) widens to the question.
    ICD-10-CM loses its last character down to the three-character category; ATC steps up its levels; every other
    system has one parent, `SYSTEM//*`. Codes without a system (MEDS_BIRTH) have none.

    >>> parent("ICD10CM//E11.65")
    'ICD10CM//E11.6'
    >>> parent("ICD10CM//E11.6")
    'ICD10CM//E11'
    >>> parent("LOINC//72166-2//SNOMED//266919005")
    'LOINC//72166-2'
    >>> parent("VARIANT//BRCA1//frameshift_variant//heterozygous")
    'VARIANT//BRCA1//frameshift_variant'
    >>> parent("SNOMED//44054006")
    'SNOMED//*'
    """
    system, local = split(code)
    if not system or local == ANY:
        return None
    question, mark, _ = local.partition("//")
    if mark and system in _STEPPED:
        return f"{system}//{local.rpartition('//')[0]}"
    if mark and system in URIS:
        return f"{system}//{question}"
    if system in ("ICD10CM", "ICD10", "ICD9CM") and len(local) > 3:
        return f"{system}//{local[:-1].rstrip('.')}"
    if system == "ATC":
        for length in _ATC_LENGTHS:
            if len(local) > length:
                return f"{system}//{local[:length]}"
    return f"{system}//{ANY}"


def ancestors(code: str) -> list[str]:
    """Return the parents of `code`, nearest first.

    >>> ancestors("ICD10CM//E11.6")
    ['ICD10CM//E11', 'ICD10CM//*']
    """
    found = []
    step = parent(code)
    while step is not None:
        found.append(step)
        step = parent(step)
    return found
