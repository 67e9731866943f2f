"""Whole texts: offsets, tags, what is known of the patient, other languages, and lines of JSON."""

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifechart.core.errors import InputError, RecordError
from lifechart.data.deidentify.text import language, spans
from lifechart.data.deidentify.text.known import known
from lifechart.data.deidentify.text.lines import deidentified
from lifechart.data.deidentify.text.redact import Request, redact
from lifechart.data.deidentify.text.surrogates import tag

WORDS = [
    "Dr.",
    "Smith",
    "josé",
    "MRN",
    "12345-JS",
    "on",
    "March",
    "3",
    ",",
    "2021",
    "\n",
    "é",
    "😀",
    "[NAME]",
    "Mayo",
    "Clinic",
]
texts = st.lists(st.sampled_from(WORDS), max_size=25).map(" ".join) | st.text(max_size=80)


def rebuilt(text, found):
    """What the output must be, from the input and the spans alone."""
    at, parts = 0, []
    for span in found:
        parts += [text[at : span.start], tag(span.type)]
        at = span.end
    return "".join([*parts, text[at:]])


@given(texts)
@settings(max_examples=150)
def test_offsets_count_code_points_of_the_input(text):
    (result,) = redact([Request(text)])
    assert result.text == rebuilt(text, result.spans)
    assert all(one.end <= other.start for one, other in zip(result.spans, result.spans[1:], strict=False))


@given(texts)
@settings(max_examples=100)
def test_our_tags_stay_as_they_are(text):
    (once,) = redact([Request(text, "en")])
    (twice,) = redact([Request(once.text, "en")])
    for start, end in spans.tags(once.text):
        assert not any(span.start < end and start < span.end for span in twice.spans)


def test_a_query():
    text = (
        "Is apixaban safe for Maria Lopez, 71yo, seen at Mayo Clinic on Feb 3rd '23 (MRN: MC-889911, tel 507-555-0101)?"
    )
    (result,) = redact([Request(text)])
    assert result.text == "Is apixaban safe for [NAME], 71yo, seen at [FACILITY] on [DATE] (MRN: [MRN], tel [PHONE])?"
    assert [span.class_ for span in result.spans] == [
        "NAME",
        "GEOGRAPHIC_LOCATION",
        "DATE",
        "MEDICAL_RECORD_NUMBER",
        "PHONE_NUMBER",
    ]


def test_spanish_has_its_own_policy_and_another_can_be_asked_for():
    text = "Paciente varón de 45 años, natural de Burgos, ingresado el 3 de mayo de 2019."
    (broad,), (hipaa,) = redact([Request(text)]), redact([Request(text)], policy="hipaa")
    assert broad.language == "es"
    assert "[AGE]" in broad.text
    assert "[SEX]" in broad.text
    assert "varón de 45 años" in hipaa.text
    assert "Burgos" not in hipaa.text
    assert "mayo" not in hipaa.text


def test_the_patients_own_identifiers_are_found_however_they_are_written():
    own = known({"name": ["María-José Núñez", "Will"], "mrn": ["A 10-20.30"], "street": ["7 Kings Walk"]})
    text = "MARIA JOSE NUNEZ came; Nunez (no. a102030) of 7, kings walk. Will and maria will stay."
    found = [text[span.start : span.end] for span in own.find(text)]
    assert {"MARIA JOSE NUNEZ", "Nunez", "a102030", "7, kings walk"} <= set(found)
    assert {"Will", "maria"} <= set(found)
    assert "will" not in found


def test_a_name_that_was_found_once_is_found_again():
    (result,) = redact([Request("Patient: Wilhelmina Rutherford\n\nRutherford stood up. No rutherford sign.", "en")])
    assert result.text.count("Rutherford") == 0


def test_languages_are_told_by_their_words():
    assert language.detect("The patient was seen in clinic for follow up of asthma") == "en"
    assert language.detect("Se trata de una paciente de 40 años que acude por tos") == "es"
    assert language.detect("12/3 130/80") == "en"
    entries = list(language.known().values())
    assert not entries[0]["words"] & entries[1]["words"]


def lines(*entries, **options):
    numbered = [(n, e if isinstance(e, bytes) else orjson.dumps(e)) for n, e in enumerate(entries, start=1)]
    return [orjson.loads(line) for line in deidentified(numbered, **options)]


def test_a_line_gives_a_line():
    first, second = lines({"text": "Seen by Dr. Jane Roe."}, b"", {"text": "", "language": "es"})
    assert first["text"] == "Seen by [NAME]."
    assert first["spans"] == [
        {"start": 8, "end": 20, "class": "NAME", "type": "name", "reason": first["spans"][0]["reason"]}
    ]
    assert second == {"text": "", "language": "es", "spans": []}


@pytest.mark.parametrize(
    "entry",
    [
        b"{not json Smith",
        b'"Smith"',
        b'{"txt": "Smith"}',
        b'{"text": ["Smith"]}',
        b"\xff\xfe Smith",
        {"text": "x", "language": "Smith"},
        {"text": "x", "known": {"Smith": ["Smith"]}},
        {"text": "x", "known": {"name": "Smith"}},
        {"text": "x", "patient": ["Smith"]},
    ],
)
def test_a_bad_line_is_named_by_number_and_not_by_content(entry):
    with pytest.raises(RecordError) as refused:
        lines({"text": "fine"}, entry)
    assert "line 2" in str(refused.value)
    assert "Smith" not in str(refused.value)


def test_an_unknown_language_or_policy_is_refused():
    with pytest.raises(InputError, match="language"):
        lines({"text": "x"}, language="xx")
    with pytest.raises(InputError, match="--policy"):
        lines({"text": "x"}, policy="xx")


def test_lines_that_name_a_patient_get_surrogates_where_there_is_a_key():
    (line,) = lines({"text": "Jane Roe, MRN 881-22.", "patient": "p1"}, key=b"k" * 32)
    assert "Jane Roe" not in line["text"]
    assert "881-22" not in line["text"]
    assert "[" not in line["text"]
