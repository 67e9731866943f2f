"""Refusals say what was wrong without saying who."""

import pickle

from hypothesis import given
from hypothesis import strategies as st

from lifechart.core.errors import InputError, LifechartError, RecordError, shape_of


def test_an_input_error_names_key_value_and_expectation() -> None:
    error = InputError("--size", "xxl", "one of xs, s, m, l")
    assert isinstance(error, LifechartError)
    assert all(part in str(error) for part in ("--size", "xxl", "one of xs, s, m, l"))


@given(st.text(min_size=1))
def test_no_letter_or_digit_of_a_record_survives_in_its_error(value: str) -> None:
    shown = shape_of(value)
    kept = {character for character in shown if character.isalpha() or character.isdigit()}
    assert kept <= {"A", "a", "9"}


def test_a_record_error_hides_the_name() -> None:
    assert "Müller" not in str(RecordError("Patient.name", "Müller, Zoë", "nothing"))


def test_an_error_keeps_its_words_between_processes() -> None:
    for error in (InputError("--size", "xxl", "one of xs, s, m, l"), RecordError("Patient.name", "Müller", "nothing")):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert (str(again), again.key, again.value) == (str(error), error.key, error.value)
