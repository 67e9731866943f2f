"""What a variant does to which gene, as VEP (`CSQ`) or SnpEff (`ANN`) wrote it into a VCF: the worst a gene."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources

_FORMAT = re.compile(r'Format: ?([^">]+)')
_SNPEFF = ("Allele", "Consequence", "IMPACT", "SYMBOL")
_GENE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,29}")


@dataclass(frozen=True, slots=True)
class Effect:
    """What one allele does to one gene."""

    gene: str
    consequence: str
    """A term of consequences.csv."""
    impact: str


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the parts of an annotation stand."""

    key: str
    """CSQ or ANN."""
    allele: int
    consequence: int
    impact: int
    gene: int
    number: int | None = None
    """ALLELE_NUM, where VEP was asked for it."""

    def effects(self, annotation: str, ref: str, alts: list[str]) -> dict[int, dict[str, Effect]]:
        """Return {number of the alternate allele: {gene: its worst effect}}.

        Entries that name no gene, no listed consequence or no allele of this line are left out.
        """
        named = _named_alleles(ref, alts)
        found: dict[int, dict[str, Effect]] = {}
        for entry in annotation.split(","):
            parts = entry.split("|")
            if len(parts) <= max(self.allele, self.consequence, self.impact, self.gene):
                continue
            term = worst(parts[self.consequence])
            gene = parts[self.gene]
            if term is None or not _GENE.fullmatch(gene):
                continue
            number = self._number(parts, named, len(alts))
            if number is None:
                continue
            known = found.setdefault(number, {})
            if gene not in known or ranks()[term][0] < ranks()[known[gene].consequence][0]:
                known[gene] = Effect(gene, term, ranks()[term][1])
        return found

    def _number(self, parts: list[str], named: dict[str, int], num_alts: int) -> int | None:
        if self.number is not None and len(parts) > self.number and parts[self.number].isdigit():
            number = int(parts[self.number])
            return number if 1 <= number <= num_alts else None
        return named.get(parts[self.allele], 1 if num_alts == 1 else None)


def layout(header_line: str) -> Layout | None:
    """Return where the parts stand, of an `##INFO` line that describes CSQ or ANN; else None."""
    if header_line.startswith("##INFO=<ID=ANN,"):
        return Layout("ANN", 0, 1, 2, 3)
    if not header_line.startswith("##INFO=<ID=CSQ,"):
        return None
    stated = _FORMAT.search(header_line)
    names = [name.strip() for name in stated[1].split("|")] if stated else []
    if not set(_SNPEFF) <= set(names):
        return None
    places = [names.index(name) for name in _SNPEFF]
    number = names.index("ALLELE_NUM") if "ALLELE_NUM" in names else None
    return Layout("CSQ", places[0], places[1], places[2], places[3], number)


@cache
def ranks() -> dict[str, tuple[int, str]]:
    """Return consequence -> (rank, 1 the worst; impact)."""
    content = resources.files("lifechart.data.sources").joinpath("consequences.csv").read_text(encoding="utf-8")
    return {row["term"]: (int(row["rank"]), row["impact"]) for row in csv.DictReader(content.splitlines())}


def worst(terms: str) -> str | None:
    """Return the worst of several consequences (`a&b`) that is listed.

    >>> worst("intron_variant&splice_donor_variant")
    'splice_donor_variant'
    """
    listed = [term for term in terms.split("&") if term in ranks()]
    return min(listed, key=lambda term: ranks()[term][0], default=None)


def _named_alleles(ref: str, alts: list[str]) -> dict[str, int]:
    """Return {an allele as annotators write it: its number}: whole, or as VEP does without a first base all share."""
    named = {alt: number for number, alt in reversed(list(enumerate(alts, start=1)))}
    plain = [allele for allele in (ref, *alts) if allele.isalpha()]
    if len({len(allele) for allele in plain}) > 1 and len({allele[:1] for allele in plain}) == 1:
        for number, alt in reversed(list(enumerate(alts, start=1))):
            if alt.isalpha():
                named[alt[1:] or "-"] = number
    return named
