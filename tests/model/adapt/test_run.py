"""From a released model and local records to an adapted one: what it reads, says, states, and who can check it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from lifechart.core.errors import InputError, IntegrityError
from lifechart.core.settings import Settings
from lifechart.data import shards
from lifechart.ledger.lineage import makers_of
from lifechart.ledger.log import Log, open_log
from lifechart.ledger.statement import Statement, Subject
from lifechart.ledger.trace import trace
from lifechart.model.adapt import low_rank
from lifechart.model.adapt.adapter import ADAPTER, BASE
from lifechart.model.adapt.head import Bend
from lifechart.model.adapt.local import ask_locally
from lifechart.model.adapt.reading import doubtful, read_of
from lifechart.model.adapt.run import Adaptation, adapt, merged, write
from lifechart.model.checkpoint import load_model, model_digest
from lifechart.model.forecaster import load_forecaster
from lifechart.model.tokens import entries, tokenise, tokens_of
from tests.model.adapt.conftest import ASSAY, elsewhere
from tests.model.clinic import STROKE, TEST

OWNER = {"origin": "lifechart/north", "size": 40, "root": "7" * 64}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    return open_log(Settings(home=tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="module")
def made(model_folder: Path, local: Path, log: Log, tmp_path_factory: pytest.TempPathFactory) -> Adaptation:
    out = tmp_path_factory.mktemp("adapted") / "model"
    return adapt(model_folder, local, out, seed=3, log=log, actor="ann", owner=OWNER)


def test_it_forecasts_through_the_same_door_and_nearer_to_local_rates(
    model_folder: Path, local: Path, made: Adaptation
) -> None:
    released, adapted = load_forecaster(model_folder), load_forecaster(made.folder)
    assert adapted.digest == made.digest != released.digest
    events = shards.read_split(local, "held_out")
    tokens = tokenise(events, load_model(made.folder).vocabulary)
    gaps = {}
    for forecaster in (released, adapted):
        model = forecaster.model
        asked = ask_locally(model, tokenise(events, model.vocabulary), 9, per_life=24)
        o = model.vocabulary.outcomes.index(STROKE)
        rows, exposure, seen = asked.at_risk(o)
        expected = (np.exp(model.calibration.hazards(asked.log_hazard)[rows, o]) * exposure).sum()
        gaps[forecaster.digest] = abs(np.log(seen.sum() / expected))
    assert gaps[adapted.digest] < 0.6 * gaps[released.digest]
    assert tokens.num_subjects > 20


def test_the_other_assay_is_found_and_told_from_none(model_folder: Path, made: Adaptation) -> None:
    (scale,) = [each for each in made.scales if each.code == TEST]
    assert scale.factor == pytest.approx(ASSAY, rel=0.03)
    assert scale.moved
    vocabulary = load_model(model_folder).vocabulary
    read = entries(elsewhere(300, seed=8, assay=1.0), vocabulary)
    unlike = doubtful(read, tokens_of(read, vocabulary), vocabulary)
    assert all(abs(each.shift) < 0.75 and each.factor == pytest.approx(1, abs=0.05) for each in unlike)
    assert load_model(made.folder).vocabulary.knots[scale.row] == pytest.approx(
        vocabulary.knots[scale.row] * scale.factor, rel=1e-5
    )


def test_it_says_what_is_not_read(made: Adaptation, local: Path, model_folder: Path) -> None:
    events = shards.read_split(local, "train")
    reading = made.reading
    assert reading.most_unread == (("LOCAL//7", events.filter(pl.col("code") == "LOCAL//7").height),)
    assert reading.unread_codes == 1
    assert reading.read_events + reading.wider_events + reading.unread_events == pytest.approx(1.0, abs=1e-5)
    few = pl.concat(
        [events, events.filter(pl.col("code") == "LOCAL//7").head(1).with_columns(code=pl.lit("LOCAL//rare"))]
    )
    rare = read_of(few, load_model(model_folder).vocabulary)
    assert rare.unread_codes == 2
    assert "LOCAL//rare" not in dict(rare.most_unread), "a code of one person is not named"


def test_the_adapter_is_small_and_holds_no_row_of_few_people(made: Adaptation, model_folder: Path) -> None:
    assert (made.folder / ADAPTER).stat().st_size < (model_folder / "weights.npz").stat().st_size / 5
    assert "every_code" not in " ".join(made.adapter.added)


def test_the_same_seed_gives_the_same_bytes(made: Adaptation, model_folder: Path, local: Path, tmp_path: Path) -> None:
    again = adapt(model_folder, local, tmp_path / "again", seed=3, log=open_log(Settings(home=tmp_path / "h")))
    assert again.digest == made.digest


def test_a_file_of_the_folder_that_was_changed_is_another_model_or_none(made: Adaptation, tmp_path: Path) -> None:
    write(made.folder / BASE, made.adapter, tmp_path / "copy")
    assert model_digest(tmp_path / "copy") == made.digest
    weights = tmp_path / "copy" / BASE / "calibration.npz"
    with np.load(weights) as file:
        arrays = {name: file[name] for name in file.files}
    arrays["slope"] = arrays["slope"] * 2
    np.savez(weights, **arrays)
    with pytest.raises(InputError, match="the model that this adapter is for"):
        load_forecaster(tmp_path / "copy")
    content = bytearray((made.folder / ADAPTER).read_bytes())
    content[len(content) // 2] ^= 255
    write(made.folder / BASE, made.adapter, tmp_path / "other")
    (tmp_path / "other" / ADAPTER).write_bytes(content)
    with pytest.raises((IntegrityError, InputError)):
        load_forecaster(tmp_path / "other")


def test_the_ledger_says_how_it_came_to_be_and_where_the_rest_is(made: Adaptation, log: Log, local: Path) -> None:
    (entry,) = log.find(kind="adapt")
    said = entry.statement.predicate
    assert said["base"] == made.adapter.base
    assert said["dataset"] == shards.dataset_digest(local)
    assert said["method"] == "head"
    assert said["seed"] == 3
    assert said["actor"] == "ann"
    assert set(said["files"]) == {ADAPTER, *(f"{BASE}/{name}" for name in
                                  ("weights.npz", "calibration.npz", "vocabulary.json", "config.json"))}  # fmt: skip
    assert "without differential privacy" in said["adapter_privacy"]
    text = str(trace(log, made.digest))
    assert f"base {made.adapter.base[:12]}" in text
    assert "in the log lifechart/north, checkpoint of 40 entries" in text
    assert makers_of(log, made.digest) == [entry]
    assert makers_of(log, made.adapter.base) == [], "an adaptation does not make the model that it is of"


def test_with_the_owners_statements_the_walk_goes_on(made: Adaptation, tmp_path: Path) -> None:
    log = open_log(Settings(home=tmp_path))
    log.append(Statement("train", (Subject("model", made.adapter.base),), {"dataset": "9" * 64, "actor": "bo"}))
    log.append(Statement("adapt", (Subject("model", made.digest),), {"base": made.adapter.base, "dataset": "8" * 64}))
    text = str(trace(log, made.digest))
    assert "dataset 999999999999" in text
    assert "held by its owner" not in text
    kinds = [entry.statement.kind for entry in makers_of(log, made.digest)]
    assert kinds == ["train", "adapt"], "who trained the base is an author of what was made of it"


def test_what_cannot_be_adapted_is_refused(
    model_folder: Path, local: Path, made: Adaptation, log: Log, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="head, lora"):
        adapt(model_folder, local, tmp_path, method="whole", log=log)
    with pytest.raises(InputError, match="nor adapted before"):
        adapt(made.folder, local, tmp_path, log=log)
    small = elsewhere(60, seed=6).with_columns(pl.col("subject_id") * 22_801_763_489_000_003 % (1 << 62))
    shards.write_dataset(tmp_path / "small", small, {})
    with pytest.raises(InputError, match="100 training lives"):
        adapt(model_folder, tmp_path / "small", tmp_path / "out", log=log)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("seed", range(3))
def test_the_weights_say_what_the_bends_add(model_folder: Path, local: Path, seed: int) -> None:
    base = load_model(model_folder)
    tokens = tokenise(shards.read_split(local, "tuning"), base.vocabulary)
    asked, rng = ask_locally(base, tokens, 1), np.random.default_rng(seed)
    columns = rng.choice(np.unique(asked.past.indices), 3, replace=False)
    bends = [
        Bend(rng.normal(0, 0.3, 4), 0.2, rng.normal(0, 0.1, 17), rng.normal(0, 0.1, 16), columns, rng.normal(0, 0.2, 3))
        for _ in base.vocabulary.outcomes
    ]
    calibration, added = merged(bends, base)
    network = load_model(model_folder).network
    for name, (places, values) in added.items():
        network.state_dict()[name].view(-1).index_add_(0, torch.from_numpy(places), torch.from_numpy(values))
    again = ask_locally(replace(base, network=network), tokens, 1)
    said = base.calibration.hazards(asked.log_hazard)
    off = said - base.calibration.centre[:, None] - base.calibration.intercept[:, None]
    for o, bend in enumerate(bends):
        plain = asked.features @ bend.features + asked.state @ bend.state + asked.past[:, columns] @ bend.weights
        wanted = said[:, o] + bend.slope * off[:, o] + bend.levels + plain[:, None]
        np.testing.assert_allclose(calibration.hazards(again.log_hazard)[:, o], wanted, atol=2e-3)


@pytest.mark.skipif(not low_rank.available(), reason="peft is not installed: pip install lifechart[lora]")
def test_low_rank_changes_are_those_that_were_learnt(model_folder: Path, local: Path) -> None:
    base = load_model(model_folder)
    tokens = tokenise(shards.read_split(local, "tuning"), base.vocabulary)
    before = ask_locally(base, tokens, 1).log_hazard
    network = low_rank.injected(load_model(model_folder).network)
    np.testing.assert_allclose(ask_locally(replace(base, network=network), tokens, 1).log_hazard, before, atol=1e-5)
    learnt = [name for name, each in network.named_parameters() if each.requires_grad]
    assert learnt
    assert all("lora_" in name for name in learnt)
    with torch.no_grad():
        for name, each in network.named_parameters():
            if "lora_B" in name:
                each.normal_(std=0.05)
    moved = ask_locally(replace(base, network=network), tokens, 1).log_hazard
    products = low_rank.products_of(network)
    assert any(name.startswith("backbone") for name in products)
    assert np.abs(moved - before).max() > 1e-3
    merged_network = load_model(model_folder).network
    for name, (left, right) in products.items():
        merged_network.state_dict()[name] += torch.from_numpy(left @ right)
    again = ask_locally(replace(base, network=merged_network), tokens, 1).log_hazard
    np.testing.assert_allclose(again, moved, atol=1e-4)


@pytest.mark.skipif(not low_rank.available(), reason="peft is not installed: pip install lifechart[lora]")
def test_lora_is_kept_only_where_local_lives_that_it_did_not_see_are_better_served(
    model_folder: Path, local: Path, tmp_path: Path
) -> None:
    log = open_log(Settings(home=tmp_path / "h"))
    made = adapt(model_folder, local, tmp_path / "model", method="lora", seed=3, log=log)
    noted = made.adapter.about["low_rank"]
    losses = noted["tuning_losses"]
    assert noted["kept"] == (min(losses) < losses[0]) == bool(made.adapter.products)
    assert load_forecaster(made.folder).digest == made.digest


def test_without_peft_lora_is_refused_by_name(
    model_folder: Path, local: Path, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(low_rank, "available", lambda: False)
    with pytest.raises(InputError, match="peft"):
        adapt(model_folder, local, tmp_path, method="lora", log=log)
