"""Generated futures: the same with and without kept keys, read as records are, and of one mind with the other head."""

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from lifechart.core.errors import InputError
from lifechart.core.predicate import Predicate, Target
from lifechart.core.timeline import DEATH, RECORD_END
from lifechart.model import generate as generation
from lifechart.model.backbone import Backbone
from lifechart.model.batches import Collator
from lifechart.model.encoders.event import event_arrays
from lifechart.model.forecaster import NetworkForecaster
from lifechart.model.futures import DIED, LENGTH, MET
from lifechart.model.generate import Ask, generate, prompt_rows
from lifechart.model.heads import cumulative_incidence
from lifechart.model.inference import tell
from lifechart.model.network import Network
from lifechart.model.questions import Questions, sample_questions
from lifechart.model.tokens import Tokens, tokenise
from lifechart.model.vocabulary import Vocabulary
from tests.model.clinic import SICK, STROKE, TEST, VISIT

TARGETS = tuple(Target(code, (Predicate((code,)),)) for code in (DEATH, SICK, STROKE, VISIT))
HIGH = Target("high", (Predicate((TEST,), low=115.0),))

MINUTE = 60_000_000


class Uncached:
    """The slow twin: every future's whole row through the backbone again, for each event of each."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone

    def read(self, x_PTD: Tensor, days_PT: Tensor, place_PT: Tensor, lengths_P: Tensor, futures: int) -> Tensor:
        self.rows = [
            [(x_PTD[p, :n], days_PT[p, :n], place_PT[p, :n]) for _ in range(futures)]
            for p, n in enumerate(lengths_P.tolist())
        ]
        return torch.stack([self.last(row[0]) for row in self.rows])

    def last(self, row: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        x, days, place = (each.unsqueeze(0) for each in row)
        return self.backbone(x, days, place)[0, -1]

    def step(self, x_PND: Tensor, days_PN: Tensor, place_PN: Tensor) -> Tensor:
        for p, row in enumerate(self.rows):
            for n, (x, days, place) in enumerate(row):
                new = (x_PND[p, n : n + 1], days_PN[p, n : n + 1], place_PN[p, n : n + 1])
                row[n] = tuple(torch.cat([old, one]) for old, one in zip((x, days, place), new, strict=True))
        return torch.stack([torch.stack([self.last(each) for each in row]) for row in self.rows])

    def retire(self, prompts: Tensor, futures_PN: Tensor) -> None:
        self.rows = [
            [self.rows[p][n] for n in chosen] for p, chosen in zip(prompts.tolist(), futures_PN.tolist(), strict=True)
        ]


@pytest.fixture(scope="module")
def network(forecaster: NetworkForecaster) -> Network:
    return forecaster.model.network


@pytest.fixture(scope="module")
def collator(forecaster: NetworkForecaster) -> Collator:
    return forecaster.collator


@pytest.fixture(scope="module")
def later(later_events: pl.DataFrame, vocabulary: Vocabulary) -> Tokens:
    return tokenise(later_events, vocabulary)


def some(tokens: Tokens, number: int, seed: int = 0) -> Questions:
    """Questions in records that have begun."""
    questions = sample_questions(tokens, 2.0, np.random.default_rng(seed))
    begun = np.flatnonzero(~tokens.static[questions.stop - 1])
    return questions.take(np.random.default_rng(seed).permutation(begun)[:number])


def test_cached_generation_equals_uncached_recomputation(network: Network, collator: Collator, later: Tokens) -> None:
    ask = Ask(futures=4, days=1500.0, targets=(*TARGETS, HIGH), horizons=(365.0, 1500.0), seed=3)
    fast = generate(network, collator, later, some(later, 12), ask)
    slow = generate(network, collator, later, some(later, 12), ask, reader=Uncached)
    assert len(fast) > 200
    for name in ("prompt", "future", "code", "ended"):
        np.testing.assert_array_equal(getattr(fast, name), getattr(slow, name), err_msg=name)
    # Time is continuous: the two round differently, by seconds in years.
    np.testing.assert_allclose(fast.micros, slow.micros, rtol=0, atol=MINUTE)
    np.testing.assert_allclose(fast.value, slow.value, rtol=1e-5)
    np.testing.assert_allclose(fast.expected, slow.expected, atol=1e-5)


def test_a_future_is_the_same_whoever_is_generated_beside_it(
    network: Network, collator: Collator, later: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = Ask(futures=6, days=1500.0, targets=TARGETS, seed=4)
    whole = generate(network, collator, later, some(later, 20), ask)
    monkeypatch.setattr(generation, "_RETIRE_BELOW", 0.0)
    never_retired = generate(network, collator, later, some(later, 20), ask)
    monkeypatch.setattr(generation, "_ROWS", 18)
    in_threes = generate(network, collator, later, some(later, 20), ask)
    for other in (never_retired, in_threes):
        np.testing.assert_allclose(whole.micros, other.micros, rtol=0, atol=MINUTE)
        np.testing.assert_array_equal(whole.code, other.code)
        np.testing.assert_array_equal(whole.ended, other.ended)
        np.testing.assert_allclose(whole.expected, other.expected, atol=1e-5)


def test_an_event_is_read_as_if_it_stood_in_the_record(
    network: Network, collator: Collator, later_events: pl.DataFrame, later: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the encoder is fed while generating equals what it reads of the same future put back into the record."""
    fed = []
    encode = network.encoder.forward
    monkeypatch.setattr(network.encoder, "forward", lambda events: (fed.append(events), encode(events))[1])
    questions = some(later, 1, seed=5)
    made = generate(network, collator, later, questions, Ask(futures=1, days=6000.0, seed=1))
    monkeypatch.undo()
    subject = int(later.subject_ids[questions.subject[0]])
    origin = later.origin[questions.subject]
    moment = datetime(1970, 1, 1) + timedelta(microseconds=int(origin[0] + questions.micros[0]))
    past = later_events.filter(
        (pl.col("subject_id") == subject) & (pl.col("time").is_null() | (pl.col("time") <= moment))
    )
    future = made.frame(collator.vocabulary, origin).with_columns(subject_id=pl.lit(subject, pl.Int64))
    both = tokenise(pl.concat([past, future], how="diagonal"), collator.vocabulary)
    at = int(questions.stop[0] - later.starts[questions.subject[0]])
    number = len(fed) - 1
    assert number > 5
    again = event_arrays(both, np.arange(at, at + number)[None], collator.vocabulary.valued, torch.device("cpu"))
    for name in ("code", "value_row", "value_share", "features"):
        mine = torch.cat([getattr(each, name) for each in fed[1:]], dim=1)
        # Values pass through 32 bits on their way into the record and back.
        torch.testing.assert_close(
            mine, getattr(again, name), rtol=1e-3, atol=2e-3, msg=lambda text, n=name: f"{n}: {text}"
        )


