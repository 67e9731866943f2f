"""The terminal's summary shows the mean first, then outcomes by events, models before baselines."""

from lifechart.core.forecast import Interval
from lifechart.core.report import Metric, Report
from lifechart.evaluate import summary


def metric(name: str, value: float, forecaster: str, outcome: str, events: int = 50) -> Metric:
    return Metric(name, value, Interval(value - 0.1, value + 0.1), forecaster, outcome, 365, num_events=events)


def report(*metrics: Metric) -> Report:
    return Report("a", "b", "c", "2026-01-01T00:00:00Z", metrics, {"X//1": "Gout", "X//2": "Stroke"})


def test_rows_in_order() -> None:
    header, *rows = summary.table(
        report(
            metric("auroc", 0.7, "boosted-trees", "X//1", 20),
            metric("auroc", 0.8, "lifechart", "X//1", 20),
            metric("auroc", 0.6, "lifechart", "X//2", 90),
            metric("mean_auroc", 0.75, "lifechart", "*", 110),
        )
    )
    assert header == ("AUROC, new within 365 days", "events", "lifechart", "boosted-trees")
    assert [row[0] for row in rows] == ["mean over outcomes", "Stroke", "Gout"]
    assert rows[2] == ("Gout", "20", "0.800 (0.700–0.900)", "0.700 (0.600–0.800)")
    assert rows[1][3] == "–"


def test_no_truth_no_shares() -> None:
    assert summary.shares(report(metric("auroc", 0.7, "lifechart", "X//1"))) == []
    assert summary.shares(report(metric("reachable_share", 0.9, "lifechart", "*")))[1:] == [
        ("lifechart", "0.900 (0.800–1.000)")
    ]


def test_a_long_report_is_cut_and_says_so() -> None:
    rows = summary.table(report(*(metric("auroc", 0.7, "lifechart", f"X//{n}") for n in range(40))))
    assert len(rows) == 1 + summary.SHOWN + 1
    assert rows[-1][0] == f"and {40 - summary.SHOWN} more in the report"
