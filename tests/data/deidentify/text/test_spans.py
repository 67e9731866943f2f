"""How findings become the stretches that are taken out."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifechart.core.errors import InputError
from lifechart.data.deidentify.text import spans
from lifechart.data.deidentify.text.spans import Span, merge

TYPES = sorted(spans.types())


@st.composite
def findings(draw):
    text = draw(st.text(alphabet="Ab1 ,.-[]é\n", min_size=1, max_size=60))
    edges = st.integers(0, len(text))
    reasons = st.sampled_from(["rule:date", "tagger", "known", "again"])
    drawn = draw(st.lists(st.tuples(edges, edges, st.sampled_from(TYPES), reasons), max_size=8))
    return text, [Span(min(a, b), max(a, b), kind, reason) for a, b, kind, reason in drawn]


@given(findings())
def test_merged_spans_are_disjoint_in_order_and_cover_everything_found_but_blanks(case):
    text, found = case
    merged = merge(text, found)
    assert all(one.end <= other.start for one, other in itertools.pairwise(merged))
    assert all(0 <= one.start < one.end <= len(text) for one in merged)
    covered = {place for one in merged for place in range(one.start, one.end)}
    for span in found:
        assert all(place in covered or text[place].isspace() for place in range(span.start, span.end))


@given(findings())
def test_merging_again_changes_nothing(case):
    text, found = case
    once = merge(text, found)
    assert merge(text, once) == once


def test_two_halves_of_a_name_are_one_and_two_types_are_two():
    text = "Smith, John 4/5/2020"
    assert merge(text, [Span(0, 5, "name", "a"), Span(7, 11, "name", "b"), Span(12, 20, "date", "c")]) == [
        Span(0, 11, "name", "a"),
        Span(12, 20, "date", "c"),
    ]


def test_parts_of_an_address_are_one():
    text = "at Mayo Clinic in Rochester, MN on"
    found = [Span(3, 14, "facility", "a"), Span(18, 27, "place", "b"), Span(29, 31, "place", "b")]
    assert merge(text, found) == [Span(3, 31, "facility", "a")]


@pytest.mark.parametrize(
    ("text", "found", "whole"),
    [
        ("MRN 12345-JS now", Span(4, 9, "mrn", ""), "12345-JS"),
        ("ID #SF/99_8 now", Span(7, 9, "id", ""), "#SF/99_8"),
        ("Johnson", Span(0, 4, "name", ""), "Johnson"),
        ("12-34", Span(0, 2, "name", ""), "12"),
        ("ends 77-", Span(5, 7, "mrn", ""), "77"),
    ],
)
def test_a_span_holds_whole_words_and_a_number_what_is_written_in_one_with_it(text, found, whole):
    (span,) = merge(text, [found])
    assert text[span.start : span.end] == whole


def test_a_rule_says_what_an_overlap_is():
    found = [Span(0, 9, "name", "tagger"), Span(4, 11, "mrn", "rule:after.mrn"), Span(2, 6, "id", "known")]
    assert merge("abcdef 12345", found) == [Span(0, 12, "id", "known")]


def test_our_own_tags_are_kept():
    text = "seen by [NAME] on [DATE], [NOT_OURS]"
    kept = spans.tags(text)
    assert [text[start:end] for start, end in kept] == ["[NAME]", "[DATE]"]
    assert merge(text, [Span(8, 24, "name", "")], kept) == [Span(15, 17, "name", "")]


def test_every_type_has_one_of_the_18_classes_or_is_a_quasi_identifier():
    assert len(spans.classes()) == 19
    assert spans.classes()[-1] == "QUASI_IDENTIFIER"
    hipaa = {spans.types()[type_]["class"] for type_ in spans.redacted("hipaa")}
    assert hipaa == set(spans.classes()) - {"QUASI_IDENTIFIER"}
    assert spans.redacted("broad") == set(spans.types())


def test_an_unknown_policy_is_refused():
    with pytest.raises(InputError, match="--policy"):
        spans.redacted("none")
