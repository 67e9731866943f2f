"""Notes, images and genomes: each planted signal is found, none is told early, and what is absent changes nothing."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import nn

from lifechart.core.predicate import Predicate, Target
from lifechart.core.timeline import Timeline
from lifechart.model import first_stage, modal_stage
from lifechart.model.calibration import calibrate
from lifechart.model.checkpoint import Model, load_model, save_model
from lifechart.model.encoders import ItemEncoder
from lifechart.model.encoders.image import ImageEncoder, small
from lifechart.model.encoders.note import NoteEncoder
from lifechart.model.encoders.variant import VariantEncoder
from lifechart.model.fit import Fitter, Recipe
from lifechart.model.forecaster import NetworkForecaster
from lifechart.model.generate import Ask, generate
from lifechart.model.inference import tell
from lifechart.model.modalities import UNDATED, Items, attach, learn_modalities
from lifechart.model.questions import ask, label, sample_questions
from lifechart.model.sizes import SIZES
from lifechart.model.tokens import Tokens, tokenise
from lifechart.model.vocabulary import Vocabulary, build_vocabulary
from lifechart.simulate.pictures import retina
from tests.model.senses import FALL, HEART, LOW, Drawn, senses

SIZE = replace(SIZES["xs"], width=32, rank=16, context=64, batch_tokens=2048, epochs=1, questions=8, rate=4e-3)
PLUGS = {"note": NoteEncoder, "image": ImageEncoder, "variant": VariantEncoder}


@pytest.fixture(scope="module")
def _plugged() -> object:
    """The three encoders, whatever is installed: a working tree may be newer than its entry points."""
    from lifechart.model import modal_state, modalities

    monkeypatch = pytest.MonkeyPatch()
    for module in (modalities, modal_state):
        monkeypatch.setattr(module, "encoder", PLUGS.__getitem__)
    monkeypatch.setattr(modalities, "item_encoders", lambda: dict(PLUGS))
    yield
    monkeypatch.undo()


@pytest.fixture(scope="module")
def training(_plugged: object) -> tuple[pl.DataFrame, Drawn]:
    return senses(400, seed=1)


@pytest.fixture(scope="module")
def vocabulary(training: tuple[pl.DataFrame, Drawn]) -> Vocabulary:
    events, pictures = training
    return replace(build_vocabulary(events), modalities=learn_modalities(events, pictures))


@pytest.fixture(scope="module")
def folder(
    training: tuple[pl.DataFrame, Drawn], vocabulary: Vocabulary, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A model of the clinic, fitted, calibrated and saved."""
    torch.set_num_threads(1)
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(modal_stage, "JOINT", modal_stage.Phase(256, 30, 0, 1e-3))
    tokens = tokenise(training[0], vocabulary, training[1])
    later = tokenise(*_args(senses(200, seed=2, start=10_000), vocabulary))
    fitter = Fitter(vocabulary, SIZE, tokens, later, 0, Recipe(averaging=0.9), torch.device("cpu"))
    network = fitter.run().network

    def asked(split: Tokens, salt: int) -> tuple:
        questions = sample_questions(split, 4, np.random.default_rng(salt))
        told = tell(network, fitter.collator, split, questions)
        return told, label(split, questions, len(vocabulary.outcomes)), questions.subject

    monkeypatch.undo()
    out = tmp_path_factory.mktemp("senses")
    save_model(out, network, calibrate(asked(tokens, 1), asked(later, 2), None), vocabulary, SIZE, {"seed": 0})
    return out


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return load_model(folder)


def _args(drawn: tuple[pl.DataFrame, Drawn], vocabulary: Vocabulary) -> tuple:
    return drawn[0], vocabulary, drawn[1]


def _risks(model: Model, events: pl.DataFrame, pictures: Drawn | None) -> NDArray[np.float32]:
    prompts = events.select("subject_id").unique().sort("subject_id")
    born = events.filter(pl.col("code") == "MEDS_BIRTH").select("subject_id", birth="time")
    prompts = prompts.join(born, on="subject_id").select(
        "subject_id", prediction_time=pl.col("birth") + timedelta(days=365.25 * 32)
    )
    return NetworkForecaster(model, pictures=pictures).risks(events, prompts.sort("subject_id"))[:, :, -1]


def _auroc(risks: NDArray[np.float32], came: NDArray[np.bool_]) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(came, risks))


