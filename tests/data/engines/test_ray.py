"""Ray on two local nodes: the same bytes as one machine, also when a node is killed in the middle of a task."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lifechart.core import durable
from lifechart.core.errors import EngineError, InputError
from lifechart.data import ingest as module
from lifechart.data.engines import open_engine
from lifechart.data.sources import documents
from lifechart.data.spill import spill
from tests.data.samples import patient, resource, take, write

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'lifechart[ray]'")
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
MARKS = "LIFECHART_TEST_MARKS"


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes of one core each, on this machine."""
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
    found = Cluster(initialize_head=True, head_node_args=small)
    found.second = found.add_node(**{key: small[key] for key in ("num_cpus", "object_store_memory")})
    found.wait_for_nodes()
    try:
        yield found
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if ray.is_initialized():
                ray.shutdown()
            found.shutdown()


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "_BUCKET_BYTES", 12_000)
    monkeypatch.setattr(documents, "UNIT_BYTES", 1_000)
    lines = [line for n in range(40) for line in (patient(f"p{n}"), resource("Observation", f"o{n}", f"p{n}"))]
    return write(tmp_path / "in" / "all.ndjson", *lines).parent


def slow_spill(source: Any, unit: Any, number: int, plan: Any) -> None:
    """Spill slowly, with a mark at the beginning and at the end that says which node it was.

    The node that is to be killed does one unit and never finishes its next.
    """
    marks, node = plan.work.parent / "marks", ray.get_runtime_context().get_node_id()
    attempt = f"{number}-{node}-{os.getpid()}"
    (marks / f"{attempt}.begun").touch()
    doomed = (marks / "doomed").read_text() == node and any(marks.glob(f"*-{node}-*.done"))
    time.sleep(600 if doomed else 0.4)
    spill(source, unit, number, plan)
    (marks / f"{attempt}.done").touch()


def _begun(marks: Path, node: str) -> set[str]:
    found = {path.stem for path in marks.glob(f"*-{node}-*.begun")}
    return found - {path.stem for path in marks.glob(f"*-{node}-*.done")}


def test_a_node_killed_in_the_middle_of_a_task_changes_no_byte(
    cluster: Any, records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(records, tmp_path / "here", dates="shift")
    monkeypatch.setattr(module, "spill", slow_spill)
    marks, second = tmp_path / "marks", cluster.second.node_id
    marks.mkdir()
    (marks / "doomed").write_text(second)
    lost: set[str] = set()

    def kill() -> None:
        while not (_begun(marks, second) and any(marks.glob(f"*-{second}-*.done"))):
            time.sleep(0.05)
        # A machine without power: its worker and its daemon, at once.
        for attempt in _begun(marks, second):
            os.kill(int(attempt.split("-")[2]), signal.SIGKILL)
            lost.add(attempt)
        cluster.remove_node(cluster.second, allow_graceful=False)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    take(records, tmp_path / "there", dates="shift", engine="ray", address=cluster.address, workers=None)
    killer.join(timeout=60)
    assert lost, "no task was under way on the node that was killed"
    assert lost <= _begun(marks, second)
    nodes = {path.stem.split("-")[1] for path in marks.glob("*.done")}
    assert len(nodes) == 2
    again = {path.stem.split("-")[0] for path in marks.glob("*.done") if second not in path.stem}
    assert {attempt.split("-")[0] for attempt in lost} <= again
    assert durable.tree_digests(tmp_path / "there") == durable.tree_digests(tmp_path / "here")


def refuse(number: int) -> None:
    raise InputError("number", number, "another")


def die(folder: Path) -> None:
    (folder / str(time.time_ns())).touch()
    os._exit(1)


def test_errors_keep_their_words_and_a_task_that_kills_its_worker_is_given_up(cluster: Any, tmp_path: Path) -> None:
    with open_engine("ray", workers=1, progress=False, address=cluster.address) as run:
        with pytest.raises(InputError, match="number: got 7"):
            run("refusing", refuse, [(7,)])
        with pytest.raises(EngineError, match="the same command goes on"):
            run("dying", die, [(tmp_path,)])
    assert len(list(tmp_path.iterdir())) == 6


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'lifechart\[ray\]'"):
        open_engine("ray", workers=1, progress=False)


def test_workers_are_not_for_a_cluster(records: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--workers"):
        take(records, tmp_path / "out", engine="ray", workers=2)


def test_a_cluster_that_is_not_there_is_named() -> None:
    with (
        pytest.raises(InputError, match="LIFECHART_RAY_ADDRESS"),
        open_engine("ray", workers=1, progress=False, address="127.0.0.1:1"),
    ):
        pass
