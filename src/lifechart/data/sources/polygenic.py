"""Polygenic scores from scoring files of the PGS Catalog: a weight for each copy of an effect allele, added up.

Variants are found by position and alleles, on either strand; an A/T or C/G pair reads the same on both, so its strand
cannot be told and it is left out unless asked for. A variant that was not called, or not found, counts by the frequency
of its effect allele where the file gives that, and every score says which share of its variants was really seen. The
rules are those of the catalog's own calculator (Lambert et al. 2024, doi 10.1101/2024.05.29.24307783).
"""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lifechart.core.errors import InputError
from lifechart.data.sources.vcf_lines import Site, chromosome_of

SUFFIXES = (".txt", ".txt.gz", ".tsv", ".tsv.gz")
_ID = re.compile(r"PGS\d{6}")
_COMPLEMENT = str.maketrans("ACGT", "TGCA")
_BUILDS = {"hg19": "GRCh37", "NCBI37": "GRCh37", "hg38": "GRCh38"}
_UNREAD = ("is_interaction", "is_haplotype", "is_diplotype")
_ADDITIVE, _DOMINANT, _RECESSIVE = "additive", "dominant", "recessive"


@dataclass(frozen=True, slots=True)
class Weight:
    """One variant of a score."""

    score: int
    """Number of the score."""
    number: int
    """Number of the variant within it."""
    effect: str
    other: str
    weight: float
    frequency: float | None
    model: str

    @property
    def ambiguous(self) -> bool:
        """Whether both strands read the same."""
        return bool(self.other) and self.effect.translate(_COMPLEMENT)[::-1] == self.other

    def found(self, site: Site) -> int | None:
        """Return the number of the effect allele on a line (0 the reference), or None if the alleles differ."""
        alleles = [site.ref, *site.alts]
        pairs = [(self.effect, self.other)]
        if self.other and not self.ambiguous:
            pairs.append((self.effect.translate(_COMPLEMENT)[::-1], self.other.translate(_COMPLEMENT)[::-1]))
        for effect, other in pairs:
            known = effect in alleles and (not other or other in alleles)
            if known:
                return alleles.index(effect)
            # Where everybody has the reference, the other allele has nowhere to stand.
            if not site.alts and site.ref in (effect, other):
                return 0 if site.ref == effect else -1
        return None

    def value(self, copies: float) -> float:
        """Return what so many copies add to the score."""
        if self.model == _DOMINANT:
            return self.weight * (copies > 0)
        if self.model == _RECESSIVE:
            return self.weight * (copies > 1)
        return self.weight * copies

    def expected(self) -> float | None:
        """Return what the variant adds on average, or None if its frequency is not known."""
        if self.frequency is None:
            return None
        p = self.frequency
        return self.weight * {_ADDITIVE: 2 * p, _DOMINANT: 1 - (1 - p) ** 2, _RECESSIVE: p * p}[self.model]


@dataclass(frozen=True, slots=True)
class Score:
    """One scoring file."""

    id: str
    build: str
    weights: tuple[tuple[str, int, Weight], ...]
    """(chromosome, position, weight) of each variant that can be placed."""
    total: int
    """Variants in the file."""


def read_scores(folder: Path) -> list[Score]:
    """Return the scoring files of a folder, sorted by name; raises InputError that names the score or key."""
    files = sorted(path for path in folder.iterdir() if path.name.endswith(SUFFIXES)) if folder.is_dir() else []
    return [_score(path, number) for number, path in enumerate(files)]


def _score(path: Path, number: int) -> Score:
    about: dict[str, str] = {}
    names: list[str] = []
    placed: list[tuple[str, int, Weight]] = []
    total = 0
    for line in _lines(path):
        if line.startswith("#"):
            key, mark, value = line.lstrip("#").partition("=")
            about |= {key.strip(): value.strip()} if mark else {}
        elif not names:
            names = line.split("\t")
            _check(path, names, about)
        elif line.strip():
            row = dict(zip(names, line.split("\t"), strict=False))
            found = _weight(path, row, number, total)
            total += 1
            if found is not None:
                placed.append(found)
    if not _ID.fullmatch(about.get("pgs_id", "")):
        raise InputError(f"{path.name}: pgs_id", about.get("pgs_id", ""), "a PGS Catalog number as PGS000018")
    if not total:
        raise InputError(f"{path.name}", "no variants", "a scoring file of the PGS Catalog")
    build = about.get("HmPOS_build") if "hm_pos" in names else about.get("genome_build")
    return Score(
        about["pgs_id"], {"hg19": "GRCh37", "hg38": "GRCh38"}.get(build or "", build or ""), tuple(placed), total
    )


