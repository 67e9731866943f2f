"""Are the drivers of a forecast faithful? Delete and insert curves, and the causes that the simulated hospital plants.

A hospital of 3,000 lives (`--lives N`; `--quick`: 1,000) is simulated, ingested and learnt from, or BENCH_EXPLAIN_MODEL
and BENCH_EXPLAIN_DATASET name a model and a data set of the same mapping. Held-out people are asked about once, at a
visit by lot, and the risk is explained whose drivers move it most. Three orders: the forecast's drivers; the network's
own gradients times inputs with the history's weights, from which the drivers are shortlisted before each is left out
in truth; and chance.

Planted causes: condition X on record multiplies the rate of Y at least threefold, or Y needs X (simulate/tables). Cases
are held-out charts with X and without Y; asked to explain Y, is a diagnosis that the tables say raises it the first
driver that does, and is it one at all? A diagnosis counts by its own entry and as the reason of its visit. A pair was
taught where Y followed X in 20 people or more of the training split (of BENCH_EXPLAIN_LEARNT, where that is another
data set than the one whose held-out people are asked about).
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console
from rich.progress import track
from rich.table import Table

from lifechart.core.settings import Settings
from lifechart.core.timeline import Timeline
from lifechart.data import shards
from lifechart.data.deidentify.structured import load_key
from lifechart.data.ingest import ingest
from lifechart.evaluate import faithfulness
from lifechart.evaluate.coverage import wilson
from lifechart.evaluate.faithfulness import Case, Curves
from lifechart.ledger.log import open_log
from lifechart.model.drivers import look
from lifechart.model.forecaster import NetworkForecaster, load_forecaster
from lifechart.model.questions import ask_prompts
from lifechart.model.tokens import tokenise_timeline
from lifechart.model.train import train
from lifechart.simulate import tables
from lifechart.simulate.hospital import simulate

SEED, TODAY, HORIZON = 23, date(2025, 1, 1), 365
LIVES, QUICK_LIVES = 3_000, 1_000
CASES, QUICK_CASES = 80, 20
PLANTED = 8
"""Cases of each planted cause."""
MOST_CHARTS = 1_000
LEAST_RATIO, TAUGHT = 3.0, 20

Chart = tuple[Timeline, datetime]


def main(quick: bool, lives: int | None = None) -> dict[str, float]:
    """Run everything, print the tables, and return the figures."""
    with tempfile.TemporaryDirectory() as passing:
        forecaster, events, learnt = _model(Path(passing), lives or (QUICK_LIVES if quick else LIVES))
        charts = list(itertools.islice(_charts(events), MOST_CHARTS))
        few = QUICK_CASES if quick else CASES
        shown = track(charts[:few], "Cases", console=Console(stderr=True), transient=True)
        found = [faithfulness.case_of(forecaster, timeline, as_of, HORIZON) for timeline, as_of in shown]
        cases = [case for case in found if case is not None]
        orders = {
            "drivers": faithfulness.by_drivers,
            "gradient": lambda case: _by_gradient(forecaster, case),
            "random": faithfulness.at_random(SEED),
        }
        curves = faithfulness.curves(forecaster, cases, orders)
        figures = _show(curves, list(orders), len(cases))
        return figures | _planted(forecaster, charts, learnt, 3 if quick else PLANTED)


def _model(folder: Path, lives: int) -> tuple[NetworkForecaster, pl.DataFrame, pl.DataFrame]:
    """Return a model, the events of people whom it did not learn from, and of those whom it did."""
    kept, dataset = os.environ.get("BENCH_EXPLAIN_MODEL"), os.environ.get("BENCH_EXPLAIN_DATASET")
    if kept and dataset:
        forecaster, held_out = load_forecaster(Path(kept)), shards.read_split(Path(dataset), "held_out")
        learnt = shards.read_split(Path(os.environ.get("BENCH_EXPLAIN_LEARNT", dataset)), "train")
    else:
        settings = Settings(home=folder / "home")
        simulate(folder / "hospital", lives, SEED, TODAY)
        with open_log(settings) as log:
            ingest(folder / "hospital/fhir", folder / "dataset", key=load_key(settings), log=log)
            train(folder / "dataset", folder / "model", size="xs", seed=SEED, log=log)
        forecaster, held_out = load_forecaster(folder / "model"), shards.read_split(folder / "dataset", "held_out")
        learnt = shards.read_split(folder / "dataset", "train")
    assert isinstance(forecaster, NetworkForecaster), "a model of timelines"
    return forecaster, held_out, learnt


def _charts(events: pl.DataFrame) -> Iterator[Chart]:
    """Yield each held-out adult's chart and one visit by lot, in an order by lot."""
    lot = np.random.default_rng(SEED)
    parts = events.partition_by("subject_id", maintain_order=True)
    for place in lot.permutation(len(parts)):
        part = parts[place]
        timeline = Timeline.of(int(part["subject_id"][0]), part.drop("subject_id"))
        visits = part.filter(pl.col("kind") == "encounter")["time"].drop_nulls().to_list()
        adult = [each for each in visits if (timeline.age_at(each) or 0.0) >= 18]
        if len(adult) >= 3:
            yield timeline, adult[int(lot.integers(2, len(adult)))]


def _by_gradient(forecaster: NetworkForecaster, case: Case) -> Sequence[int]:
    """Return the rows in the order in which the network's gradients and the history's weights put them."""
    model = forecaster.model
    tokens = tokenise_timeline(case.known, model.vocabulary)
    prompt = pl.DataFrame({"subject_id": [case.known.subject_id], "prediction_time": [case.as_of]})
    seen = look(model, forecaster.collator, tokens, ask_prompts(tokens, prompt))
    rows: list[int] = tokens.row[seen.chosen].tolist()
    return rows


