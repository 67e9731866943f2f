"""A small institution that governs for real: a ledger, a shelf, signatories with keys, models, Reports, protocols.

The models are a few bytes: what is tried out here is who may do what, not what a model knows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from lifechart.core import durable
from lifechart.core.capability import Phase
from lifechart.core.forecast import Interval
from lifechart.core.report import Metric, Report
from lifechart.core.settings import Settings
from lifechart.ledger.keys import Signer
from lifechart.ledger.log import Log, open_log
from lifechart.ledger.statement import Statement, Subject
from lifechart.release import validation
from lifechart.release.people import Office, People
from lifechart.release.protocol import Registered, Registry, open_registry
from lifechart.release.shelf import Release, Shelf, open_shelf
from lifechart.release.trial.conduct import Trial

PAIR = ("SNOMED//44054006", 365)
DEVELOPMENT, SHADOW_DATA, OTHER_DATA = "b" * 64, "e" * 64, "f" * 64
STAFF = {
    "dr.okafor": (Office.MEDICAL_OFFICER,),
    "sam.steward": (Office.DATA_STEWARD,),
    "ethics.chair": (Office.ETHICS_BOARD,),
    "board.one": (Office.MONITORING_BOARD,),
    "dr.li": (Office.INVESTIGATOR,),
    "ml.author": (Office.DATA_STEWARD, Office.MEDICAL_OFFICER),
}
CRITERIA = """
capability = "risk"
review_by = 2030-01-01
[[criterion]]
name = "tells who from who not"
scope = "pair"
metric = "auroc"
bound = "low"
at_least = 0.55
why = "Better than chance."
[[criterion]]
name = "something to show"
scope = "whole"
metric = "pairs_released"
at_least = 1
why = "A release that may show nothing is none."
"""
VALIDATION = """
capability = "risk"
title = "One year of diabetes in shadow"
purpose = "validation"
stage = "shadow"
date = 2026-01-01T00:00:00Z
population = "Adults with a day of care in the shadow period"
tasks = ["new-onset"]
min_patients = 100
min_events = 20
analysis = "AUROC of new onset within a year, patient bootstrap, 95% interval"
stopping = "none: analysed once"
[[criterion]]
name = "something holds"
scope = "whole"
metric = "pairs_released"
at_least = 1
why = "At least one pair has to pass."
[[criterion]]
name = "tells who from who not"
scope = "pair"
metric = "auroc"
bound = "low"
at_least = {auroc}
why = "Better than chance by a margin."
"""
TRIAL = """
capability = "risk"
title = "Is diabetes treated earlier?"
purpose = "trial"
stage = "trial"
date = 2026-01-01T00:00:00Z
population = "Adults at risk seen in general medicine"
tasks = ["new-onset"]
min_patients = 20
min_events = 1
analysis = "Difference of means by intention to treat, adjusted for strata"
stopping = "Lan-DeMets bounds of O'Brien-Fleming type"
[trial]
unit = "individual"
outcome = "weeks to treatment"
higher_is_better = true
power = 0.8
effect = 1.0
sd = 1.0
looks = [0.5, 1.0]
strata = ["all"]
"""
PLAN = """
capability = "risk"
title = "Yearly retraining"
purpose = "change"
stage = "clinicians"
date = 2026-01-01T00:00:00Z
population = "As for the release that it replaces"
tasks = ["new-onset"]
min_patients = 100
min_events = 20
analysis = "Every released pair against the predecessor on the same protocol"
stopping = "none: judged once a candidate"
[envelope]
modifications = ["Retraining on newer records with the same recipe"]
impact = "Keeps up with changes of coding and practice; may forget rare patterns, hence the limits."
fixed = ["size"]
max_auroc_drop = {drop}
max_mean_auroc_drop = 0.02
max_calibration_gap = 0.4
max_pairs_lost = 0
"""


def rows(auroc: float) -> tuple[Metric, ...]:
    """Return a model's figures for one pair, and boosted trees' beside them."""

    def one(name: str, value: float, margin: float, forecaster: str = "lifechart-s") -> Metric:
        interval = Interval(value - margin, value + margin)
        return Metric(name, value, interval, forecaster, *PAIR, num_prompts=900, num_events=60)

    return (
        one("auroc", auroc, 0.05),
        one("observed_expected", 1.0, 0.3),
        one("calibration_slope", 1.0, 0.3),
        one("auroc", 0.74, 0.05, "boosted-trees"),
    )


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def same_arms(size: int) -> bytes:
    """Return an allocation's secret that is the same in every run: by lot, one trial in twenty misses the truth."""
    return bytes(range(1, size + 1))


