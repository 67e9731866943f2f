"""Wider codes and names: for back-off where too few people hold a code, for a model's embeddings, for a reader.

Of each code the first that knows it is believed: the institution's own terminologies (`terminology`), what is embedded
(`embedded`: ICD-10-CM, HPO), the code's own form (ICD, ATC), and last that every system has one widest code,
`SYSTEM//*`.
"""

from __future__ import annotations

from functools import lru_cache

from lifechart.codes import embedded, terminology
from lifechart.codes.notation import split
from lifechart.codes.systems import URIS

ANY = "*"
"""`SYSTEM//*` stands for any code of a system: the last parent of all."""

_STEPPED = ("VARIANT",)
"""Systems whose codes say what they belong to part by part: `VARIANT//GENE//consequence//zygosity`."""
_ATC_LENGTHS = (5, 4, 3, 1)
_HELD = 262_144


def parent(code: str) -> str | None:
    """Return the next wider code, or None at the top; of several parents the first of `parents`.

    >>> parent("ICD10CM//E11.65"), parent("ICD10CM//E11"), parent("ICD10CM//E08-E13")
    ('ICD10CM//E11.6', 'ICD10CM//E08-E13', 'ICD10CM//E00-E89')
    >>> parent("LOINC//72166-2//SNOMED//266919005")
    'LOINC//72166-2'
    >>> parent("VARIANT//BRCA1//frameshift_variant//heterozygous")
    'VARIANT//BRCA1//frameshift_variant'
    >>> parent("SNOMED//44054006")
    'SNOMED//*'
    """
    found = parents(code)
    return found[0] if found else None


def parents(code: str) -> tuple[str, ...]:
    """Return every next wider code, the one that back-off climbs to first; none at the top.

    A question's answer (`LOINC//72166-2//SNOMED//266919005`) widens to the question; what became of a code
    (`ABATED//ICD10CM//E11.6`) to what became of the wider one. SNOMED CT, HPO and RxNorm have
    several parents; a drug's may be of ATC. Codes without a system (MEDS_BIRTH) have none.

    >>> parents("HPO//HP:0001250")
    ('HPO//HP:0012638',)
    """
    return _asked(code, terminology.installed()).parents


def ancestors(code: str) -> list[str]:
    """Return the way up by `parent`, nearest first.

    >>> ancestors("ATC//A10BA02")
    ['ATC//A10BA', 'ATC//A10B', 'ATC//A10', 'ATC//A', 'ATC//*']
    """
    found = []
    step = parent(code)
    while step is not None:
        found.append(step)
        step = parent(step)
    return found


def all_ancestors(code: str) -> list[str]:
    """Return every wider code by whatever way, the nearest first; of equally near ones in the order of `parents`."""
    found: dict[str, None] = {}
    level = [code]
    while level:
        level = [wider for each in level for wider in parents(each) if wider not in found]
        found |= dict.fromkeys(level)
    top = next((wider for wider in found if wider.count("//") == 1 and wider.endswith(f"//{ANY}")), None)
    return [wider for wider in found if wider != top] + ([top] if top else [])


def name(code: str) -> str | None:
    """Return a code's display name, if a terminology or a package knows it.

    >>> name("ICD10CM//E11.65")
    'Type 2 diabetes mellitus with hyperglycemia'
    """
    return _asked(code, terminology.installed()).name or _embedded_name(code)


def source(code: str) -> str:
    """Return who says what `parents` returns, in words."""
    return _asked(code, terminology.installed()).source


@lru_cache(maxsize=_HELD)
def _asked(code: str, own: terminology.Terminology | None) -> terminology.Known:
    system, local = split(code)
    if not system or local == ANY:
        return terminology.Known(None, None, (), "the top")
    any_ = f"{system}//{ANY}"
    question, mark, _ = local.partition("//")
    if mark and system in _STEPPED:
        return terminology.Known(None, None, (f"{system}//{local.rpartition('//')[0]}",), "the code's own form")
    if mark and system in URIS:
        return terminology.Known(None, None, (f"{system}//{question}",), "the question it answers")
    if mark and question in URIS:  # what became of a code: ABATED//, STOPPED//, FAMILY//, ALLERGY//
        inner = _asked(local, own)
        return inner._replace(name=None, parents=tuple(f"{system}//{wider}" for wider in inner.parents) or (any_,))
    known = own.known(code) if own is not None else None
    if known is not None:
        return known._replace(parents=known.parents or _upward(system, local) or (any_,))
    if system == "HPO" and (term := embedded.hpo_term(local)) is not None:
        title, above = term
        return terminology.Known(title, None, tuple(f"HPO//{wider}" for wider in above) or (any_,), _release("hpo3"))
    upward = _upward(system, local)
    if system == "ICD10CM" and local in embedded.upper():
        return terminology.Known(embedded.upper()[local][1], None, upward or (any_,), _release("simple-icd-10-cm"))
    return terminology.Known(None, None, upward or (any_,), "the code's own form" if upward else "its system alone")


def _upward(system: str, local: str) -> tuple[str, ...]:
    """Return the wider code that a code's own form or the table of ICD-10-CM names; none at the top."""
    wider = ""
    if system == "ICD10CM" and local in embedded.upper():
        wider = embedded.upper()[local][0]
    elif system in ("ICD10CM", "ICD10", "ICD9CM") and len(local) > 3 and not _is_block(local):
        # An ICD-9-CM external cause (E812.0) has a category of four characters.
        at_category = system == "ICD9CM" and local.startswith("E") and len(local) <= 4
        wider = "" if at_category else local[:-1].rstrip(".")
    elif system == "ATC":
        wider = next((local[:length] for length in _ATC_LENGTHS if len(local) > length), "")
    return (f"{system}//{wider}",) if wider else ()


def _is_block(local: str) -> bool:
    return "-" in local


def _embedded_name(code: str) -> str | None:
    system, local = split(code)
    if system == "ICD10CM" and local[:3] in embedded.upper():
        return embedded.icd10cm_name(local)
    return None


def _release(package: str) -> str:
    return embedded.release(package)
