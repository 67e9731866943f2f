"""The assessment of one data set: every scenario, population, fingerprint and remedy, as plain data with a digest."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

import lifechart
from lifechart.core import durable
from lifechart.core.errors import InputError
from lifechart.core.suppression import small, suppress_counts
from lifechart.data import shards
from lifechart.data.deidentify.dates import MAX_OFFSET_DAYS
from lifechart.data.deidentify.risk import fingerprints, identifiers
from lifechart.data.deidentify.risk.classes import (
    Risk,
    candidates_when_moved,
    class_sizes,
    in_bands,
    least_class,
    risk_of,
)
from lifechart.data.deidentify.risk.remedies import Step, remedy

THRESHOLD = 0.09
"""One in eleven: the probability that public bodies which share health data commonly accept (EMA Policy 0070, Health
Canada's PRCI guidance; and the CMS cell size of 11). 0.05, one in twenty, is the stricter convention."""
STRICTER = 0.05


@dataclass(frozen=True, slots=True)
class Finding:
    """One scenario: what the attacker knows, the risk, and the remedy."""

    name: str
    title: str
    knows: str
    identifiers: tuple[str, ...]
    """Titles of what is known."""
    risk: Risk
    moved_mean: float | None
    """The mean probability of a right link once it is counted that dates were moved; None where none of these are."""
    moved_at_risk: float | None
    remedy: tuple[Step, ...]
    homogeneous: float
    """Share of the records in classes of two or more in which everybody holds some same uncommon diagnosis."""

    def mean(self) -> float:
        """Return the mean probability of a right link that counts.

        Moved dates and not knowing who is in the data set each lower it; the lower of the two is taken, not their
        product, since they have not been shown to be independent.
        """
        return self.risk.journalist_mean if self.moved_mean is None else min(self.moved_mean, self.risk.journalist_mean)

    def verdict(self, threshold: float) -> str:
        """Return `everybody`, `on average` or `above`: for whom the risk is at or below a threshold."""
        if round(1 / self.risk.journalist_max) >= least_class(threshold):
            return "everybody"
        return "on average" if self.mean() <= threshold else "above"


@dataclass(frozen=True, slots=True)
class Assessment:
    """Everything that the page shows."""

    dataset: str
    """Digest of the data set."""
    subjects: int
    population: int
    """People whom the data set was drawn from; the number of its subjects where nobody stated one."""
    stated: bool
    """Whether somebody stated the population."""
    threshold: float
    dates: str
    """`shift` or `year`."""
    seed: int
    findings: tuple[Finding, ...]
    unicities: tuple[fingerprints.Unicity, ...]
    table_source: str
    review_by: str
    code: str

    @property
    def fraction(self) -> float:
        """Sampling fraction."""
        return min(1.0, self.subjects / self.population)

    @property
    def digest(self) -> str:
        """SHA-256 of the assessment's canonical JSON: what a reviewer signs."""
        return durable.digest_of(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Return plain data, for risk.json and its page, without counts of 1 to 10 records or what gives them away."""
        return {
            **{name: getattr(self, name) for name in _PLAIN},
            "fraction": self.fraction,
            "findings": [_published(finding, self.threshold) for finding in self.findings],
            "unicities": [asdict(each) for each in self.unicities],
            "means": {kind: self.points_needed(kind) for kind in fingerprints.KINDS},
        }

    def points_needed(self, kind: str) -> dict[str, int | None]:
        """Return with how many events half, and 95% of the people are singled out; None: more than were examined."""
        return {
            str(share): fingerprints.points_needed(self.unicities, kind, share) for share in fingerprints.SINGLED_OUT
        }


_PLAIN = (
    "dataset", "subjects", "population", "stated", "threshold", "dates", "seed", "table_source", "review_by", "code"
)  # fmt: skip


def _published(finding: Finding, threshold: float) -> dict[str, Any]:
    """Return one scenario without small cells: classes in bands of size, shares only where they give no small count."""
    risk = finding.risk
    bands = suppress_counts(in_bands(risk.histogram))

    def share(value: float | None) -> float | None:
        return None if value is None or _gives_away(value, risk.records) else value

    return {
        "name": finding.name,
        "title": finding.title,
        "knows": finding.knows,
        "identifiers": list(finding.identifiers),
        "records": risk.records,
        "classes": risk.classes,
        "smallest": risk.smallest,
        "bands": bands,
        "share_unique": share(risk.share_unique),
        "prosecutor": {
            "max": risk.prosecutor_max,
            "mean": risk.prosecutor_mean,
            "at_risk": share(risk.prosecutor_at_risk),
        },
        "journalist": {
            "max": risk.journalist_max,
            "mean": risk.journalist_mean,
            "at_risk": share(risk.journalist_at_risk),
        },
        "marketer": risk.marketer,
        "population_unique": risk.population_unique,
        "unique_in_population": risk.unique_in_population,
        "method": risk.method,
        "moved": {"mean": finding.moved_mean, "at_risk": share(finding.moved_at_risk)},
        "mean": finding.mean(),
        "verdict": finding.verdict(threshold),
        "verdict_stricter": finding.verdict(STRICTER),
        "homogeneous": share(finding.homogeneous),
        "remedy": [asdict(step) | {"at_risk": share(step.at_risk)} for step in finding.remedy],
    }


def _gives_away(share: float, records: int) -> bool:
    """Return whether a share of so many records is one of 1 to 10 of them, or of all but 1 to 10."""
    count = round(share * records)
    return small(count) or small(records - count)


def assess(
    dataset: Path,
    *,
    population: int | None = None,
    threshold: float = THRESHOLD,
    table: Path | None = None,
    seed: int = 0,
    progress: bool | None = None,
) -> Assessment:
    """Assess a data set that `lifechart ingest` wrote.

    `population`: of how many people its subjects are a sample; by default they are taken for the whole of it, which can
    only overstate the risk. `table`: identifiers and scenarios, by default identifiers.toml. Raises InputError.
    """
    if not 0 < threshold < 1:
        raise InputError("--threshold", threshold, "a probability between 0 and 1")
    known = identifiers.load(table)
    events = _events(dataset)
    people = identifiers.people_of(events, known.identifiers)
    if people.is_empty():
        raise InputError("DATASET", dataset.name, "a data set with subjects")
    if population is not None and population < people.height:
        raise InputError("--population", population, f"at least the {people.height} subjects of the data set")
    mode = date_mode(events)
    held = _uncommon(events, people.height)
    with _bar(progress) as bar:
        step = bar.add_task("Assessing", total=len(known.scenarios) + len(fingerprints.KINDS))

        def advance() -> None:
            bar.advance(step)

        findings = _findings(known, people, population or people.height, threshold, mode, held, advance)
        unicities = fingerprints.unicities(events, seed=seed, advance=advance)
    return Assessment(
        dataset=shards.dataset_digest(dataset),
        subjects=people.height,
        population=population or people.height,
        stated=population is not None,
        threshold=threshold,
        dates=mode,
        seed=seed,
        findings=tuple(findings),
        unicities=tuple(unicities),
        table_source=known.source,
        review_by=known.review_by.isoformat(),
        code=f"lifechart {lifechart.__version__}",
    )


def date_mode(events: pl.DataFrame) -> str:
    """Return `year` if every time is the first instant of its year, else `shift`."""
    time = events.get_column("time").drop_nulls()
    return "year" if (time.dt.truncate("1y") == time).all() else "shift"


def _events(dataset: Path) -> pl.DataFrame:
    columns = ("subject_id", "time", "code", "numeric_value", "kind")
    return pl.concat([shards.read_split(dataset, split).select(columns) for split in shards.SPLITS])


def _findings(
    known: identifiers.Table,
    people: pl.DataFrame,
    population: int,
    threshold: float,
    mode: str,
    held: pl.DataFrame,
    advance: Callable[[], None],
) -> list[Finding]:
    found = []
    for scenario in known.scenarios:
        ours = known.named(scenario.identifiers)
        names = [each.name for each in ours]
        sizes = class_sizes(people, names)
        moving = [each.name for each in ours if each.moves]
        moved = _when_moved(people, names, moving) if mode == "shift" and moving else None
        found.append(
            Finding(
                name=scenario.name,
                title=scenario.title,
                knows=scenario.knows,
                identifiers=tuple(each.title for each in ours),
                risk=risk_of(sizes, population, threshold),
                moved_mean=None if moved is None else float((1 / moved).mean()),
                moved_at_risk=None if moved is None else float((moved < least_class(threshold)).mean()),
                remedy=tuple(remedy(people, ours, threshold)),
                homogeneous=_homogeneous(people, names, held),
            )
        )
        advance()
    return found


def _when_moved(people: pl.DataFrame, names: list[str], moving: list[str]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the candidates of each record when the dates among what is known were moved.

    With two moving dates the first alone is used to tell candidates apart; the other is taken as unknown, since both
    moved by the same unknown number of days. Ages and numbers that stand beside them do not move.
    """
    still = [name for name in names if name not in moving]
    return candidates_when_moved(people, still, f"{moving[0]}.date", MAX_OFFSET_DAYS)


def _uncommon(events: pl.DataFrame, subjects: int) -> pl.DataFrame:
    """Return (subject_id, code) of the diagnoses that fewer than a fifth of the subjects hold."""
    held = events.filter(pl.col("kind") == "condition").select("subject_id", "code").unique()
    return held.filter(pl.len().over("code") < subjects / 5)


def _homogeneous(people: pl.DataFrame, names: list[str], held: pl.DataFrame) -> float:
    """Return the share of records whose class, of two or more, holds some uncommon diagnosis unanimously.

    There, to know the class is to know the diagnosis, without finding the person (distinct l-diversity of 1).
    """
    numbered = people.select("subject_id", number=pl.struct(names).rank("dense"), size=pl.len().over(names)).filter(
        pl.col("size") > 1
    )
    shared = (
        numbered.join(held, on="subject_id")
        .group_by("number", "code")
        .agg(holders=pl.len(), size=pl.col("size").first())
        .filter(pl.col("holders") == pl.col("size"))
        .unique("number")
    )
    return float(shared.get_column("size").sum() / people.height)


def _bar(progress: bool | None) -> Progress:
    shown = sys.stderr.isatty() if progress is None else progress
    return Progress(TextColumn("{task.description}"), BarColumn(), console=Console(stderr=True), disable=not shown)