@dataclass
class Institution:
    """Everything that governs, in one folder."""

    folder: Path
    settings: Settings = field(init=False)
    log: Log = field(init=False)
    shelf: Shelf = field(init=False)
    people: People = field(init=False)
    registry: Registry = field(init=False)
    keys: dict[str, Signer] = field(init=False)

    def __post_init__(self) -> None:
        self.settings = Settings(home=self.folder / "home")
        self.log = open_log(self.settings)
        self.shelf = open_shelf(self.settings, self.log)
        self.people = People(self.log)
        self.registry = open_registry(self.settings, self.log)
        self.keys = {name: Signer.generate(name) for name in STAFF}
        for number, (name, offices) in enumerate(STAFF.items()):
            self.people.register(self.keys[name].public, offices, staff_number=f"{number:04}", actor="root", login=name)

    def train(self, seed: int, *, size: str = "s") -> tuple[Path, str]:
        """Make a model, trained by `ml.author`; return its folder and digest."""
        model = self.folder / f"model-{seed}"
        durable.write_bytes(model / "weights.bin", bytes(range(256)) * (seed + 1))
        files = {"weights.bin": durable.file_digest(model / "weights.bin")}
        digest = durable.digest_of(files)
        said = {"files": files, "dataset": "d" * 64, "actor": "ml.author", "size": size}
        self.log.append(Statement("train", (Subject("model", digest),), said))
        return model, digest

    def examine(self, model: str, data: str, *, auroc: float = 0.75, registered: str = "") -> Report:
        """Make a Report of a model, with its statement."""
        report = Report(model, data, "c" * 64, "2026-01-01T00:00:00Z", rows(auroc), {})
        said = {"model": model, "data": data, "people": 500, "registered": registered or None}
        self.log.append(Statement("evaluate", (Subject("report", report.digest),), said))
        return report

    def release(self, seed: int = 0, *, auroc: float = 0.75, size: str = "s") -> Release:
        """Train, examine and release a model."""
        model, digest = self.train(seed, size=size)
        path = self.folder / f"report-{seed}" / "report.json"
        self.examine(digest, DEVELOPMENT, auroc=auroc).save(path)
        criteria = self.write("criteria.toml", CRITERIA)
        return self.shelf.release("risk", model, path, actor="sam.steward", criteria=criteria)[0]

    def write(self, name: str, content: str) -> Path:
        """Write a file of the institution's own."""
        path = self.folder / name
        durable.write_bytes(path, content.encode())
        return path

    def approve(self, phase: Phase, *names: str) -> None:
        """Let these people sign, each in the first of their offices."""
        for name in names:
            self.shelf.approve("risk", phase, self.keys[name], office=STAFF[name][0], comment="weighed")

    def enter(self, phase: Phase) -> None:
        """Sign as it should be, and enter."""
        self.approve(phase, "dr.okafor", "sam.steward", "ethics.chair")
        self.shelf.set_phase("risk", phase, actor="sam.steward", reason="went well")

    def register(self, name: str, content: str) -> Registered:
        """Have a protocol signed and registered."""
        path = self.write(name, content)
        self.sign(path)
        return self.registry.register(path, actor="sam.steward")

    def amend(self, standing: Registered, content: str) -> Registered:
        """Have an amendment signed and sealed."""
        path = self.write(f"amended-{standing.amendments}.toml", content)
        self.sign(path)
        return self.registry.amend(standing.original, path, actor="sam.steward", reason="thought better of it")

    def sign(self, path: Path) -> None:
        """Have a protocol signed by those who must."""
        for name in ("ethics.chair", "dr.okafor"):
            self.registry.sign(path, self.keys[name], office=STAFF[name][0], comment="weighed")

    def shadow(self, release: Release, *, answers: int = 120) -> None:
        """State what a shadow period of five weeks leaves in the ledger, up to labels that matured."""
        now, model = self.log.now(), release.manifest.model_digest
        said: list[Statement] = []
        for number in range(answers):
            created = _stamp(now - timedelta(days=70 - 35 * number / answers))
            box, patient = f"{release.version}{number:063x}", f"{number:016x}" + "0" * 48
            about = {"capability": "risk", "model": model, "patient": patient}
            sealed = [{"horizon_days": 30, "until": created, "digest": box}]
            more = {"disposition": "answered", "user": "dr.reyes", "outlet": "clinician", "showing": "shadow"}
            given = {**about, **more, "claims": [], "cards": {}, "alerts": 0, "sealed": sealed}
            answer = Subject("answer", f"{release.version}a{number:062x}")
            said.append(Statement("answer", (answer,), given, created))
            claims = [{"outcome": PAIR[0], "probability": 0.1, "happened": False}]
            label = {**about, "horizon_days": 30, "due": created, "read": created, "lag_days": 1.0, "claims": claims}
            said.append(Statement("label", (answer, Subject("box", box)), label, created))
        self.log.append_many(said)

    def validate(self, release: Release, *, auroc: float = 0.75, data: str = SHADOW_DATA) -> validation.Validated:
        """Register a validation and carry it out, at the end of a shadow period."""
        self.shadow(release)
        registered = self.register(f"validation-{data[:4]}.toml", VALIDATION.format(auroc=0.6))
        validation.prepare(self.registry, registered.original, data)
        report = self.examine(release.manifest.model_digest, data, auroc=auroc, registered=registered.original)
        return validation.conclude(self.log, self.registry, registered, report, actor="sam.steward")

    def trial(self, release: Release) -> Trial:
        """Register and open a trial of a release."""
        trial = Trial(self.register("trial.toml", TRIAL), self.settings.protocols, self.log, self.people)
        trial.open(manifest=release.manifest.digest, actor="dr.li", entropy=same_arms)
        return trial

    def enrolled(self, trial: Trial, number: int, *, benefit: float = 0.0) -> None:
        """Enrol `number` more participants and record what became of them."""
        manifest = self.shelf.current("risk").manifest.digest
        start = len(trial.course.enrolled)
        for place in range(start, start + number):
            who = f"{place:064x}"
            trial.enrol(who, manifest=manifest, actor="dr.li")
            noise = ((place * 7919) % 97) / 48.5 - 1
            trial.record(who, noise + benefit * trial.arm(who), actor="dr.li")
