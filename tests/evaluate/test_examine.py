"""One evaluation from start to ledger: the report, the page, the statement, and who is refused."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import orjson
import polars as pl
import pytest
from numpy.typing import NDArray

from lifechart.core import durable
from lifechart.core.errors import InputError
from lifechart.core.report import Report
from lifechart.core.settings import Settings
from lifechart.evaluate import examine as module
from lifechart.evaluate.baselines import NAME as TREES
from lifechart.evaluate.examine import examine, protocol_digest
from lifechart.evaluate.headline import ALL_OUTCOMES, RECORD
from lifechart.evaluate.question import MIN_PEOPLE
from lifechart.evaluate.tasks import default_task
from lifechart.ledger.log import Log, open_log
from tests.evaluate.hospital import DEATH, GOUT, HEART, INPATIENT, LastValue, write_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("hospital") / "dataset", 3000)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return open_log(Settings(home=tmp_path / "home"))


@pytest.fixture(scope="module")
def examined(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report, Log]:
    """A full examination, in which a forecaster that knows the hazards plays the record oracle."""
    folder = tmp_path_factory.mktemp("examined")
    log = open_log(Settings(home=folder / "home"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "load_oracles", lambda truth, key, horizons: [LastValue(RECORD, horizons=horizons)])
        report = examine(
            dataset, LastValue(), folder / "out", log=log, truth=folder, key=b"k", bootstrap=60, min_events=20
        )
    return folder / "out", report, log


def test_report_holds_every_forecaster_horizon_and_onset(examined: tuple[Path, Report, Log]) -> None:
    out, report, _ = examined
    assert Report.load(out / "report.json") == report
    aurocs = {(m.forecaster, m.horizon_days, m.onset, m.outcome) for m in report.select(name="auroc", subgroup="all")}
    assert {("last-value", 365, "new", code) for code in (HEART, GOUT, INPATIENT, DEATH)} <= aurocs
    assert ("last-value", 1825, "new", HEART) in aurocs
    assert ("last-value", 365, "recurrent", INPATIENT) in aurocs
    assert {horizon for name, horizon, _, _ in aurocs if name in (TREES, RECORD)} == {365}
    assert report.outcome_names[HEART] == "Heart failure"
    (share,) = report.select(name="reachable_share", outcome=ALL_OUTCOMES, forecaster="last-value")
    assert share.value == pytest.approx(1.0)
    assert list(report.select(name="auroc_gain", outcome=ALL_OUTCOMES, forecaster="last-value"))


def test_groups_stand_on_the_page_in_a_file_and_in_the_ledger(examined: tuple[Path, Report, Log]) -> None:
    out, _, log = examined
    content = orjson.loads((out / "fairness.json").read_bytes())
    groups = {row["group"] for row in content["model"]}
    assert "race=black" in groups
    assert any(" & race=black" in group for group in groups)
    assert {row["metric"] for row in content["model"]} >= {"auroc", "observed_expected"}
    page = (out / "report.html").read_text()
    assert "If it looks worse for some" in page
    assert f"{content['tests']:,} comparisons" in page
    (entry,) = log.find(kind="evaluate")
    assert entry.statement.predicate["fairness"] == durable.digest_of(content)


def test_the_same_forecaster_under_two_names_scores_alike(examined: tuple[Path, Report, Log]) -> None:
    _, report, _ = examined
    for metric in report.select(forecaster=RECORD, subgroup="all", outcome=HEART):
        twin = next(
            report.select(
                name=metric.name,
                forecaster="last-value",
                outcome=HEART,
                horizon_days=365,
                onset=metric.onset,
                subgroup="all",
            )
        )
        assert twin.value == metric.value
        assert twin.interval == metric.interval


def test_nothing_is_told_of_few_people(examined: tuple[Path, Report, Log]) -> None:
    _, report, _ = examined
    assert min(metric.num_events for metric in report.metrics) >= MIN_PEOPLE
    assert {m.outcome for m in report.metrics if m.horizon_days == 30 and m.onset == "new"} < {*report.outcome_names}


def test_subgroups_are_the_models_at_the_main_horizon(examined: tuple[Path, Report, Log]) -> None:
    _, report, _ = examined
    rows = [metric for metric in report.metrics if metric.subgroup != "all"]
    assert {"sex=female", "race=white"} <= {metric.subgroup for metric in rows}
    assert {(metric.forecaster, metric.horizon_days, metric.onset) for metric in rows} == {("last-value", 365, "new")}


def test_the_ledger_says_so(examined: tuple[Path, Report, Log]) -> None:
    _, report, log = examined
    (entry,) = log.entries()
    statement = entry.statement
    assert statement.kind == "evaluate"
    assert statement.subjects[0].digest == report.digest
    assert statement.predicate["model"] == report.model_digest
    assert statement.predicate["data"] == report.data_digest


class _Outline(HTMLParser):
    """Headings, links to elsewhere, and what tables and drawings are called."""

    def __init__(self) -> None:
        super().__init__()
        self.headings: list[int] = []
        self.sources: list[str] = []
        self.unnamed: list[str] = []
        self.ids: list[str] = []
        self.labelled_by: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if re.fullmatch(r"h\d", tag):
            self.headings.append(int(tag[1]))
        self.sources += [found[key] for key in ("src", "href") if key in found]
        if tag == "svg" and found.get("aria-hidden") != "true" and not found.get("aria-label"):
            self.unnamed.append(tag)
        if tag == "th" and "scope" not in found:
            self.unnamed.append(tag)
        self.ids += [found["id"]] if "id" in found else []
        self.labelled_by += [found["aria-labelledby"]] if "aria-labelledby" in found else []


def test_the_page_stands_alone_and_is_well_formed(examined: tuple[Path, Report, Log]) -> None:
    out, report, _ = examined
    html = (out / "report.html").read_text()
    outline = _Outline()
    outline.feed(html)
    assert outline.sources == []
    assert "http" not in html
    assert outline.unnamed == []
    assert outline.headings[0] == 1
    assert outline.headings.count(1) == 1
    steps = zip(outline.headings, outline.headings[1:], strict=False)
    assert all(after - before <= 1 for before, after in steps)
    assert len(outline.ids) == len(set(outline.ids))
    assert set(outline.labelled_by) <= set(outline.ids)
    for digest in (report.model_digest, report.data_digest, report.protocol_digest, report.digest):
        assert digest in html


def test_small_horizon_and_no_opponents(dataset: Path, tmp_path: Path, log: Log) -> None:
    report = examine(dataset, LastValue(), tmp_path, log=log, baselines=False, horizons=(1825,), bootstrap=20)
    assert {metric.horizon_days for metric in report.metrics} == {1825}
    assert {metric.forecaster for metric in report.metrics} == {"last-value"}


def test_too_few_people_still_make_a_page(tmp_path: Path, log: Log) -> None:
    small = write_dataset(tmp_path / "dataset", 60)
    report = examine(small, LastValue(), tmp_path / "out", log=log, bootstrap=20)
    assert not list(report.select(name="auroc", horizon_days=30))
    assert "too few for an overall figure" in (tmp_path / "out" / "report.html").read_text()


def test_a_forecaster_that_peeks_is_refused(dataset: Path, tmp_path: Path, log: Log) -> None:
    with pytest.raises(InputError, match="the future is taken away"):
        examine(dataset, LastValue(peeks=True), tmp_path, log=log, baselines=False)
    assert not (tmp_path / "report.json").exists()
    assert log.size == 0


class _Broken(LastValue):
    """Says what is not a probability."""

    def risks(self, events: pl.DataFrame, prompts: pl.DataFrame) -> NDArray[np.float32]:
        return super().risks(events, prompts) * np.float32("nan")


def test_what_is_no_probability_is_refused(dataset: Path, tmp_path: Path, log: Log) -> None:
    with pytest.raises(InputError, match="expected"):
        examine(dataset, _Broken(), tmp_path, log=log, baselines=False)


def test_a_truth_needs_the_key(dataset: Path, tmp_path: Path, log: Log) -> None:
    with pytest.raises(InputError, match="de-identification key"):
        examine(dataset, LastValue(), tmp_path, log=log, truth=tmp_path)


def test_the_protocol_digest_names_all_that_matters() -> None:
    task = default_task()
    base = protocol_digest(task, None, 200, 20, 0)
    assert base == protocol_digest(task, None, 200, 20, 0)
    younger = task.model_copy(update={"population": task.population.model_copy(update={"min_age": 16})})
    others = {
        protocol_digest(younger, None, 200, 20, 0),
        protocol_digest(task, 5, 200, 20, 0),
        protocol_digest(task, None, 100, 20, 0),
        protocol_digest(task, None, 200, 30, 0),
        protocol_digest(task, None, 200, 20, 1),
    }
    assert len(others | {base}) == 6