def test_the_first_hidden_state_is_the_forecasts_own(network: Network, collator: Collator, later: Tokens) -> None:
    questions = some(later, 5)
    rows, lengths = prompt_rows(later, questions, 16)
    assert (lengths <= 16).all()
    for row, length, stop in zip(rows, lengths, questions.stop, strict=True):
        assert row[length - 1] == stop - 1
        assert (row[length:] == -1).all()
        assert later.static[row[0]]


def test_futures_end_as_they_say(network: Network, collator: Collator, later: Tokens) -> None:
    questions = some(later, 30)
    ask = Ask(futures=10, days=20_000.0, targets=(TARGETS[1],), until_met=True, most_events=60, seed=2)
    made = generate(network, collator, later, questions, ask)
    assert set(np.unique(made.ended)) >= {DIED, MET, LENGTH}
    death, sick = collator.vocabulary.rows[DEATH], collator.vocabulary.rows[SICK]
    for prompt, future in np.ndindex(30, 10):
        mine = np.flatnonzero((made.prompt == prompt) & (made.future == future))
        code, micros, how = made.code[mine], made.micros[mine], made.ended[prompt, future]
        assert (micros > questions.micros[prompt]).all()
        assert (np.diff(micros) >= 0).all()
        assert (micros <= made.stop_micros[prompt]).all()
        assert (code[:-1] != death).all()
        assert (how == DIED) == (code[-1:] == death).any() or how == MET
        assert (how == MET) == (code[-1:] == sick).any() or how == DIED
        if how == LENGTH:
            assert len(mine) == 60
    frame = generate(network, collator, later, questions, Ask(futures=10, days=365.0)).frame(
        collator.vocabulary, later.origin[questions.subject]
    )
    assert frame.filter(pl.col("code") == RECORD_END)["subject_id"].n_unique() == 300
    values = frame.filter(pl.col("code") == TEST)
    assert values["numeric_value"].null_count() == 0
    assert values["unit"].unique().to_list() == ["mg/dL"]


