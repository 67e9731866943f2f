"""One VCF: its header, its lines, and the genotypes on them. A line is checked as far as it is read, and no further."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from lifechart.data.sources.vcf_annotations import Layout, layout

_FIXED = 8
_BASES = re.compile(r"[ACGTNacgtn]+")
_BUILDS = (("GRCh38", ("grch38", "hg38", "b38")), ("GRCh37", ("grch37", "hg19", "b37", "hs37d5")))
_CHROMOSOMES = {"23": "X", "24": "Y", "M": "MT", "25": "MT", "26": "MT"}


class Unusable(Exception):
    """A line cannot be used; its message is one of a few fixed reasons and holds nothing of the line."""


@dataclass(slots=True)
class Header:
    """What a VCF says of itself before its first line."""

    samples: list[str] = field(default_factory=list)
    build: str = ""
    """GRCh37 or GRCh38; empty where nothing says."""
    annotation: Layout | None = None
    whole: bool = False
    """Whether the line of column names was met."""

    def take(self, line: str) -> None:
        """Read one line that begins with `#`."""
        if line.startswith("##"):
            self.annotation = self.annotation or layout(line)
            if not self.build and line.startswith(("##reference", "##contig", "##assembly")):
                lower = line.lower()
                self.build = next((name for name, words in _BUILDS if any(word in lower for word in words)), "")
        elif line.startswith("#CHROM\t"):
            self.samples = line.rstrip("\r\n").split("\t")[_FIXED + 1 :]
            self.whole = True


@dataclass(slots=True)
class Site:
    """One line: what stands before the genotypes, which are split only when asked for."""

    chromosome: str
    position: int
    ref: str
    alts: list[str]
    quality: float | None
    passed: bool
    info: str
    _format: str
    _rest: str

    def annotation(self, key: str) -> str | None:
        """Return what stands in INFO under `key`."""
        start = 0 if self.info.startswith(f"{key}=") else self.info.find(f";{key}=") + 1
        if start == 0 and not self.info.startswith(f"{key}="):
            return None
        return self.info[start + len(key) + 1 :].partition(";")[0]

    def calls(self) -> list[Call]:
        """Return each sample's call; raises Unusable."""
        keys = self._format.split(":")
        if not keys or keys[0] != "GT":
            raise Unusable("no genotypes")
        depth = keys.index("DP") if "DP" in keys else None
        quality = keys.index("GQ") if "GQ" in keys else None
        return [self._call(cell, depth, quality) for cell in self._rest.split("\t")]

    def _call(self, cell: str, depth: int | None, quality: int | None) -> Call:
        parts = cell.split(":")
        alleles: list[int | None] = []
        for allele in re.split(r"[/|]", parts[0]):
            if allele == ".":
                alleles.append(None)
            elif allele.isdecimal() and allele.isascii() and int(allele[:6]) <= len(self.alts):
                alleles.append(int(allele))
            else:
                raise Unusable("genotype not valid")
        return Call(tuple(alleles), _number(parts, depth), _number(parts, quality))


@dataclass(frozen=True, slots=True)
class Call:
    """One sample's genotype: alleles by number, None where not called; depth and quality where they are stated."""

    alleles: tuple[int | None, ...]
    depth: float | None = None
    quality: float | None = None

    def zygosity(self, allele: int) -> str | None:
        """Return how a sample carries an allele, or None if it does not."""
        copies = self.alleles.count(allele)
        if not copies:
            return None
        if len(self.alleles) == 1:
            return "hemizygous"
        if None in self.alleles:
            return "uncertain"
        return "homozygous" if copies == len(self.alleles) else "heterozygous"

    def dosage(self, allele: int) -> int | None:
        """Return how many copies of an allele there are; None if any was not called."""
        return None if None in self.alleles else self.alleles.count(allele)


def site(line: str, num_samples: int) -> Site:
    """Return a line's site; raises Unusable."""
    tabs = _FIXED - 1 + (num_samples + 1 if num_samples else 0)
    if line.count("\t") != tabs:
        raise Unusable("malformed")
    chromosome, position, _, ref, alt, quality, filters, info, *genotypes = line.split("\t", _FIXED + 1)
    if not (position.isascii() and position.isdecimal() and len(position) < 12 and _BASES.fullmatch(ref)):
        raise Unusable("malformed")
    try:
        stated = None if quality == "." else float(quality)
    except ValueError:
        raise Unusable("malformed") from None
    return Site(
        chromosome=chromosome_of(chromosome),
        position=int(position),
        ref=ref.upper(),
        alts=[] if alt == "." else alt.upper().split(","),
        quality=stated,
        passed=filters in ("PASS", "."),
        info=info,
        _format=genotypes[0] if genotypes else "",
        _rest=genotypes[1] if len(genotypes) > 1 else "",
    )


def chromosome_of(name: str) -> str:
    """Return a chromosome's name without `chr`, the sex chromosomes and the mitochondrial one in letters.

    >>> chromosome_of("chr17"), chromosome_of("23"), chromosome_of("chrM")
    ('17', 'X', 'MT')
    """
    bare = name[3:] if name[:3].lower() == "chr" else name
    return _CHROMOSOMES.get(bare.upper(), bare.upper())


def _number(parts: list[str], at: int | None) -> float | None:
    if at is None or at >= len(parts) or parts[at] == ".":
        return None
    try:
        return float(parts[at])
    except ValueError:
        raise Unusable("genotype not valid") from None
