"""The contract of an engine, held to by the one for a single machine."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from lifechart.core.errors import InputError
from lifechart.data.engines import open_engine


def touch(folder: Path, number: int) -> None:
    (folder / str(number)).touch()


def refuse(number: int) -> None:
    if number == 3:
        raise InputError("number", number, "another")


@pytest.mark.parametrize("workers", [1, 2])
def test_every_task_is_done_when_it_returns(tmp_path: Path, workers: int) -> None:
    with open_engine("processes", workers=workers, progress=False) as run:
        run("first", touch, ((tmp_path, number) for number in range(5)))
        assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "2", "3", "4"]
        run("nothing", touch, [])


def sign(folder: Path, number: int) -> None:
    with (folder / str(number)).open("a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(0.01)


def test_each_task_is_done_once_and_this_process_does_its_share(tmp_path: Path) -> None:
    with open_engine("processes", workers=3, progress=False) as run:
        run("all", sign, ((tmp_path, number) for number in range(300)))
    done = [path.read_text().splitlines() for path in tmp_path.iterdir()]
    assert len(done) == 300
    assert all(len(signed) == 1 for signed in done)
    assert str(os.getpid()) in {signed[0] for signed in done}


@pytest.mark.parametrize("workers", [1, 2])
def test_the_first_error_is_raised_in_its_own_words(workers: int) -> None:
    with (
        pytest.raises(InputError, match="number: got 3"),
        open_engine("processes", workers=workers, progress=False) as run,
    ):
        run("refusing", refuse, ((number,) for number in range(5)))


def test_an_engine_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match="--engine: got 'spark'"):
        open_engine("spark", workers=1, progress=False)