@pytest.mark.parametrize("target", [TARGETS[1], HIGH, Target("either", (Predicate((SICK,)), Predicate((STROKE,))))])
def test_probabilities_estimate_what_counting_does(
    network: Network, collator: Collator, later: Tokens, target: Target
) -> None:
    """SCOPE, and REACH where the code decides, against the share of futures that meet the target: one expectation."""
    questions = some(later, 40, seed=1)
    ask = Ask(futures=100, days=1500.0, targets=(target,), horizons=(300.0, 1500.0), seed=5)
    made = generate(network, collator, later, questions, ask)
    counted, scope = made.hits.mean(axis=(0, 1))[0], made.expected.mean(axis=(0, 1))[0]
    error = (made.hits - made.expected).std(axis=(0, 1))[0] / np.sqrt(made.ended.size)
    assert (np.abs(counted - scope) < 4 * error + 1e-3).all()
    assert counted[1] > counted[0] > 0
    if target is HIGH:
        with pytest.raises(InputError, match="its code alone"):
            generate(network, collator, later, questions, replace(ask, without=True))
        return
    reach = generate(network, collator, later, questions, replace(ask, without=True))
    assert not reach.hits.any()
    both = np.sqrt(reach.expected.var(axis=(0, 1))[0] + made.hits.var(axis=(0, 1))[0]) / np.sqrt(made.ended.size)
    assert (np.abs(reach.expected.mean(axis=(0, 1))[0] - counted) < 4 * both + 1e-3).all()
    # The guarantee: of less variance than counting, prompt by prompt.
    assert (reach.expected.var(axis=1).mean(axis=0) < made.hits.var(axis=1).mean(axis=0)).all()


def test_another_seed_gives_other_futures(network: Network, collator: Collator, later: Tokens) -> None:
    one, two = (generate(network, collator, later, some(later, 3), Ask(seed=seed)).micros for seed in (0, 1))
    assert len(one) != len(two) or (one != two).any()


AGREEMENT, LEAST_CORRELATION = 0.3, 0.7
"""How far the two heads may differ: means of one-year risks by this share of the larger, beside four standard errors of
the simulation; and from patient to patient, where there is something to tell apart, they must rank alike."""


def test_the_two_heads_agree_on_risks_within_a_year(network: Network, collator: Collator, later: Tokens) -> None:
    questions = some(later, 100, seed=8)
    outcomes = collator.vocabulary.outcomes
    told = tell(network, collator, later, questions)
    head = cumulative_incidence(told.log_hazard, outcomes.index(DEATH))[:, :, 2]
    made = generate(network, collator, later, questions, Ask(futures=300, days=365.0, targets=TARGETS, seed=9))
    for number, code in enumerate((DEATH, SICK, STROKE)):
        new = ~told.had[:, outcomes.index(code)]
        forecast, future = head[new, outcomes.index(code)], made.expected[new, :, number, 0]
        error = np.sqrt(future.var(axis=1).mean() / future.size)
        gap = abs(forecast.mean() - future.mean())
        assert gap < AGREEMENT * max(forecast.mean(), future.mean()) + 4 * error, (code, forecast.mean(), future.mean())
        if code != DEATH:
            # Everybody's hazard of death is the same in this clinic.
            noise = future.var(axis=1).mean() / future.shape[1]
            spread = np.sqrt(max(future.mean(axis=1).var() - noise, 1e-12))
            alike = np.cov(forecast, future.mean(axis=1), bias=True)[0, 1] / (forecast.std() * spread)
            assert alike > LEAST_CORRELATION, (code, alike)
        else:
            assert forecast.mean() > 0.01
        if not new.all():
            # A second one is as rare in the clinic as nothing: both heads have learnt that.
            assert made.expected[~new, :, number, 0].mean() < 0.3 * forecast.mean()
