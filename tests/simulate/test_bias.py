"""A planted under-diagnosis: hidden from the record and its export, kept in the truth, the same for the same seed."""

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from lifechart.core.errors import InputError
from lifechart.simulate import bias as module
from lifechart.simulate.bias import Underdiagnosis, recorded, unrecorded
from lifechart.simulate.export import export
from lifechart.simulate.hospital import write_truth

HYPERTENSION = "38341003"
ALL = Underdiagnosis("sex", "female", ("hypertension", "depression"), 1.0)


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("biased")
    write_truth(out / "truth", 60, 3, date(2026, 1, 1), bias=ALL)
    export(out / "truth", out)
    return out


def test_the_export_hides_what_the_truth_holds(hospital: Path) -> None:
    truth = pl.read_parquet(hospital / "truth" / "events.parquet")
    people = pl.read_parquet(hospital / "truth" / "people.parquet")
    women = people.filter(pl.col("sex") == "female")["patient_id"].to_list()
    ill = truth.filter((pl.col("kind") == "condition") & (pl.col("key") == "hypertension"))["life"].unique()
    of_women = people.filter(pl.col("life").is_in(ill.implode()) & (pl.col("sex") == "female"))
    assert of_women.height > 3, "the truth has women with it"
    lines = [line for line in (hospital / "fhir" / "Condition.ndjson").read_text().splitlines() if HYPERTENSION in line]
    assert lines, "men's are exported"
    assert not [line for line in lines if any(patient in line for patient in women)]


def test_no_drug_and_no_reason_gives_it_away(hospital: Path) -> None:
    truth = pl.read_parquet(hospital / "truth" / "events.parquet")
    missed = pl.read_parquet(hospital / "truth" / "unrecorded.parquet")
    kept = recorded(truth, missed)
    women = missed["life"].unique().implode()
    theirs = kept.filter(pl.col("life").is_in(women))
    assert theirs.filter(pl.col("key").is_in(["hypertension", "depression", "lisinopril", "sertraline"])).is_empty()
    assert theirs.filter(pl.col("detail").is_in(["hypertension", "depression"])).is_empty()
    others = ~pl.col("life").is_in(women)
    assert kept.filter(others).equals(truth.filter(others))
    results = pl.col("kind") == "observation"
    assert kept.filter(results).equals(truth.filter(results))
    assert (kept["kind"] == "encounter").sum() == (truth["kind"] == "encounter").sum()


def test_a_share_of_the_group_is_missed() -> None:
    people = pl.DataFrame({"life": range(4000), "sex": ["female", "male"] * 2000}, schema_overrides={"life": pl.Int32})
    some = Underdiagnosis("sex", "female", ("hypertension",), 0.4)
    missed = unrecorded(people, some, 1)
    assert 720 < missed.height < 880
    assert (missed["life"] % 2 == 0).all()
    assert missed.equals(unrecorded(people, some, 1))
    assert not missed.equals(unrecorded(people, some, 2))


@pytest.mark.parametrize(
    "text",
    [
        "sex=female",
        "sex=female:hypertension:0",
        "sex=female:nothing:0.4",
        "payer=x:obesity:0.4",
        "sex=female::0.4",
    ],
)
def test_what_cannot_be_planted(text: str) -> None:
    with pytest.raises(InputError):
        Underdiagnosis.parse(text)
    assert module.Underdiagnosis.parse("sex=female:hypertension:0.4").share == 0.4
