"""Events to arrays: a shifted life has the same tokens, and a chart alone those that it has in bulk."""

from dataclasses import fields
from datetime import datetime, timedelta

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from lifechart.core.timeline import Timeline
from lifechart.model.tokens import DAY_US, RECENT_DAYS, Tokens, timeline_entries, tokenise, tokenise_timeline, tokens_of
from lifechart.model.vocabulary import Vocabulary, build_vocabulary
from tests.model.clinic import SICK, TEST, VISIT, clinic

VOCABULARY = build_vocabulary(clinic(60, seed=3), fewest_onsets=5)
UNSHIFTED = ("subject_ids", "origin")

dated = st.tuples(st.integers(0, 30_000), st.sampled_from([SICK, TEST, VISIT, "NEW//1"]), st.floats(0, 300))


def timeline(events: list[tuple[int, str, float]], birth: bool = True) -> Timeline:
    start = datetime(1950, 5, 1)
    rows = [{"time": None, "code": "GENDER//female", "kind": "demographic"}]
    rows += [{"time": start, "code": "MEDS_BIRTH", "kind": "demographic"}] if birth else []
    rows += [
        {
            "time": start + timedelta(hours=hours), "code": code, "kind": "laboratory" if code == TEST else "condition",
            "numeric_value": value if code == TEST else None,
        }
        for hours, code, value in events
    ]  # fmt: skip
    return Timeline.of(7, rows)


def same(ours: Tokens, theirs: Tokens, but: tuple[str, ...] = ()) -> None:
    for each in fields(Tokens):
        if each.name not in but:
            np.testing.assert_array_equal(getattr(ours, each.name), getattr(theirs, each.name), err_msg=each.name)


@given(st.lists(dated, max_size=20), st.integers(-20_000, 20_000), st.booleans())
def test_moving_a_life_in_time_leaves_its_tokens_unchanged(
    events: list[tuple[int, str, float]], days: int, birth: bool
) -> None:
    life = timeline(events, birth)
    same(
        tokenise_timeline(life, VOCABULARY),
        tokenise_timeline(life.shifted(timedelta(days=days)), VOCABULARY),
        UNSHIFTED,
    )


