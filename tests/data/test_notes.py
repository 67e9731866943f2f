"""Notes on their way into a data set: none by default, and if asked for only without what identifies.

The hospital is simulated, so it is known where every identifier stands in every note; what of a patient's own is left
in a data set's texts is counted, and bounded by the measured miss rate.
"""

from datetime import date

import orjson
import polars as pl
import pytest

from lifechart.core.errors import InputError
from lifechart.data.ingest import ingest
from lifechart.data.sources import fhir_identities
from lifechart.simulate import hospital
from tests.data.samples import KEY, Log

MISSED = 0.005
"""Share of gold identifiers that may be left: notes of 60 lives, strict, with what the record itself tells."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hospital")
    hospital.simulate(folder, 60, 4242, date(2026, 1, 1), progress=False)
    return folder


def events(dataset):
    return pl.read_parquet(dataset / "data/*/*.parquet")


def notes_of(dataset):
    return events(dataset).filter(pl.col("kind") == "note").get_column("text_value").drop_nulls()


def test_by_default_no_note_enters_a_data_set(made, tmp_path):
    account = ingest(made / "fhir", tmp_path / "out", key=KEY, log=Log(), workers=1)
    assert account.resources["DocumentReference"].keys() == {"held back"}
    assert account.identifiers_removed == {}
    assert notes_of(tmp_path / "out").len() == 0


def test_what_identifies_a_patient_is_not_in_the_texts_of_a_data_set(made, tmp_path):
    account = ingest(made / "fhir", tmp_path / "out", key=KEY, log=Log(), workers=1, notes="deidentify")
    texts = notes_of(tmp_path / "out")
    assert texts.len() == account.resources["DocumentReference"]["kept"] > 500
    assert account.identifiers_removed["NAME"] > texts.len()
    assert account.identifiers_removed["DATE"] > texts.len()
    whole = "\n".join(texts)
    gold = [orjson.loads(line) for line in (made / "gold/spans.ndjson").read_bytes().splitlines()]
    # Whoever it is of: each identifier of five signs or more, wherever it stands.
    values = [text for note in gold for _, _, _, text in note["spans"] if len(text) >= 5]
    left = [value for value in dict.fromkeys(values) if value in whole]
    assert len(left) <= MISSED * len(set(values)), f"{len(left)} of {len(set(values))} are left"
    # What the record itself tells is gone altogether: record numbers, phones, mail addresses.
    for line in (made / "fhir/Patient.ndjson").read_bytes().splitlines():
        told = fhir_identities.of_patient(orjson.loads(line))
        for type_ in ("mrn", "ssn", "phone", "email"):
            assert not [value for value in told.get(type_, ()) if value in whole]


def test_everything_but_the_notes_is_the_same_with_and_without_them(made, tmp_path):
    for mode in ("hold", "deidentify"):
        ingest(made / "fhir", tmp_path / mode, key=KEY, log=Log(), workers=1, notes=mode)
    held, taken = (events(tmp_path / mode).filter(pl.col("kind") != "note") for mode in ("hold", "deidentify"))
    assert held.equals(taken)


def test_dates_in_surrogate_texts_move_with_the_events(made, tmp_path):
    ingest(made / "fhir", tmp_path / "out", key=KEY, log=Log(), workers=1, notes="surrogates")
    found = events(tmp_path / "out").filter(pl.col("kind") == "note")
    dated = found.select(day=pl.col("time").dt.strftime("%Y-%m-%d"), text="text_value").drop_nulls()
    iso = dated.filter(pl.col("text").str.contains(r"\nDate: \d{4}-\d\d-\d\d\n"))
    assert iso.height > 50
    # The header gives the day of the visit, the event that of its end, which is the same but for stays and nights.
    same = iso.filter(pl.col("text").str.contains(pl.format("\nDate: {}\n", "day"), literal=False))
    assert same.height > 0.8 * iso.height


def test_modes_that_do_not_exist_or_do_not_fit_are_refused(made, tmp_path):
    with pytest.raises(InputError, match="--notes"):
        ingest(made / "fhir", tmp_path / "out", key=KEY, log=Log(), notes="plain")
    with pytest.raises(InputError, match="--notes"):
        ingest(made / "fhir", tmp_path / "out", key=KEY, log=Log(), notes="surrogates", dates="year")


def test_what_a_patient_resource_tells():
    told = fhir_identities.of_patient(
        {
            "resourceType": "Patient",
            "name": [{"family": "Roe", "given": ["Jane", "A."]}, {"text": "Janie"}, None],
            "telecom": [{"system": "phone", "value": "555-0100"}, {"system": "email", "value": "j@example.org"}],
            "address": [{"line": ["7 Elm St"], "city": "Ash", "postalCode": "12345"}],
            "identifier": [
                {"value": "A-1", "type": {"coding": [{"code": "MR"}]}},
                {"value": "999-00-1111", "type": {"coding": [{"code": "SS"}]}},
                {"value": 7},
            ],
            "contact": [{"name": {"family": "Poe"}, "telecom": [{"system": "phone", "value": "555-0101"}]}],
        }
    )
    assert told["name"] == ["Jane A. Roe", "Roe", "Jane A.", "Janie", "Poe", "Poe"]
    assert told["phone"] == ["555-0100", "555-0101"]
    assert told["mrn"] == ["A-1"]
    assert told["ssn"] == ["999-00-1111"]
    assert (told["street"], told["place"], told["zip"]) == (["7 Elm St"], ["Ash"], ["12345"])