def test_each_signal_is_found_and_the_common_one_with_both_alone(model: Model) -> None:
    events, pictures = senses(700, seed=3, start=20_000)
    without_notes = events.filter(pl.col("kind") != "note")
    without_genomes = events.filter(pl.col("kind") != "genomic")
    everything, outcomes = _risks(model, events, pictures), list(model.vocabulary.outcomes)
    subjects = events["subject_id"].unique().sort().to_numpy()

    def score(risks: NDArray[np.float32], code: str) -> float:
        came = np.isin(subjects, events.filter(pl.col("code") == code)["subject_id"].to_numpy())
        return _auroc(risks[:, outcomes.index(code)], came)

    assert score(everything, LOW) > score(_risks(model, without_notes, pictures), LOW) + 0.1
    assert score(everything, FALL) > score(_risks(model, without_genomes, pictures), FALL) + 0.05
    image_alone, genome_alone = _risks(model, without_genomes, pictures), _risks(model, events, None)
    for alone in (image_alone, genome_alone):
        assert abs(score(alone, HEART) - 0.5) < 0.08
        assert score(everything, HEART) > score(alone, HEART) + 0.08


def test_what_is_absent_adds_nothing(model: Model) -> None:
    """Without any of the modalities the answer is, to the bit, that of the network without what reads them."""
    events, pictures = senses(30, seed=4, start=30_000)
    bare = events.filter(~pl.col("kind").is_in(["note", "genomic"]))
    network, vocabulary = model.network, model.vocabulary
    assert network.modal is not None
    plain = replace(model, vocabulary=replace(vocabulary, modalities={}))
    found = _risks(model, bare, None)
    modal, network.modal = network.modal, None
    try:
        expected = _risks(plain, bare, None)
    finally:
        network.modal = modal
    np.testing.assert_array_equal(found, expected)
    assert not np.array_equal(found, _risks(model, events, pictures))
    assert np.isfinite(found).all()
    assert tokenise(bare, vocabulary, None).items is None


def test_an_absent_modality_changes_nothing_for_others(model: Model) -> None:
    """Somebody without a genome gets the same answer whether or not others in the batch have one."""
    events, pictures = senses(12, seed=5, start=40_000)
    having = events.filter(pl.col("kind") == "genomic")["subject_id"].unique()
    stripped = events.filter((pl.col("kind") != "genomic") | pl.col("subject_id").is_in(having[:1].implode()))
    alone = events.filter(pl.col("kind") != "genomic")
    with_others, without = _risks(model, stripped, pictures), _risks(model, alone, pictures)
    others = ~np.isin(events["subject_id"].unique().sort().to_numpy(), having[:1].to_numpy())
    np.testing.assert_allclose(with_others[others], without[others], rtol=1e-5)
    assert not np.allclose(with_others[~others], without[~others], rtol=1e-5)


