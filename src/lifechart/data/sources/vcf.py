"""The source `vcf`: variants to `VARIANT//GENE//consequence//zygosity` events, and polygenic scores.

A folder with `.vcf`, `.vcf.gz` or `.vcf.bgz` files that VEP or SnpEff annotated, and beside them

    samples.csv     sample, patient, known: when the result came to be known, a date, or `birth` for no date at all
    genes.csv       optional; a column gene: only these are read (default: the project's list, reportable_genes.csv)
    scores/         optional; scoring files of the PGS Catalog
    vcf.yaml        optional; Settings, where they differ

Lines are parsed here and not by htslib, because a reader of a hospital's files must say of every line what became of
it and go on after a bad one; the tests hold it against pysam.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from lifechart.data.sources import (
    ENTRY_BITS,
    KEPT,
    NOT_MAPPED,
    QUARANTINED,
    ROWS,
    Batch,
    Fault,
    Span,
    Unit,
    documents,
)
from lifechart.data.sources.polygenic import Score, Tally, read_scores
from lifechart.data.sources.vcf_lines import Header, Site, Unusable, site
from lifechart.data.sources.vcf_settings import (
    CONFIGURATION,
    EVERY,
    GENES,
    SAMPLES,
    Known,
    Settings,
    load_genes,
    load_samples,
    load_settings,
)

SUFFIXES = (".vcf", ".vcf.gz", ".vcf.bgz")
VARIANT, SCORE, SAMPLE = "variant", "polygenic score", "sample"
_BATCH_ROWS = 100_000
_LINES_A_ROW = 200
"""Bytes of a VCF for each byte of its rows, about: most lines give none."""


class Vcf:
    """The source `vcf`; its option is the path of a vcf.yaml."""

    name = "vcf"

    def detects(self, path: Path) -> bool:
        """Return whether there is a VCF."""
        return bool(_variants(path))

    def files(self, path: Path, option: str = "") -> list[Path]:
        """Return everything that is read, sorted."""
        root = _root(path)
        settings, beside = load_settings(root, option), [root / SAMPLES, root / CONFIGURATION]
        beside += [Path(option)] if option else []
        beside += [root / settings.genes] if settings.genes not in ("", EVERY) else [root / GENES]
        scores = root / settings.scores
        beside += [file for file in scores.iterdir() if file.is_file()] if scores.is_dir() else []
        return sorted({*_variants(path), *(file for file in beside if file.is_file())})

    def units(self, path: Path, option: str = "") -> list[Unit]:
        """Return one unit for all files with the same samples: a score may need every chromosome."""
        root = _root(path)
        load_samples(root)
        settings = load_settings(root, option)
        load_genes(root, settings)
        read_scores(root / settings.scores)
        groups: dict[tuple[str, ...], list[Path]] = {}
        for file in _variants(path):
            groups.setdefault(tuple(_header(file).samples), []).append(file)
        return [
            Unit(
                self.name,
                tuple(Span(str(file)) for file in files),
                1 + sum(file.stat().st_size for file in files) // _LINES_A_ROW,
                option=f"{root}\n{option}",
            )
            for files in groups.values()
        ]

    def record_end(self, path: Path, option: str = "") -> str | None:
        """Return None: a genome does not say."""
        return None

    def read(self, unit: Unit) -> Iterator[Batch]:
        """Read files with the same samples, line by line, and their scores at the end."""
        place, _, option = unit.option.partition("\n")
        root = Path(place)
        settings = load_settings(root, option)
        reader = _Reader(settings, load_samples(root), load_genes(root, settings), read_scores(root / settings.scores))
        for span in unit.spans:
            reader.begin(_header(Path(span.path)))
            try:
                for block in documents.read_lines(span):
                    reader.block(block)
                    if len(reader.rows) > _BATCH_ROWS:
                        yield reader.take()
            except documents.EndsEarly:
                reader.fault("gzip ends early")
                reader.lines += 1
            reader.finish_file()
        reader.finish()
        yield reader.take()


class _Reader:
    """Makes rows of lines, and says what became of each."""

    def __init__(self, settings: Settings, known: Known, genes: frozenset[str] | None, scores: list[Score]) -> None:
        self._settings, self._known, self._genes, self._scores = settings, known, genes, scores
        self.rows: list[dict[str, Any]] = []
        self.counts: Counter[tuple[str, str]] = Counter()
        self.faults: list[Fault] = []
        self.starts: list[int] = []
        self.lines = 0
        self._header = Header()
        self._patients: list[tuple[int, str, datetime | None]] = []
        self._tally: Tally | None = None

    def begin(self, header: Header) -> None:
        """Start a file; the samples are the same in all of a unit."""
        self.starts.append(self.lines)
        self._header = header
        if self._tally is None:
            found = [(number, *self._known[name]) for number, name in enumerate(header.samples) if name in self._known]
            self._patients = found
            self.counts[SAMPLE, NOT_MAPPED] += len(header.samples) - len(found)
            keep = self._settings.keep_ambiguous
            self._tally = Tally(self._scores, [number for number, *_ in found], keep_ambiguous=keep)

    def block(self, lines: documents.Lines) -> None:
        """Read some lines."""
        for line in lines:
            if line is None:
                self.fault("line too long")
            elif line and not line.startswith(b"#"):
                try:
                    self._line(line.decode().rstrip("\r"))
                except UnicodeDecodeError:
                    self.fault("not UTF-8")
                except Unusable as error:
                    self.fault(str(error))
            self.lines += 1

    def fault(self, reason: str, type_: str = VARIANT) -> None:
        """Note that the line at hand could not be used."""
        self.faults.append(Fault(self.lines << ENTRY_BITS, type_, reason))
        self.counts[type_, QUARANTINED] += 1

    def finish_file(self) -> None:
        """Note a file that had no line of column names, and so no samples."""
        if not self._header.whole:
            self.fault("no header")
            self.lines += 1

    def finish(self) -> None:
        """Give each patient's scores. Each is a record of its own, on a line behind the last."""
        build = self._header.build or self._settings.build
        assert self._tally is not None
        for place, number, value, share in self._tally.results():
            score = self._scores[number]
            _, patient, known = self._patients[place]
            if not build or score.build != build:
                self.fault("another genome build", SCORE)
            elif share < self._settings.min_overlap:
                self.fault("too few of its variants", SCORE)
            else:
                self._row(patient, known, f"PGS//{score.id}", f"Polygenic score {score.id}", SCORE, value)
                name = f"Share of the variants of polygenic score {score.id} that were called"
                self._row(patient, known, f"PGS_OVERLAP//{score.id}", name, SCORE, share)
                self.counts[SCORE, KEPT] += 1
            self.lines += 1

    def take(self) -> Batch:
        """Return what was read since the last call."""
        frame = pl.DataFrame(self.rows, schema=ROWS) if self.rows else pl.DataFrame(schema=ROWS)
        batch = Batch(frame, self.counts, faults=self.faults, starts=self.starts, lines=self.lines)
        self.rows, self.counts, self.faults = [], Counter(), []
        return batch

    def _line(self, line: str) -> None:
        at = site(line, len(self._header.samples))
        good = at.passed and (at.quality is None or at.quality >= self._settings.min_quality)
        assert self._tally is not None
        if good and self._tally.wants(at.chromosome, at.position):
            self._tally.take(at)
        told = good and self._variants(at)
        self.counts[VARIANT, KEPT if told else NOT_MAPPED] += 1

    def _variants(self, at: Site) -> bool:
        """Give the events of a line; return whether there are any."""
        layout = self._header.annotation
        annotation = at.annotation(layout.key) if layout else None
        if layout is None or annotation is None or not self._patients:
            return False
        effects = [
            (number, effect)
            for number, genes in layout.effects(annotation, at.ref, at.alts).items()
            for effect in genes.values()
            if effect.impact in self._settings.impacts and (self._genes is None or effect.gene in self._genes)
        ]
        if not effects:
            return False
        calls = at.calls()
        before = len(self.rows)
        for sample, patient, known in self._patients:
            call = calls[sample]
            if _below(call.depth, self._settings.min_depth) or _below(
                call.quality, self._settings.min_genotype_quality
            ):
                continue
            for number, effect in effects:
                zygosity = call.zygosity(number)
                if zygosity is not None:
                    code = f"VARIANT//{effect.gene}//{effect.consequence}//{zygosity}"
                    name = f"{effect.gene}: {effect.consequence.replace('_', ' ')}, {zygosity}"
                    self._row(patient, known, code, name, VARIANT)
        return len(self.rows) > before

    def _row(
        self, patient: str, known: datetime | None, code: str, name: str, type_: str, value: float | None = None
    ) -> None:
        row = dict.fromkeys(ROWS) | {"patient": patient, "position": self.lines << ENTRY_BITS, "type": type_}
        self.rows.append(row | {"time": known, "code": code, "name": name, "kind": "genomic", "numeric_value": value})


def _below(stated: float | None, least: float) -> bool:
    return stated is not None and stated < least


def _root(path: Path) -> Path:
    return path.parent if path.is_file() else path


def _variants(path: Path) -> list[Path]:
    found = [path] if path.is_file() else path.rglob("*")
    return sorted(file for file in found if file.name.endswith(SUFFIXES) and file.is_file())


def _header(path: Path) -> Header:
    """Return a file's header; one that is cut off or none says so by not being whole."""
    header = Header()
    try:
        for block in documents.read_lines(Span(str(path))):
            for line in block:
                if line is not None and not line.startswith(b"#"):
                    return header
                header.take((line or b"").decode(errors="replace"))
    except documents.EndsEarly:
        pass
    return header


source = Vcf()