@given(st.lists(dated, min_size=1, max_size=30))
def test_each_codes_past_agrees_with_a_plain_loop(events: list[tuple[int, str, float]]) -> None:
    tokens = tokenise_timeline(timeline(events), VOCABULARY)
    for i in range(len(tokens)):
        past = [j for j in range(i + 1) if tokens.code[j] == tokens.code[i]]
        ahead = [j for j in range(i + 1, len(tokens)) if tokens.code[j] == tokens.code[i]]
        levels = [tokens.level[j] for j in past if not np.isnan(tokens.level[j])]
        fade = [np.exp(-(tokens.micros[i] - tokens.micros[j]) / DAY_US / RECENT_DAYS) for j in past]
        assert tokens.count[i] == len(past)
        assert tokens.next_same[i] == (ahead[0] if ahead else len(tokens))
        assert tokens.first_micros[i] == tokens.micros[past[0]]
        np.testing.assert_allclose(tokens.recent[i], sum(fade), rtol=1e-5)
        np.testing.assert_allclose(tokens.mean_level[i], np.mean(levels) if levels else np.nan, rtol=1e-5)
        here = np.array(fade)[[not np.isnan(tokens.level[j]) for j in past]]
        lately = (here * levels).sum() / here.sum() if levels else np.nan
        np.testing.assert_allclose(tokens.recent_level[i], lately, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(tokens.last_level[i], levels[-1] if levels else np.nan, rtol=1e-6)


def test_one_chart_and_the_bulk_give_the_same_tokens(events: pl.DataFrame, vocabulary: Vocabulary) -> None:
    bulk = tokenise(events, vocabulary)
    for index in (0, 57, 399):
        subject = int(bulk.subject_ids[index])
        rows = events.filter(pl.col("subject_id") == subject).drop("subject_id")
        single = tokenise_timeline(Timeline.of(subject, rows), vocabulary)
        first, last = bulk.starts[index], bulk.starts[index + 1]
        for name in ("code", "micros", "level", "count", "recent", "mean_level", "outcome", "gap", "static"):
            np.testing.assert_array_equal(getattr(single, name), getattr(bulk, name)[first:last], err_msg=name)
        assert single.end[0] == bulk.end[index]


def test_leaving_an_event_out_is_never_having_had_it(events: pl.DataFrame, vocabulary: Vocabulary) -> None:
    subject = int(events["subject_id"][0])
    rows = events.filter(pl.col("subject_id") == subject).drop("subject_id")
    life = Timeline.of(subject, rows)
    left_out = np.array([0, 1, len(life) // 2, len(life) - 1])
    variants = tokens_of(timeline_entries(life, vocabulary).without_each(left_out), vocabulary)
    for number, row in enumerate(left_out):
        without = Timeline(subject, life.events.with_row_index().filter(pl.col("index") != row).drop("index"))
        alone = tokenise_timeline(without, vocabulary)
        mine = slice(variants.starts[number], variants.starts[number + 1])
        for name in ("code", "micros", "level", "tail", "count", "recent", "mean_level", "outcome", "gap", "static"):
            np.testing.assert_array_equal(getattr(variants, name)[mine], getattr(alone, name), err_msg=name)
        assert (variants.origin[number], variants.end[number]) == (alone.origin[0], alone.end[0])


def test_the_order_in_which_one_visit_is_listed_does_not_matter(events: pl.DataFrame, vocabulary: Vocabulary) -> None:
    shuffled = events.sample(fraction=1.0, shuffle=True, seed=5)
    same(tokenise(events, vocabulary), tokenise(shuffled, vocabulary), but=("row",))


def test_the_records_end_is_never_a_token_and_ends_observation(vocabulary: Vocabulary) -> None:
    life = timeline([(24 * 100, VISIT, 0.0)]).events
    end = pl.DataFrame(
        {"time": [datetime(1950, 5, 1) + timedelta(days=500)], "code": ["RECORD_END"], "kind": ["record"]}
    )
    ended = Timeline.of(7, pl.concat([life, end.cast({"time": pl.Datetime("us")})], how="diagonal"))
    tokens, before = tokenise_timeline(ended, vocabulary), tokenise_timeline(Timeline.of(7, life), vocabulary)
    assert len(tokens) == len(before)
    assert tokens.end[0] == 500 * DAY_US
    assert before.end[0] == 100 * DAY_US


def test_a_value_in_another_unit_is_read_as_no_value(vocabulary: Vocabulary) -> None:
    def level(unit: str | None) -> float:
        life = Timeline.of(
            7,
            [{"time": datetime(2000, 1, 1), "code": TEST, "numeric_value": 100.0, "unit": unit, "kind": "laboratory"}],
        )
        return float(tokenise_timeline(life, vocabulary).level[-1])

    assert np.isnan(level("mmol/L"))
    assert level("mg/dL") == level(None)


def test_levels_rise_with_values_and_only_tails_grow_beyond_the_outer_knots(vocabulary: Vocabulary) -> None:
    values = [-1e4, 20.0, 80.0, 95.0, 100.0, 120.0, 400.0, 1e6]
    rows = [
        {"time": datetime(2000, 1, 1 + i), "code": TEST, "numeric_value": value, "unit": "mg/dL", "kind": "laboratory"}
        for i, value in enumerate(values)
    ]
    tokens = tokenise_timeline(Timeline.of(7, rows), vocabulary)
    assert (np.diff(tokens.level[1:]) >= 0).all()
    assert (tokens.level[1:3] == 0).all()
    assert (tokens.level[-2:] == len(vocabulary.knots[0]) - 1).all()
    assert (np.diff(tokens.tail[[1, 2]]) > 0).all()
    assert tokens.tail[4] == 0