def test_nothing_is_told_before_it_is_known(model: Model) -> None:
    """A note, an image and a genome of tomorrow change no answer of today."""
    events, pictures = senses(20, seed=6, start=50_000)
    vocabulary = model.vocabulary
    tokens = tokenise(events, vocabulary, pictures)
    cut = int(tokens.micros.max() // 2)
    subject = np.arange(tokens.num_subjects)
    whole = ask(tokens, subject, np.full(tokens.num_subjects, cut))
    forecaster = NetworkForecaster(model)
    before = tell(model.network, forecaster.collator, tokens, whole).log_hazard
    birth = events.filter(pl.col("code") == "MEDS_BIRTH").select("subject_id", birth="time")
    known = events.join(birth, on="subject_id", maintain_order="left")
    past = pl.col("time").is_null() | (pl.col("time") - pl.col("birth") <= timedelta(microseconds=cut))
    earlier = tokenise(known.filter(past).drop("birth"), vocabulary, pictures)
    asked = ask(earlier, subject, np.full(tokens.num_subjects, cut))
    after = tell(model.network, forecaster.collator, earlier, asked).log_hazard
    np.testing.assert_allclose(before, after, rtol=1e-4, atol=1e-5)


def test_items_lie_at_the_first_event_that_is_not_before_them(
    training: tuple[pl.DataFrame, Drawn], vocabulary: Vocabulary
) -> None:
    tokens = tokenise(*_args(training, vocabulary))
    items = tokens.items
    assert isinstance(items, Items)
    subject_of = tokens.owner
    for number, name in enumerate(items.modalities):
        mine = items.place_modality == number
        slots = [slot for slot in items.slots if slot.modality == name]
        micros = np.zeros(len(items.contents[name][0]), np.int64)
        owner = np.zeros_like(micros)
        for slot in slots:
            micros[slot.rows] = slot.micros
            owner[slot.rows] = np.repeat(np.arange(tokens.num_subjects), np.diff(slot.starts))
        rows, places = items.place_row[mine], items.place[mine]
        assert (subject_of[places] == owner[rows]).all()
        assert (tokens.micros[places] >= micros[rows]).all()
        earlier = places - 1
        inside = (earlier >= 0) & (subject_of[np.maximum(earlier, 0)] == owner[rows])
        assert (tokens.micros[earlier[inside]] < micros[rows][inside]).all()


def test_the_latest_items_known_are_those_a_search_finds(
    training: tuple[pl.DataFrame, Drawn], vocabulary: Vocabulary
) -> None:
    """The slow twin looks at every item."""
    tokens = tokenise(*_args(training, vocabulary))
    assert tokens.items is not None
    questions = sample_questions(tokens, 1, np.random.default_rng(0))
    for slot in tokens.items.slots:
        found = slot.known(questions.subject, questions.micros)
        for q in range(0, len(questions), 37):
            first, last = slot.starts[questions.subject[q] : questions.subject[q] + 2]
            known = [
                int(slot.rows[at])
                for at in range(first, last)
                if slot.micros[at] == UNDATED or slot.micros[at] <= questions.micros[q]
            ]
            expected = known[::-1][: slot.most]
            assert [row for row in found[q].tolist() if row >= 0] == expected


def test_a_model_on_disk_is_the_model(model: Model, folder: Path) -> None:
    events, pictures = senses(10, seed=7, start=60_000)
    np.testing.assert_array_equal(_risks(model, events, pictures), _risks(load_model(folder), events, pictures))


def test_one_chart_gets_the_answer_of_the_bulk(model: Model) -> None:
    """At the bedside the chart holds notes and genome, and images come from wherever they are kept."""
    events, pictures = senses(3, seed=8, start=70_000)
    when = datetime(1990, 1, 1)
    forecaster = NetworkForecaster(model, pictures=pictures)
    for subject in events["subject_id"].unique().sort():
        chart = Timeline.of(subject, events.filter(pl.col("subject_id") == subject).drop("subject_id"))
        if not len(chart.until(when)):
            continue
        forecast = forecaster.forecast(chart, when)
        prompts = pl.DataFrame({"subject_id": [subject], "prediction_time": [when]})
        bulk = forecaster.risks(events, prompts)[0]
        told = np.array([risk.probability for risk in forecast.risks]).reshape(bulk.shape)
        np.testing.assert_allclose(told, bulk, rtol=1e-4)


def test_an_unbroken_run_and_a_resumed_one_end_alike(
    training: tuple[pl.DataFrame, Drawn], vocabulary: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events, pictures = training
    few = events.filter(pl.col("subject_id") < 40)
    tokens = tokenise(few, vocabulary, pictures)
    monkeypatch.setattr(modal_stage, "JOINT", modal_stage.Phase(64, 3, 0, 3e-3))
    monkeypatch.setattr(first_stage, "LEAST_STEPS", 10)

    def fitter(checkpoint: Path | None) -> Fitter:
        return Fitter(vocabulary, SIZE, tokens, tokens, 0, Recipe(), torch.device("cpu"), checkpoint, save_every=1)

    fitter(tmp_path / "resume.pt").run(stop_at=1)
    resumed = fitter(tmp_path / "resume.pt").run().network.state_dict()
    unbroken = fitter(None).run().network.state_dict()
    differing = [name for name, tensor in unbroken.items() if not torch.equal(resumed[name], tensor)]
    assert differing == []


@pytest.mark.parametrize("name", sorted(PLUGS))
def test_encoders_keep_the_contract(name: str, training: tuple[pl.DataFrame, Drawn], vocabulary: Vocabulary) -> None:
    events, pictures = training
    plug = PLUGS[name]
    assert issubclass(plug, nn.Module)
    assert isinstance(plug, ItemEncoder)
    learnt = vocabulary.modalities[name]
    found = plug.find(events, learnt, pictures)
    assert len(found) > 100
    assert found.slot.max() < plug.slots(learnt)
    contents = tuple(torch.from_numpy(each[:6]).unflatten(0, (3, 2)) for each in found.contents)
    assert plug(vocabulary, 24)(contents).shape == (3, 2, 24)


@pytest.mark.usefixtures("_plugged")
def test_a_data_set_without_them_learns_no_modality() -> None:
    events, _ = senses(40, seed=9)
    assert learn_modalities(events.filter(~pl.col("kind").is_in(["note", "genomic"])), None) == {}
    assert set(learn_modalities(events, None, ("note",))) == {"note"}
    assert attach(None, np.zeros(1, np.int64), np.zeros(1, np.int64)) is None


@pytest.mark.parametrize("shape", [(1, 64, 64, 1), (2, 200, 130, 3), (1, 40, 90, 1)])
def test_any_image_becomes_small(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    made = small(rng.integers(0, 4000, shape).astype(np.uint16))
    assert made.shape == (2, 64, 64)
    assert made.dtype == np.uint8
    flat = small(np.full(shape, 7, np.uint16))
    assert np.isfinite(flat).all()


def _told(vectors: NDArray[np.float64], coin: NDArray[np.float64]) -> float:
    """Return the correlation of a coin with what a ridge reads of it, each half from the other."""
    said = np.zeros(len(coin))
    half = np.arange(len(coin)) % 2 == 0
    design = np.column_stack([vectors / vectors.std(axis=0), np.ones(len(coin))])
    for here in (half, ~half):
        known = design[here]
        said[~here] = design[~here] @ np.linalg.solve(
            known.T @ known + 10 * np.eye(known.shape[1]), known.T @ coin[here]
        )
    return float(np.corrcoef(said, coin)[0, 1])


def test_what_is_blanked_in_some_images_spoils_neither_these_nor_the_others() -> None:
    """De-identification blanks what it takes for lettering: of one image in four here, a quarter of the area."""
    rng = np.random.default_rng(0)
    coin = rng.choice([-1.0, 1.0], 300)
    shown = [retina(rng.standard_normal(), wavy=bool(one > 0), rng=rng) for one in coin]
    for number in range(0, 300, 4):
        row, column = rng.integers(0, 32, 2)
        shown[number][row : row + 32, column : column + 32] = 0
    pixels = np.stack([small(each[None]) for each in shown])
    sorts = np.zeros(300, np.int32)
    torch.manual_seed(0)
    vocabulary = build_vocabulary(senses(30, seed=1)[0])
    encoder = ImageEncoder(replace(vocabulary, modalities={"image": {"sorts": ["OP"]}}), 32)
    encoder.begin((pixels, sorts), sparse.csr_array((0, 300)))
    with torch.no_grad():
        vectors = encoder((torch.from_numpy(pixels)[:, None], torch.from_numpy(sorts)[:, None]))[:, 0].double().numpy()
    assert _told(vectors, coin) > 0.8


def test_an_empty_image_is_none() -> None:
    """Blanked altogether, or without any shade: finite, and the same whatever its grey."""
    vocabulary = build_vocabulary(senses(30, seed=1)[0])
    encoder = ImageEncoder(replace(vocabulary, modalities={"image": {"sorts": ["OP"]}}), 8)
    pixels = torch.stack([torch.full((2, 64, 64), grey, dtype=torch.uint8) for grey in (0, 90)])[:, None]
    with torch.no_grad():
        vectors = encoder((pixels, torch.zeros(2, 1, dtype=torch.int64)))
    assert torch.isfinite(vectors).all()
    assert torch.equal(vectors[0], vectors[1])


def test_futures_begin_from_what_the_modalities_say(model: Model) -> None:
    """Those whose notes tell of LOW get it in more of their futures than the same people without notes."""
    events, pictures = senses(40, seed=10, start=80_000)
    target = Target(LOW, (Predicate((LOW,)),))
    chances = []
    for known in (events, events.filter(pl.col("kind") != "note")):
        tokens = tokenise(known, model.vocabulary, pictures)
        subject = np.arange(tokens.num_subjects)
        questions = ask(tokens, subject, np.full(tokens.num_subjects, int(33 * 365.25 * 86_400e6)))
        collator = NetworkForecaster(model).collator
        drawn = generate(model.network, collator, tokens, questions, Ask(futures=4, days=1825.0, targets=(target,)))
        chances.append(drawn.expected.reshape(tokens.num_subjects, -1).mean(axis=1))
    sad = (
        events.group_by("subject_id").agg(pl.col("text_value").str.contains("tearful|dreads").any()).sort("subject_id")
    )
    told = sad["text_value"].fill_null(False).to_numpy()
    more = chances[0] - chances[1]
    assert more[told].mean() > more[~told].mean() + 0.05
