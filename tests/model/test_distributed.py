"""Two processes learn what one does; a rank that is killed is started anew and the run ends where it would have."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch

from lifechart.model import distributed, first_stage, sharded
from lifechart.model.fit import Fitter, Recipe
from lifechart.model.tokens import tokenise
from lifechart.model.vocabulary import build_vocabulary
from tests.model.clinic import clinic
from tests.model.conftest import TINY

ROOT = Path(__file__).parents[2]
SIZE = replace(TINY, epochs=2, questions=4)
KILL_AT = 6


def fit(checkpoint: Path | None, kill: bool = False, sharding: bool = False) -> Fitter:
    """Train on the clinic, as every rank does; `kill`: this process dies in the midst of the run."""
    torch.set_num_threads(1)
    events = clinic(120, seed=1)
    vocabulary = build_vocabulary(events, fewest_onsets=5)
    tokens = tokenise(events, vocabulary)
    device = torch.device("cpu")
    fitter = Fitter(
        vocabulary, SIZE, tokens, tokens, 5, Recipe(), device, checkpoint=checkpoint, save_every=2, sharding=sharding
    )
    if kill:
        fitter.report = lambda at: os.kill(os.getpid(), 9) if at.stage == "network" and at.step == KILL_AT else None
    short = patch.multiple(first_stage, LEAST_STEPS=10, LEAST_EPOCHS=0)
    with distributed.joined(device), short:
        fitter.fitted = fitter.run()
    return fitter


def save(fitter: Fitter, path: Path) -> None:
    weights = {name: each.numpy() for name, each in fitter.fitted.network.state_dict().items()}
    losses = [each["train_loss"] for each in fitter.history] + [each["tuning_loss"] for each in fitter.history]
    np.savez(path, losses=np.array(losses), steps=fitter.step, events=fitter.events, **weights)


def torchrun(folder: Path, *more: str) -> str:
    """Run this file under torchrun with two ranks."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    environment = {
        **os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]), "OMP_NUM_THREADS": "1",
        "POLARS_MAX_THREADS": "1",
    }  # fmt: skip
    done = subprocess.run(
        [*command, "--max-restarts=1", __file__, str(folder), *more], env=environment, capture_output=True, text=True,
        timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    path = tmp_path_factory.mktemp("alone") / "rank0.npz"
    save(fit(None), path)
    return dict(np.load(path))


def agree(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    assert ours["steps"] == theirs["steps"] > KILL_AT
    assert ours["events"] == theirs["events"]
    np.testing.assert_allclose(ours["losses"], theirs["losses"], rtol=2e-3)


@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_two_ranks_learn_what_one_process_does(alone: dict[str, np.ndarray], tmp_path: Path, way: str) -> None:
    torchrun(tmp_path, way)
    first, second = (dict(np.load(tmp_path / f"rank{rank}.npz")) for rank in (0, 1))
    agree(first, alone)
    for name, each in first.items():
        np.testing.assert_array_equal(each, second[name])


@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_a_killed_rank_is_started_anew_and_the_run_ends_the_same(
    alone: dict[str, np.ndarray], tmp_path: Path, way: str
) -> None:
    said = torchrun(tmp_path, way, "kill")
    assert "SIGKILL" in said or "exitcode: -9" in said.replace(" ", "") or "-9" in said
    assert (tmp_path / "resumed").exists()
    agree(dict(np.load(tmp_path / "rank0.npz")), alone)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    again = os.environ.get("TORCHELASTIC_RESTART_COUNT") != "0"
    here = distributed.world()
    if again and (folder / "resume.pt").exists() and here.leads:
        (folder / "resumed").touch()
    kill = "kill" in sys.argv and not again and not here.leads
    ours = fit(folder / "resume.pt", kill=kill, sharding="fsdp" in sys.argv)
    if "fsdp" in sys.argv:
        # Each rank holds a slice, and no rank all of it.
        held = sum(each.numel() for each in sharded.local(ours.network.parameters()))
        assert held < 0.6 * sum(each.numel() for each in ours.network.parameters())
    save(ours, folder / f"rank{here.rank}.npz")
