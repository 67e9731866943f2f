"""What is known of a release, each thing under its digest. A sentence is made with its sources, or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from lifechart.core import durable
from lifechart.core.capability import Declaration
from lifechart.core.errors import GateRefused, IntegrityError
from lifechart.core.report import Report
from lifechart.ledger.log import Entry, Log
from lifechart.release.documents.tally import Tally
from lifechart.release.gate import COMPARATORS
from lifechart.release.history import State
from lifechart.release.manifest import Manifest
from lifechart.release.protocol import Purpose, Registered, Registry
from lifechart.release.shelf import Release, Shelf
from lifechart.release.trial.conduct import Trial
from lifechart.release.trial.course import Course


@dataclass(frozen=True, slots=True)
class Source:
    """What a sentence rests on: a file by its SHA-256, or an entry of the ledger by its leaf hash."""

    name: str
    digest: str
    entry: int | None = None
    """Number in the ledger, if it is there."""

    def __str__(self) -> str:
        where = f" (ledger entry {self.entry})" if self.entry is not None else ""
        return f"{self.name}{where} {self.digest[:16]}…"


@dataclass(frozen=True, slots=True)
class Said:
    """One sentence or more, and what they rest on; raises GateRefused where that is nothing."""

    text: str
    sources: tuple[Source, ...]

    def __post_init__(self) -> None:
        if not self.sources:
            raise GateRefused(f"documents: no evidence behind {self.text!r}, so it is not printed")


@dataclass(frozen=True, slots=True)
class Open:
    """What only a human can fill in, and who."""

    who: str
    ask: str
    absent: str = ""
    """What readers of a page in plain language are told meanwhile."""


@dataclass(frozen=True, slots=True)
class Held:
    """A trial of the release: its protocol, what the ledger says happened, and the entry in which it was concluded."""

    registered: Registered
    course: Course
    concluded: Entry | None


@dataclass(frozen=True, slots=True)
class Dossier:
    """All that speaks for a capability's current release, verified when it was gathered."""

    institution: str
    declaration: Declaration
    log: Log
    state: State
    release: Release
    report: Report
    trained: Entry
    evaluated: Entry
    validations: tuple[Entry, ...]
    """Registered validations carried out on this model, oldest first."""
    trial: Held | None
    plan: Registered | None
    """The newest change plan of the capability."""
    tally: Tally
    """How its models were used."""

    @property
    def manifest(self) -> Manifest:
        """What the release consists of."""
        return self.release.manifest

    @property
    def model(self) -> str:
        """Name under which the Report has the model's figures."""
        return next(row.forecaster for row in self.report.metrics if row.forecaster not in COMPARATORS)

    def files(self) -> dict[str, Source]:
        """Return what is known by the digest of its own bytes, by name."""
        manifest = self.manifest
        found = {
            "declaration": Source("declaration of the capability", durable.digest_of(asdict(self.declaration))),
            "manifest": Source("manifest", manifest.digest),
            "report": Source("Report", manifest.report_digest),
            "criteria": Source("criteria of the gate", manifest.criteria_digest),
            "model": Source("model", manifest.model_digest),
            "data": Source("training data", manifest.data_digests["train"]),
        }
        if self.trial is not None:
            found["trial protocol"] = Source("trial protocol", self.trial.registered.digest)
        if self.plan is not None:
            found["change plan"] = Source("change plan", self.plan.digest)
        return found

    def file(self, *names: str) -> tuple[Source, ...]:
        """Return sources by name; raises GateRefused for one that is not there."""
        known = self.files()
        if missing := [name for name in names if name not in known]:
            raise GateRefused(f"documents: no {', '.join(missing)} stands behind {self.declaration.name}")
        return tuple(known[name] for name in names)

    def require(self, sources: Iterable[Source]) -> None:
        """Raise GateRefused that names the source which is not in evidence."""
        files = {source.digest for source in self.files().values()}
        for source in sources:
            if source.entry is None:
                there = source.digest in files
            else:
                there = source.entry < self.log.size and self.log.read([source.entry])[0].leaf == source.digest
            if not there:
                raise GateRefused(f"documents: {source} is not in evidence, so what rests on it is not printed")


def entry_source(name: str, entry: Entry) -> Source:
    """Return a statement of the ledger as a source."""
    return Source(name, entry.leaf, entry.index)


def gather(
    shelf: Shelf,
    log: Log,
    registry: Registry,
    declaration: Declaration,
    institution: str,
    tally: Tally | None = None,
) -> Dossier:
    """Gather what stands behind a capability's current release. `tally`: one that is kept between pages.

    Raises InputError if nothing is released; IntegrityError if a byte of the release, or the ledger, is not as signed.
    """
    name = declaration.name
    release, state = shelf.current(name), shelf.state(name)
    manifest = release.manifest
    report = Report.load(release.report)
    if report.digest != manifest.report_digest:
        raise IntegrityError(f"{release.report}: not the Report that the manifest names")
    own = [each for each in registry.all() if each.protocol.capability == name]
    plans = [each for each in own if each.protocol.purpose is Purpose.CHANGE]
    trials = [each for each in own if each.protocol.purpose is Purpose.TRIAL]
    return Dossier(
        institution,
        declaration,
        log,
        state,
        release,
        report,
        _entry(log, "train", manifest.model_digest, manifest.evidence["train"]),
        _entry(log, "evaluate", manifest.report_digest, manifest.evidence["evaluate"]),
        tuple(log.find(kind="validation", digest=manifest.model_digest)),
        _held(trials, registry, log, manifest.digest),
        plans[-1] if plans else None,
        tally or Tally(log),
    )


def _entry(log: Log, kind: str, digest: str, leaf: str) -> Entry:
    """Return the statement that the gate found; raises IntegrityError if the ledger does not hold it."""
    for entry in log.find(kind=kind, digest=digest):
        if entry.leaf == leaf:
            return entry
    raise IntegrityError(f"ledger: no {kind!r} statement {leaf[:16]}…, which the manifest names as evidence")


def _held(trials: list[Registered], registry: Registry, log: Log, manifest: str) -> Held | None:
    """Return the newest trial that was opened on this release, or nothing."""
    for registered in reversed(trials):
        course = Trial(registered, registry.folder, log, registry.people).course
        if course.opened is not None and course.manifest == manifest:
            ended = [
                entry
                for entry in log.find(kind="trial", digest=registered.original)
                if entry.statement.predicate["step"] == "concluded"
            ]
            return Held(registered, course, ended[-1] if ended else None)
    return None
