"""The case for a release: the Report, what the gate said of it, and the statements in the ledger that bear it out."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lifechart.core import durable
from lifechart.core.errors import GateRefused, InputError, IntegrityError
from lifechart.core.report import Report
from lifechart.ledger.keys import Signer
from lifechart.ledger.lineage import makers_of
from lifechart.ledger.log import Entry, Log
from lifechart.release import criteria, manifest
from lifechart.release.criteria import Criteria
from lifechart.release.gate import Verdict, judge
from lifechart.release.manifest import Manifest

MODEL = "model"
REPORT = "report/report.json"
_PAGE = "report.html"
_CRITERIA = "criteria.toml"


@dataclass(frozen=True, slots=True)
class Case:
    """Everything that speaks for a release, found and judged before a byte is copied."""

    log: Log
    report: Report
    report_path: Path
    criteria: Criteria
    criteria_path: Path
    verdict: Verdict
    trained: Entry
    """The ledger's statement that this model was trained."""
    evaluated: Entry
    """The ledger's statement that this report was made."""
    model_files: dict[str, str]
    """Path in the model's folder to SHA-256, as the training statement has them."""
    data: dict[str, str]
    """`train` and `evaluate`: digests of the data sets behind model and report."""

    @classmethod
    def make(cls, log: Log, capability: str, report_path: Path, criteria_path: Path) -> Case:
        """Judge a report; raises GateRefused that names the criterion or the statement that is wanting."""
        wanted = criteria.load(criteria_path)
        if wanted.capability != capability:
            raise InputError(f"capability of {criteria_path}", wanted.capability, repr(capability))
        report = Report.load(report_path)
        verdict = judge(report, wanted).require()
        makers = makers_of(log, report.model_digest)
        trained = makers[-1] if makers else _statement_about(log, "train", report.model_digest, "model")
        evaluated = _statement_about(log, "evaluate", report.digest, "report")
        files, dataset = _trained_on(trained)
        data = {"train": dataset, "evaluate": report.data_digest}
        return cls(log, report, report_path, wanted, criteria_path, verdict, trained, evaluated, files, data)

    def write(self, folder: Path, model: Path, version: str, signer: Signer) -> Manifest:
        """Copy model, report and criteria into `folder` and sign the manifest.

        Raises IntegrityError if the model's files are not those that were trained.
        """
        for name, digest in self.model_files.items():
            _copy(model / name, folder / MODEL / name)
            if durable.file_digest(folder / MODEL / name) != digest:
                raise IntegrityError(
                    f"{model / name}: not the file that was trained (ledger entry {self.trained.index})"
                )
        _copy(self.report_path, folder / REPORT)
        if Report.load(folder / REPORT).digest != self.report.digest:
            raise IntegrityError(f"{self.report_path}: changed while it was being released")
        if (page := self.report_path.with_name(_PAGE)).exists():
            _copy(page, (folder / REPORT).with_name(_PAGE))
        _copy(self.criteria_path, folder / _CRITERIA)
        unsigned = Manifest(
            capability=self.criteria.capability,
            version=version,
            created=self.log.now().isoformat(timespec="seconds").replace("+00:00", "Z"),
            model_digest=self.report.model_digest,
            report_digest=self.report.digest,
            data_digests=self.data,
            protocol_digest=self.report.protocol_digest,
            criteria_digest=self.criteria.digest,
            evidence={"train": self.trained.leaf, "evaluate": self.evaluated.leaf},
            checks=self.verdict.checks,
            released=self.verdict.released,
            files=manifest.files_of(folder),
        )
        return manifest.write(folder, unsigned, signer)

    def facts(self) -> dict[str, object]:
        """Return what the ledger's release statement says besides the manifest's digest."""
        return {
            "model": self.report.model_digest,
            "report": self.report.digest,
            "data": self.data,
            "pairs_released": len(self.verdict.released),
            "pairs_left_out": len(self.verdict.left_out),
        }


def _trained_on(trained: Entry) -> tuple[dict[str, str], str]:
    """Return the model's files and its data set, as the training statement has them."""
    said = trained.statement.predicate
    where = f"gate: the training statement (ledger entry {trained.index})"
    files, dataset = said.get("files"), said.get("dataset")
    if not isinstance(files, dict) or not files or not isinstance(dataset, str):
        raise GateRefused(f"{where} does not name the model's files and its data set")
    for name in files:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise GateRefused(f"{where} names a file outside the model: {name!r}")
    return files, dataset


def _statement_about(log: Log, kind: str, digest: str, what: str) -> Entry:
    """Return the newest statement of the ledger whose subject this model or report is."""
    about = [
        entry
        for entry in log.find(kind=kind, digest=digest)
        if any(subject.digest == digest for subject in entry.statement.subjects)
    ]
    if not about:
        raise GateRefused(f"gate: the ledger holds no {kind!r} statement about the {what} {digest}")
    return about[-1]


def _copy(source: Path, to: Path) -> None:
    try:
        with durable.replacing(to) as aside:
            shutil.copyfile(source, aside)
    except FileNotFoundError as error:
        raise InputError("file", str(source), "a file to release") from error