def _show(curves: Curves, orders: list[str], cases: int) -> dict[str, float]:
    """Print the areas, and return them."""
    table = Table(title=f"{cases} charts, one explained risk each, {faithfulness.MOST_EVENTS} events at most")
    for column in ("order", "delete: moved (more is truer)", "insert: still off (less is truer)"):
        table.add_column(column)
    figures: dict[str, float] = {}
    for order in orders:
        areas = [curves.area(kind, order) for kind in ("deleted", "inserted")]
        table.add_row(order, *(_said(each.value, each.interval()) for each in areas))
        figures |= {f"delete_{order}": round(areas[0].value, 4), f"insert_{order}": round(areas[1].value, 4)}
    for other in orders[1:]:
        areas = [curves.area(kind, orders[0], other) for kind in ("deleted", "inserted")]
        table.add_row(f"drivers less {other}", *(_said(each.value, each.interval()) for each in areas))
    Console(width=120).print(table)
    return figures


def _planted(
    forecaster: NetworkForecaster, charts: Sequence[Chart], learnt: pl.DataFrame, most: int
) -> dict[str, float]:  # fmt: skip
    """Print, by planted cause, how often it is the first driver, and return the shares."""
    codes = [set(timeline.until(as_of).events["code"]) for timeline, as_of in charts]
    table = Table(title="Planted causes: a diagnosis on record that multiplies the rate of another")
    for column in ("cause", "outcome", "times", "followed", "charts", "a cause is first", "a cause is a driver"):
        table.add_column(column)
    causes = dict(planted(forecaster.outcomes))
    followed = _followed(learnt, list(causes))
    tally = {True: np.zeros(3), False: np.zeros(3)}
    for (cause, outcome), ratio in causes.items():
        raising = {each for (each, of), _ in causes.items() if of == outcome}
        raising |= {f"REASON//{each}" for each in raising}
        hits = [
            faithfulness.first_is_cause(forecaster.explain(known, as_of, outcome), outcome, HORIZON, raising)
            for known, as_of in _with(charts, codes, cause, outcome, most)
        ]
        if hits:
            number = followed[cause, outcome]
            tally[number >= TAUGHT] += (sum(one for one, _ in hits), sum(other for _, other in hits), len(hits))
            share = [f"{sum(each) / len(hits):.0%}" for each in zip(*hits, strict=True)]
            times = f"{ratio:g}" if ratio else "needed"
            table.add_row(_name(cause), _name(outcome), times, str(number), str(len(hits)), *share)
    table.add_section()
    for taught, words in ((True, f"taught: {TAUGHT} or more"), (False, "not taught")):
        first, among, total = tally[taught]
        if total:
            said = [_said(each / total, wilson(each, total)) for each in (first, among)]
            table.add_row(words, "", "", "", f"{total:.0f}", *said)
    Console(width=140).print(table)
    first, among, total = tally[True]
    everything = tally[True] + tally[False]
    return {
        "planted_first": round(float(first / max(total, 1)), 4),
        "planted_among": round(float(among / max(total, 1)), 4),
        "planted_first_untaught_too": round(float(everything[0] / max(everything[2], 1)), 4),
    }


def _followed(learnt: pl.DataFrame, pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """Return in how many people each outcome first came after its cause did."""
    wanted = sorted({code for pair in pairs for code in pair})
    code = pl.col("code").cast(pl.String)
    onsets = learnt.filter(code.is_in(wanted)).group_by("subject_id", code=code).agg(pl.col("time").min())
    by_code = {str(key[0]): part.drop("code") for key, part in onsets.group_by("code")}
    nobody = onsets.head(0).drop("code")
    found = {}
    for cause, outcome in pairs:
        both = by_code.get(cause, nobody).join(by_code.get(outcome, nobody), on="subject_id", suffix="_after")
        found[cause, outcome] = both.filter(pl.col("time_after") > pl.col("time")).height
    return found


def planted(outcomes: Sequence[str]) -> Iterator[tuple[tuple[str, str], float]]:
    """Yield (cause, outcome) as codes with the rate ratio; 0 where the outcome cannot be without the cause."""
    codes = {row["key"]: f"SNOMED//{row['snomed']}" for row in tables.rows("conditions")}
    ratios = [(row["from"], row["to"], float(row["rr"])) for row in tables.rows("risk_factors")]
    ratios += [(row["feature"], row["process"], 0.0) for row in tables.rows("requirements") if row["rule"] == "needs"]
    for cause, outcome, ratio in ratios:
        known = cause in codes and outcome in codes and cause != outcome
        if known and (ratio >= LEAST_RATIO or not ratio) and codes[outcome] in outcomes:
            yield (codes[cause], codes[outcome]), ratio


def _with(
    charts: Sequence[Chart], codes: Sequence[set[str]], cause: str, outcome: str, most: int
) -> Iterator[Chart]:  # fmt: skip
    """Yield up to `most` charts that held the cause and not the outcome at their moment.  codes: each chart's then."""
    held = (chart for chart, mine in zip(charts, codes, strict=True) if cause in mine and outcome not in mine)
    yield from itertools.islice(held, most)


def _name(code: str) -> str:
    return next(row["display"] for row in tables.rows("conditions") if f"SNOMED//{row['snomed']}" == code)


def _said(value: float, interval: object) -> str:
    low, high = (getattr(interval, end, float("nan")) for end in ("low", "high"))
    return f"{value:.3f} ({low:.3f} to {high:.3f})"
