"""What a folder of VCF files says beside them: whose the samples are, which genes count, and the thresholds."""

from __future__ import annotations

import csv
from dataclasses import dataclass, fields, replace
from datetime import datetime
from importlib import resources
from pathlib import Path

import polars as pl
import yaml

from lifechart.core.errors import InputError, RecordError
from lifechart.data.sources import cells

SAMPLES, CONFIGURATION, GENES = "samples.csv", "vcf.yaml", "genes.csv"
BIRTH = "birth"
EVERY = "all"


@dataclass(frozen=True, slots=True)
class Settings:
    """What vcf.yaml may say."""

    genes: str = ""
    """A CSV with a column gene, or `all`."""
    scores: str = "scores"
    impacts: tuple[str, ...] = ("HIGH", "MODERATE")
    min_quality: float = 20.0
    """QUAL of the line, where it is stated; so with the next two, which are of the call."""
    min_depth: float = 8.0
    min_genotype_quality: float = 20.0
    min_overlap: float = 0.75
    """Share of a score's variants that must have been called."""
    keep_ambiguous: bool = False
    build: str = ""
    """GRCh37 or GRCh38, where the files do not say."""


Known = dict[str, tuple[str, datetime | None]]
"""Sample -> (patient, when the result came to be known; None for birth)."""


def load_settings(root: Path, option: str) -> Settings:
    """Return the settings of a folder, or of the file that `option` names; raises InputError that names the key."""
    path = Path(option) if option else root / CONFIGURATION
    if not path.exists() and not option:
        return Settings()
    try:
        content = yaml.safe_load(path.read_text()) or {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError("vcf.yaml", str(path), "a YAML file") from error
    known = {field.name: type(getattr(Settings(), field.name)) for field in fields(Settings)}
    if not isinstance(content, dict) or set(content) - set(known):
        raise InputError(
            str(path), content if not isinstance(content, dict) else sorted(content), f"keys {sorted(known)}"
        )
    for key, value in content.items():
        content[key] = tuple(value) if known[key] is tuple and isinstance(value, list) else value
        content[key] = float(value) if known[key] is float and isinstance(value, int) else content[key]
        if not isinstance(content[key], known[key]):
            raise InputError(f"{path}: {key}", value, f"{known[key].__name__}")
    return replace(Settings(), **content)


def load_samples(root: Path) -> Known:
    """Return who the samples are; raises InputError for a map that cannot be used."""
    try:
        rows = list(csv.DictReader((root / SAMPLES).read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(SAMPLES, type(error).__name__, "a CSV with the columns sample, patient and known") from error
    known: Known = {}
    for number, row in enumerate(rows, start=1):
        sample, patient, when = (str(row.get(column) or "").strip() for column in ("sample", "patient", "known"))
        if not sample or not patient:
            raise InputError(f"{SAMPLES} row {number}", "an empty cell", "a sample, a patient and when it was known")
        if sample in known:
            raise InputError(f"{SAMPLES} row {number}", "a sample met before", "each sample once")
        known[sample] = patient, None if when == BIRTH else _date(when, number)
    return known


def _date(text: str, number: int) -> datetime:
    found: datetime | None = pl.select(cells.written(pl.lit(text, pl.String))).item()
    if found is None:
        raise RecordError(f"{SAMPLES} row {number}: known", text, f"a date, or {BIRTH!r}")
    return found.replace(hour=23, minute=59, second=59) if len(text) <= len("2015-06-01") else found


def load_genes(root: Path, settings: Settings) -> frozenset[str] | None:
    """Return the genes that are read; None for all."""
    if settings.genes == EVERY:
        return None
    own = root / (settings.genes or GENES)
    if settings.genes and not own.is_file():
        raise InputError("genes", settings.genes, "a CSV with a column gene, or `all`")
    shipped = resources.files("lifechart.data.sources").joinpath("reportable_genes.csv")
    content = (own if own.is_file() else shipped).read_text(encoding="utf-8")
    found = frozenset(row.get("gene", "").strip() for row in csv.DictReader(content.splitlines())) - {""}
    if not found:
        raise InputError("genes", own.name, "a CSV with a column gene")
    return found
