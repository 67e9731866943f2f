"""Surrogates: the same for the same, dates that keep their intervals, forms that stay."""

import re
from datetime import date, timedelta

import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lifechart.data.deidentify import dates
from lifechart.data.deidentify.text.moved_dates import moved
from lifechart.data.deidentify.text.surrogates import Surrogates

KEY = b"k" * 32
ONE, OTHER = Surrogates(KEY, "one"), Surrogates(KEY, "other")
MONTHS = [date(2001, month, 1).strftime("%B") for month in range(1, 13)]
DAYS = st.dates(date(1900, 1, 1), date(2030, 1, 1))


@given(DAYS, st.integers(-365, 365), st.sampled_from(["%m/%d/%Y", "%Y-%m-%d", "%B %d, %Y", "%d %b %Y", "%b. %d %Y"]))
def test_a_date_keeps_its_form_and_moves_by_the_days(day, days, form):
    new = day + timedelta(days=days)
    # May is its own abbreviation, and 10/10 does not show whether nine would be 9 or 09.
    assume("%b" not in form or 5 not in (day.month, new.month))
    assume(form == "%Y-%m-%d" or day.day < 10 or (form == "%m/%d/%Y" and day.month < 10) or (new.day > 9 < new.month))
    assert moved(day.strftime(form), days, MONTHS, day_first=False) == new.strftime(form)


@given(DAYS, DAYS)
def test_intervals_survive(first, second):
    a, b = (date.fromisoformat(ONE.of("date", day.isoformat(), "en")) for day in (first, second))
    assert a - b == first - second
    assert (a - first).days == int(dates.offsets(KEY, pl.Series(["one"])).dt.total_days()[0])


@pytest.mark.parametrize(
    ("text", "days", "becomes"),
    [
        ("March 3rd, 2021", 30, "April 2nd, 2021"),
        ("3rd of May '21", 1, "4th of May '21"),
        ("Jan 1 '23", -1, "Dec 31 '22"),
        ("1/2", 31, "2/2"),
        ("5/2021", 31, "6/2021"),
        ("2019", 200, "2020"),
        ("SEPT 30 2020", 1, "OCT 1 2020"),
        ("last July", 10, None),
        ("Christmas", 10, None),
        ("13/45/2020", 1, None),
        ("29/02/2021", 1, None),
        ("1-2-3-4", 1, None),
    ],
)
def test_dates_as_people_write_them(text, days, becomes):
    assert moved(text, days, MONTHS, day_first=False) == becomes


def test_spanish_dates_have_the_day_first():
    assert ONE.of("date", "3 de mayo de 2021", "es").count(" de ") == 2
    months = [
        "enero",
        "febrero",
        "marzo",
        "abril",
        "mayo",
        "junio",
        "julio",
        "agosto",
        "septiembre",
        "octubre",
        "noviembre",
        "diciembre",
    ]
    assert moved("31 de enero de 2020", 1, months, day_first=True) == "1 de febrero de 2020"
    assert moved("03/04/2020", 1, months, day_first=True) == "04/04/2020"


def test_a_name_stays_one_person():
    whole = ONE.of("name", "Dr. Mary SMITH-jones", "en")
    assert whole.startswith("Dr. ")
    given_name, family = ONE.of("name", "Mary", "en"), ONE.of("name", "SMITH", "en")
    assert whole.split()[1] == given_name
    assert family in whole
    assert family.isupper()
    assert ONE.of("name", "smith", "en") == family.lower()
    names = [Surrogates(KEY, str(number)).of("name", "Mary", "en") for number in range(40)]
    assert len(set(names)) > 10


def test_a_surrogate_is_the_patients_own():
    assert ONE.of("mrn", "AB-123456", "en") == ONE.of("mrn", "AB-123456", "en")
    assert ONE.of("mrn", "AB-123456", "en") != OTHER.of("mrn", "AB-123456", "en")
    assert Surrogates(b"j" * 32, "one").of("mrn", "AB-123456", "en") != ONE.of("mrn", "AB-123456", "en")


@given(st.sampled_from(["mrn", "plan", "account", "license", "id"]), st.from_regex(r"[A-Z]{2}-\d{6}", fullmatch=True))
def test_a_number_keeps_its_form(type_, value):
    assert re.fullmatch(r"[A-Z]{2}-\d{6}", ONE.of(type_, value, "en"))


def test_ranges_that_are_nobodys():
    assert re.fullmatch(r"\(\d{3}\) 555-01\d\d", ONE.of("phone", "(617) 312-9988", "en"))
    assert ONE.of("ssn", "123-45-6789", "en").startswith("9")
    assert ONE.of("email", "Jane@Mail.com", "en").endswith("@example.org")
    assert ONE.of("ip", "10.1.2.3", "en").startswith("192.0.2.")


def test_ages_and_areas_follow_safe_harbor():
    assert ONE.of("old_age", "93", "en") == "90+"
    assert ONE.of("zip", "85721-1234", "en") == "857"
    assert ONE.of("zip", "03601", "en") == "000"
    assert ONE.of("date", "last July", "en") == "[DATE]"
    assert ONE.of("phone", "the usual", "en") == "[PHONE]"
