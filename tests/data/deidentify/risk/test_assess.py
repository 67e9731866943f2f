"""Classes, fingerprints and remedies against slow twins; the page, what it must not tell, and its signature."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import orjson
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifechart.core import durable
from lifechart.core.errors import InputError, IntegrityError
from lifechart.core.timeline import BIRTH, DEATH, RECORD_END
from lifechart.data import shards
from lifechart.data.deidentify.risk import assess, fingerprints, identifiers, page, signature
from lifechart.data.deidentify.risk.classes import (
    candidates_when_moved,
    class_sizes,
    histogram_of,
    least_class,
    risk_of,
)
from lifechart.data.deidentify.risk.remedies import remedy
from lifechart.ledger.keys import Signer, Verifier
from tests.data.samples import Log

Row = tuple[int, datetime | None, str, str, float | None]


def people_events(number: int, seed: int) -> pl.DataFrame:
    """A small town: everybody has sex, ZIP, birth, and some tests and diagnoses."""
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    for subject in range(number):
        born = datetime(1930 + int(rng.integers(70)), 1 + int(rng.integers(12)), 3)
        rows.append((subject, None, f"GENDER//{rng.choice(['female', 'male'])}", "demographic", None))
        rows.append((subject, None, f"ZIP3//{rng.choice(['100', '101', '112'])}", "demographic", None))
        rows.append((subject, born, BIRTH, "demographic", None))
        for _ in range(int(rng.integers(1, 9))):
            day = datetime(2010, 1, 1) + timedelta(days=int(rng.integers(400)), hours=int(rng.integers(24)))
            value = float(rng.integers(3)) if rng.random() < 0.5 else None
            rows.append((subject, day, f"LOINC//{rng.integers(5)}", "laboratory", value))
        if rng.random() < 0.2:
            rows.append((subject, datetime(2012, 3, 4), "ENCOUNTER//inpatient", "encounter", None))
            rows.append((subject, datetime(2012, 3, 5), f"ICD10CM//{rng.integers(4)}", "condition", None))
        if rng.random() < 0.1:
            rows.append((subject, datetime(2013, 1, 1), DEATH, "death", None))
        rows.append((subject, datetime(2014, 1, 1), RECORD_END, "record", None))
    frame = pl.DataFrame(rows, schema=["subject_id", "time", "code", "kind", "numeric_value"], orient="row")
    typed = frame.with_columns(
        pl.col("subject_id") + 1, pl.col("time").cast(pl.Datetime("us")), pl.col("numeric_value").cast(pl.Float32)
    )
    return typed.with_columns(text_value=pl.lit(None, pl.String), unit=pl.lit(None, pl.String))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("town") / "dataset"
    shards.write_dataset(folder, people_events(300, 5), {})
    return folder


FRAMES = st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["a", "b", None])), min_size=1, max_size=30)


@given(FRAMES)
def test_class_sizes_as_counted_by_hand(rows: list[tuple[int, str | None]]) -> None:
    frame = pl.DataFrame(rows, schema={"x": pl.Int64, "y": pl.String}, orient="row")
    slow = [sum(other == row for other in rows) for row in rows]
    sizes = class_sizes(frame, ["x", "y"])
    assert sizes.tolist() == slow
    assert histogram_of(sizes) == {n: slow.count(n) // n for n in set(slow)}
    risk = risk_of(sizes, len(rows), 0.09)
    assert risk.prosecutor_mean == pytest.approx(len(set(rows)) / len(rows))
    assert risk.journalist_mean == pytest.approx(risk.prosecutor_mean)
    assert risk.prosecutor_at_risk == pytest.approx(np.mean([n < 11 for n in slow]))
    assert risk.prosecutor_max == 1 / min(slow)


@given(st.lists(st.tuples(st.integers(0, 1), st.one_of(st.none(), st.integers(0, 50))), min_size=1, max_size=25))
def test_candidates_when_dates_moved_as_counted_by_hand(rows: list[tuple[int, int | None]]) -> None:
    frame = pl.DataFrame(rows, schema={"x": pl.Int64, "day": pl.Int64}, orient="row")

    def fits(one: tuple[int, int | None], other: tuple[int, int | None]) -> bool:
        if one[0] != other[0] or (one[1] is None) != (other[1] is None):
            return False
        return one[1] is None or abs(one[1] - other[1]) <= 7

    slow = [sum(fits(row, other) for other in rows) for row in rows]
    assert candidates_when_moved(frame, ["x"], "day", 7).tolist() == slow


def slow_unique(rows: pl.DataFrame, kind: str, person: int, chosen: list[tuple]) -> bool:
    """Look for another person who holds all of the chosen events, one by one."""
    for other in rows["person"].unique():
        if other == person:
            continue
        held = rows.filter(pl.col("person") == other)
        if kind == "code and days between":
            days = set(held.select("code", "day").iter_rows())
            first_code, first_day = chosen[0]
            anchors = [day for code, day in days if code == first_code]
            if any(all((c, a + d - first_day) in days for c, d in chosen) for a in anchors):
                return False
        else:
            columns = {"code": ["code"], "code and month": ["code", "month"], "code and value": ["code", "value"]}[kind]
            if set(chosen) <= set(held.select(columns).iter_rows()):
                return False
    return True


@pytest.mark.parametrize("kind", ["code", "code and value", "code and month", "code and days between"])
def test_fingerprints_as_a_slow_search_finds_them(kind: str) -> None:
    rows = fingerprints.clinical(people_events(25, 6))
    index = fingerprints._Index(rows, kind)
    columns = {"code": ["code"], "code and month": ["code", "month"], "code and value": ["code", "value"]}
    alone = 0
    for person in range(25):
        for number in (1, 2, 3):
            if index.counts[person] < number:
                continue
            generator = np.random.default_rng([person, number])
            held = rows.filter(pl.col("person") == person)
            if kind == "code and value":
                held = held.filter(pl.col("value").is_not_null())
            items = held.select(columns.get(kind, ["code", "day"])).unique(maintain_order=True).rows()
            assert len(items) == index.counts[person]
            chosen = [items[i] for i in generator.choice(len(items), number, replace=False)]
            found = index.unique(person, number, np.random.default_rng([person, number]))
            assert found == slow_unique(rows, kind, person, chosen)
            alone += found
    assert kind == "code" or alone > 5


def test_moving_each_persons_dates_hides_months_and_not_days_between() -> None:
    events = people_events(80, 7)
    offset = pl.duration(days=(pl.col("subject_id") * 37) % 300)
    moved = events.with_columns(time=pl.col("time") + offset)
    kinds = ("code", "code and days between")
    assert fingerprints.unicities(events, kinds) == fingerprints.unicities(moved, kinds)


def test_wilson_by_hand() -> None:
    interval = fingerprints.wilson(8, 10)
    assert (interval.low, interval.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_a_remedy_ends_with_few_at_risk_and_never_makes_it_worse(dataset: Path) -> None:
    known = identifiers.load()
    events = pl.concat([shards.read_split(dataset, split) for split in shards.SPLITS])
    people = identifiers.people_of(events, known.identifiers)
    for scenario in known.scenarios:
        steps = remedy(people, known.named(scenario.identifiers), 0.09)
        assert all(one.at_risk >= other.at_risk - 1e-9 for one, other in itertools.pairwise(steps))
        assert steps[-1].at_risk <= 0.05


def test_every_rung_of_every_ladder_makes_classes_larger(dataset: Path) -> None:
    known = identifiers.load()
    events = pl.concat([shards.read_split(dataset, split) for split in shards.SPLITS])
    people = identifiers.people_of(events, known.identifiers)
    for each in known.identifiers:
        before = class_sizes(people, [each.name])
        for rung in identifiers.rungs(each):
            after = class_sizes(
                people.with_columns(identifiers.coarser(pl.col(each.name), each, rung).alias("x")), ["x"]
            )
            assert (after >= before).all(), (each.name, rung)


def test_thresholds_and_tables_are_checked(dataset: Path, tmp_path: Path) -> None:
    assert (least_class(0.09), least_class(0.05)) == (11, 20)
    with pytest.raises(InputError, match="--threshold"):
        assess(dataset, threshold=1.5)
    with pytest.raises(InputError, match="--population"):
        assess(dataset, population=10)
    broken = tmp_path / "identifiers.toml"
    text = identifiers.DEFAULT.read_text()
    broken.write_text(text.replace('identifiers = ["birth", "sex", "zip3"]', 'identifiers = ["shoe"]'))
    with pytest.raises(InputError, match="shoe"):
        assess(dataset, table=broken)


def test_more_knowledge_is_never_less_risk_and_a_larger_population_never_more(dataset: Path) -> None:
    alone, drawn = assess(dataset), assess(dataset, population=30_000)
    by_name = {each.name: each.risk for each in alone.findings}
    assert by_name["register"].prosecutor_mean <= by_name["neighbour"].prosecutor_mean
    assert by_name["neighbour"].prosecutor_mean <= by_name["insurer"].prosecutor_mean
    for one, other in zip(alone.findings, drawn.findings, strict=True):
        assert other.risk.journalist_mean < one.risk.journalist_mean
        assert other.risk.prosecutor_mean == one.risk.prosecutor_mean


def test_the_same_data_give_the_same_digest(dataset: Path) -> None:
    assert assess(dataset, seed=3).digest == assess(dataset, seed=3).digest
    assert assess(dataset, seed=3).digest != assess(dataset, seed=4).digest


def test_no_small_count_is_published(dataset: Path) -> None:
    for finding in assess(dataset).to_json()["findings"]:
        assert not any(count is not None and 0 < count < 11 for count in finding["bands"].values())
        hidden = finding["records"] - sum(count or 0 for count in finding["bands"].values())
        assert hidden == 0 or hidden >= 11
        for share in (finding["share_unique"], finding["prosecutor"]["at_risk"], finding["homogeneous"]):
            assert share is None or not 0 < round(share * finding["records"]) < 11


@pytest.fixture
def assessed(dataset: Path, tmp_path: Path) -> Path:
    page.write(assess(dataset, population=5000), tmp_path / "risk", "Riverbend <Hospital>")
    return tmp_path / "risk"


def test_the_page_tells_what_stands_in_the_figures_and_loads_nothing(assessed: Path) -> None:
    text = (assessed / page.PAGE).read_text()
    content = orjson.loads((assessed / page.JSON).read_bytes())
    assert content["digest"] in text
    assert "Riverbend &lt;Hospital&gt;" in text
    assert not any(mark in text for mark in ("http://", "https://", "<script", "url("))
    for row in content["findings"]:
        assert row["title"] in text


def test_a_signature_is_of_the_page_the_figures_and_the_data_set(assessed: Path, dataset: Path) -> None:
    log, signer = Log(), Signer.generate("dr.expert")
    verifier = Verifier([signer.public])
    signature.record(assessed, log)
    assert signature.signatures(assessed, verifier) == []
    signature.sign_page(assessed, signer, log, role="expert", conclusion="very small")
    (signed,) = signature.signatures(assessed, verifier, shards.dataset_digest(dataset))
    assert (signed.name, signed.role, signed.conclusion) == ("dr.expert", "expert", "very small")
    assert [said.predicate["what"] for said in log.statements] == ["assessed", "signed"]
    assert {said.predicate["dataset"] for said in log.statements} == {shards.dataset_digest(dataset)}
    with pytest.raises(IntegrityError, match="another data set"):
        signature.signatures(assessed, verifier, "ab" * 32)
    with pytest.raises(IntegrityError, match="signed by"):
        signature.signatures(assessed, Verifier([Signer.generate("mallory").public]))
    with pytest.raises(InputError, match="conclusion"):
        signature.sign_page(assessed, signer, log, role="expert", conclusion=" ")


@pytest.mark.parametrize("name", [page.JSON, page.PAGE])
def test_a_changed_byte_is_told(assessed: Path, name: str) -> None:
    signer = Signer.generate("dr.expert")
    signature.sign_page(assessed, signer, Log(), role="expert", conclusion="very small")
    text = (assessed / name).read_text()
    (assessed / name).write_text(text.replace("above", "below", 1))
    with pytest.raises(IntegrityError, match=name):
        signature.signatures(assessed, Verifier([signer.public]))


def test_figures_changed_with_their_digest_are_told(assessed: Path) -> None:
    signer = Signer.generate("dr.expert")
    signature.sign_page(assessed, signer, Log(), role="expert", conclusion="very small")
    content = orjson.loads((assessed / page.JSON).read_bytes()) | {"population": 999_999}
    content["digest"] = durable.digest_of({key: value for key, value in content.items() if key != "digest"})
    durable.write_json(assessed / page.JSON, content)
    with pytest.raises(IntegrityError, match="assessment is not what was signed"):
        signature.signatures(assessed, Verifier([signer.public]))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_people_do_not_depend_on_the_order_of_rows(seed: int) -> None:
    known = identifiers.load().identifiers
    events = people_events(12, seed)
    shuffled = events.sample(fraction=1.0, shuffle=True, seed=seed)
    assert identifiers.people_of(events, known).equals(identifiers.people_of(shuffled, known))