def _lines(path: Path) -> Iterator[str]:
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
            for line in file:
                yield line.rstrip("\r\n")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(path.name, type(error).__name__, "a scoring file of the PGS Catalog") from error


def _check(path: Path, names: list[str], about: dict[str, str]) -> None:
    for column in ("effect_allele", "effect_weight"):
        if column not in names:
            raise InputError(f"{path.name}: columns", f"no {column}", "effect_allele and effect_weight")
    if not ({"hm_chr", "hm_pos"} <= set(names) or {"chr_name", "chr_position"} <= set(names)):
        raise InputError(f"{path.name}: columns", "no positions", "hm_chr and hm_pos, or chr_name and chr_position")


def _weight(path: Path, row: dict[str, str], score: int, number: int) -> tuple[str, int, Weight] | None:
    """Return a variant and where it lies; None for one that cannot be placed or needs several sites at once."""
    place = (
        (row["hm_chr"], row.get("hm_pos", "")) if "hm_pos" in row else (row["chr_name"], row.get("chr_position", ""))
    )
    if any(row.get(flag, "").lower() == "true" for flag in _UNREAD) or not place[1].isdecimal():
        return None
    try:
        weight = float(row["effect_weight"])
        frequency = float(row["allelefrequency_effect"]) if row.get("allelefrequency_effect") else None
    except (KeyError, ValueError):
        weight, frequency = math.nan, None
    if not math.isfinite(weight) or not (frequency is None or 0 <= frequency <= 1):
        raise InputError(
            f"{path.name}: variant {number + 1}", "no number", "an effect_weight, and a frequency from 0 to 1"
        )
    other = row.get("other_allele") or row.get("hm_inferOtherAllele") or ""
    recessive, dominant = (row.get(f"is_{model}", "").lower() == "true" for model in (_RECESSIVE, _DOMINANT))
    model = _RECESSIVE if recessive else _DOMINANT if dominant else _ADDITIVE
    effect = row["effect_allele"].upper()
    other = other.upper() if re.fullmatch(r"[ACGTacgt]+", other) else ""
    return chromosome_of(place[0]), int(place[1]), Weight(score, number, effect, other, weight, frequency, model)


class Tally:
    """Adds up the scores of the samples of one set of files, a line at a time."""

    def __init__(self, scores: list[Score], samples: list[int], *, keep_ambiguous: bool) -> None:
        self._scores, self._samples = scores, samples
        self._at: dict[tuple[str, int], list[Weight]] = {}
        for score in scores:
            for chromosome, position, weight in score.weights:
                if keep_ambiguous or not weight.ambiguous:
                    self._at.setdefault((chromosome, position), []).append(weight)
        self._done: set[tuple[int, int]] = set()
        self._sums = [[0.0] * len(scores) for _ in samples]
        self._seen = [[0] * len(scores) for _ in samples]

    def wants(self, chromosome: str, position: int) -> bool:
        """Return whether a score has a variant there."""
        return (chromosome, position) in self._at

    def take(self, site: Site) -> bool:
        """Add a line to the scores that have its variant; return whether any has. Raises Unusable."""
        matched = [
            (weight, effect)
            for weight in self._at.get((site.chromosome, site.position), ())
            if (weight.score, weight.number) not in self._done and (effect := weight.found(site)) is not None
        ]
        if not matched:
            return False
        calls = site.calls()
        for weight, effect in matched:
            self._done.add((weight.score, weight.number))
            for place, sample in enumerate(self._samples):
                copies = calls[sample].dosage(effect)
                if copies is not None:
                    self._sums[place][weight.score] += weight.value(copies)
                    self._seen[place][weight.score] += 1
                else:
                    self._sums[place][weight.score] += weight.expected() or 0.0
        return True

    def results(self) -> Iterator[tuple[int, int, float, float]]:
        """Yield (place of the sample, number of the score, score, share of its variants that were called)."""
        missing = [0.0] * len(self._scores)
        for score in self._scores:
            for *_, weight in score.weights:
                if (weight.score, weight.number) not in self._done:
                    missing[weight.score] += weight.expected() or 0.0
        for place in range(len(self._samples)):
            for number, score in enumerate(self._scores):
                yield (
                    place,
                    number,
                    self._sums[place][number] + missing[number],
                    self._seen[place][number] / score.total,
                )
