"""One source left out: what is read changes, what is asked does not; and a source that says nothing gains nothing."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lifechart.core.errors import InputError
from lifechart.data import shards
from lifechart.evaluate.contribution import Areas, contributions
from lifechart.evaluate.question import Question, ask
from lifechart.evaluate.tasks import default_task
from lifechart.model import leave_out as leaving
from lifechart.model.leave_out import LeaveOut, tokens_with_truth, visible
from lifechart.model.questions import ask as ask_moments
from lifechart.model.questions import label, sample_questions
from lifechart.model.tokens import tokenise
from lifechart.model.vocabulary import build_vocabulary
from tests.model.clinic import SICK, TEST, clinic
from tests.model.conftest import TINY


def sourced(lives: int, seed: int) -> pl.DataFrame:
    """The clinic's records from three sources: its laboratory, its registry, and one that says nothing."""
    events = clinic(lives, seed=seed)
    rng = np.random.default_rng(seed)
    noise = events.filter(pl.col("code") == TEST).with_columns(
        code=pl.Series([f"NOISE//{n}" for n in rng.integers(0, 4, events.filter(pl.col("code") == TEST).height)]),
        numeric_value=pl.lit(None, pl.Float32),
        source=pl.lit("noise"),
    )
    of_code = pl.when(pl.col("code") == TEST).then(pl.lit("laboratory")).otherwise(pl.lit("registry"))
    both = pl.concat([events.with_columns(source=of_code), noise]).with_columns(
        pl.col("subject_id") * 22_801_763_489_000_003 % (1 << 62)
    )
    return both.sort("subject_id", "time", nulls_last=False, maintain_order=True)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sourced") / "dataset"
    shards.write_dataset(folder, sourced(900, seed=4), {})
    return folder


def test_labels_are_those_of_the_whole_records() -> None:
    events = sourced(60, seed=9)
    vocabulary = build_vocabulary(events, fewest_onsets=3)
    whole = tokenise(events, vocabulary)
    part = tokens_with_truth(events, vocabulary, "source", "registry")
    assert not np.isin(part.code, [vocabulary.row(SICK)]).any()
    questions = sample_questions(part, 6, np.random.default_rng(0))
    mine = label(part, questions, len(vocabulary.outcomes))
    to = np.searchsorted(whole.subject_ids, part.subject_ids)[questions.subject]
    moment = questions.micros + part.origin[questions.subject] - whole.origin[to]
    theirs = label(whole, ask_moments(whole, to, moment), len(vocabulary.outcomes))
    assert np.array_equal(mine.had, theirs.had)
    assert np.array_equal(mine.days_to, theirs.days_to)
    assert np.array_equal(mine.observed, theirs.observed)
    assert np.isfinite(mine.days_to).any()


def test_birth_death_and_the_end_stay_and_people_of_whom_nothing_is_left_go() -> None:
    events = sourced(40, seed=9)
    seen = visible(events, "source", "registry")
    assert {"MEDS_BIRTH", "RECORD_END"} <= set(seen["code"])
    assert SICK not in set(seen["code"])
    only = events.with_columns(source=pl.when(pl.col("subject_id") == events["subject_id"][0]).then(pl.lit("noise"))
                               .otherwise("source"))  # fmt: skip
    vocabulary = build_vocabulary(events, fewest_onsets=3)
    left = tokens_with_truth(only, vocabulary, "source", "noise")
    assert left.num_subjects == events["subject_id"].n_unique() - 1
    assert left.truth is not None
    assert np.array_equal(left.truth.subject_ids, left.subject_ids)


def test_a_source_is_what_the_data_say(dataset: Path, tmp_path: Path) -> None:
    made = LeaveOut.of(dataset, (SICK,))
    assert made.by == "source"
    assert made.sources == ("laboratory", "noise", "registry")
    assert "condition" in LeaveOut.of(dataset, (SICK,), by="kind").sources
    shards.write_dataset(tmp_path / "plain", clinic(30, seed=1), {})
    assert LeaveOut.of(tmp_path / "plain", (SICK,)).by == "kind"
    with pytest.raises(InputError, match="source"):
        LeaveOut.of(tmp_path / "plain", (SICK,), by="source")
    with pytest.raises(InputError, match="head, whole"):
        made.learnt(None, "some", 0)


@pytest.fixture(scope="module")
def question(dataset: Path) -> Question:
    task = default_task().model_copy(update={"horizons_days": (1825,), "main_horizon_days": 1825})
    vocabulary = build_vocabulary(shards.read_split(dataset, "train"))
    made = LeaveOut.of(dataset, vocabulary.outcomes)
    first = leaving.Blind("any", vocabulary, made.by, None, lambda tokens, asked: np.zeros((len(asked), 1, 4)))
    events = pl.concat([shards.read_split(dataset, split) for split in ("tuning", "held_out")])
    return ask(events, first, task, None, 60, 0)


def test_the_source_with_the_signal_contributes_and_noise_does_not(dataset: Path, question: Question) -> None:
    vocabulary = build_vocabulary(shards.read_split(dataset, "train"))
    made = LeaveOut(shards.read_split(dataset, "train"), shards.read_split(dataset, "tuning"), "source", TINY,
                    vocabulary.outcomes)  # fmt: skip
    whole: dict[int, leaving.Blind] = {}

    def learnt(source: str | None, seed: int) -> leaving.Blind:
        found = made.learnt(source, "head", seed)
        if source is None:
            whole[0] = found
        return found

    def silenced(source: str | None) -> leaving.Blind:
        return leaving.replace(whole[0], without=source)

    found = contributions(
        question, ("laboratory", "noise"), learnt, silenced, (0,), {"sick": (SICK,), "none": ("X//0",)}
    )
    by_source = {each.source: each for each in found["sick"]}
    assert "none" not in found, "a capability of outcomes that nobody forecasts gets no figure"
    assert by_source["laboratory"].gain > 0.05
    assert by_source["laboratory"].low > 0
    assert abs(by_source["noise"].gain) < 0.03
    assert found["sick"][0].source == "laboratory", "the largest comes first"


def test_the_interval_holds_what_seeds_do(question: Question, monkeypatch: pytest.MonkeyPatch) -> None:
    from lifechart.evaluate import contribution

    values = {None: [0.80, 0.90], "a": [0.70, 0.70]}

    def told(question: Question, scorer: tuple[str | None, int], min_events: int = 0) -> Areas:
        source, seed = scorer
        return Areas((SICK,), np.full((1, 61), values[source][seed]))

    monkeypatch.setattr(contribution, "areas", told)
    pick = lambda source, seed=0: (source, seed)  # noqa: E731
    (two,) = contributions(question, ("a",), pick, pick, (0, 1), {"all": ()})["all"]
    assert two.gain == pytest.approx(0.15)
    assert two.high - two.gain == pytest.approx(1.96 * 0.05, rel=1e-3)
    (one,) = contributions(question, ("a",), pick, pick, (0,), {"all": ()})["all"]
    assert one.high == pytest.approx(0.10)
    assert one.gain == pytest.approx(0.10)
