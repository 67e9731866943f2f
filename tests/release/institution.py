"""An institution with a log, a shelf, and models that were trained and examined: what releases are made from."""

from dataclasses import dataclass
from pathlib import Path

from lifechart.core import durable
from lifechart.core.report import Report
from lifechart.core.settings import Settings
from lifechart.ledger.log import Log
from lifechart.ledger.statement import Statement, Subject
from lifechart.release.shelf import Shelf
from tests.release.test_gate import good_rows

PAIR = ("SNOMED//44054006", 365)
FILES = ("weights.bin", "config.json")


@dataclass
class Institution:
    """A home with a log, a shelf, and a model that was trained and examined, by statements in the log."""

    settings: Settings
    log: Log
    shelf: Shelf
    folder: Path

    def train(self, seed: int) -> tuple[Path, Path]:
        """Make a model and its report; returns the model's folder and the report's path."""
        model, report_path = self.folder / f"model-{seed}", self.folder / f"report-{seed}" / "report.json"
        model.mkdir()
        (model / "weights.bin").write_bytes(bytes(range(256)) * (seed + 1))
        (model / "config.json").write_text(f'{{"seed": {seed}}}')
        (model / "resume.state").write_text("left over from training; not part of the model")
        files = {name: durable.file_digest(model / name) for name in FILES}
        digest = durable.digest_of(files)
        self.log.append(Statement("train", (Subject("model", digest),), {"files": files, "dataset": "d" * 64}))
        report = Report(digest, "b" * 64, "c" * 64, "2026-01-01T00:00:00Z", tuple(good_rows()), {})
        report.save(report_path)
        report_path.with_name("report.html").write_text("<!doctype html><title>Report</title>")
        self.log.append(Statement("evaluate", (Subject("report", report.digest),), {"model": digest}))
        return model, report_path

    def release(self, seed: int) -> str:
        model, report = self.train(seed)
        return self.shelf.release("risk", model, report, actor="steward")[0].version
