"""The engine for several machines: the same functions as tasks of a Ray cluster. A node may die; its tasks run again.

All nodes see the same files under the same paths (a shared file system), and each has this version of Lifechart and the
source's plugs installed. What a task is told, the de-identification key among it, travels between the nodes: the
cluster is as trusted as this machine, and Ray's TLS is on wherever the network is not (docs/guides/ingest.md).
"""

from __future__ import annotations

import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from lifechart.core.errors import EngineError, InputError, LifechartError
from lifechart.data.engines import bars

_RETRIES = 5
"""Times that a task is given to another node after the one that had it is lost. Errors of the task itself are final."""
_IN_FLIGHT = 4
"""Tasks a core of the cluster that are handed over at a time: enough to keep it busy, few enough to cancel."""
_REACH_SECONDS = 5.0
_ALONE: dict[str, Any] = {"include_dashboard": False, "object_store_memory": 100 << 20}
"""For a cluster of this machine alone. Tasks return nothing, so the store of objects can be as small as Ray lets it."""


class RayCluster:
    """Runs tasks on a Ray cluster: the one at `address`, or, without one, a cluster of this machine alone."""

    def __init__(self, address: str, progress: bool | None) -> None:
        # Set before Ray is imported. Ray reports usage to its makers unless told not to; a hospital's machine is told.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # leave accelerators as they are
        try:
            import ray
        except ImportError as error:
            raise InputError("--engine", "ray", "Ray installed on every node: pip install 'lifechart[ray]'") from error
        self._ray = ray
        self._address = address
        self._bars = bars(progress)
        self._running: dict[Any, None] = {}
        self._ours = False

    def __enter__(self) -> RayCluster:
        self._ours = not self._ray.is_initialized()
        if self._ours:
            _reach(self._address)
            try:
                self._ray.init(
                    address=self._address or None,
                    **({} if self._address else _ALONE),
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    # One task has one core; Polars' own threads would only get in the way.
                    runtime_env={"env_vars": {"POLARS_MAX_THREADS": "1"}},
                )
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise InputError("LIFECHART_RAY_ADDRESS", self._address, "the address of a Ray cluster") from error
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._bars.stop()
        if self._ours:
            self._ray.shutdown()

    def __call__(self, title: str, function: Callable[..., None], tasks: Iterable[tuple[Any, ...]]) -> None:
        """Call `function` with each tuple of arguments somewhere; raises the first error, or EngineError.

        EngineError is for tasks that were lost with their nodes more often than is bearable.
        """
        waiting = deque(tasks)
        bar = self._bars.add_task(title, total=len(waiting))
        remote = self._ray.remote(num_cpus=1, max_retries=_RETRIES)(function)
        while waiting or self._running:
            cluster: dict[str, float] = self._ray.cluster_resources()  # type: ignore[no-untyped-call]
            room = max(2, _IN_FLIGHT * int(cluster.get("CPU", 1)))
            while waiting and len(self._running) < room:
                self._running[remote.remote(*waiting.popleft())] = None
            done, _ = self._ray.wait(list(self._running), num_returns=1, timeout=5.0)
            for reference in done:
                del self._running[reference]
                self._take(title, reference)
                self._bars.advance(bar)

    def _take(self, title: str, reference: Any) -> None:
        try:
            self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            # Ray wraps what the task raised; a refusal keeps its own words, as on one machine.
            if isinstance(error.cause, LifechartError | OSError):
                raise error.cause from None
            raise
        except self._ray.exceptions.RayError as error:
            lost = f"a task was lost with its node {_RETRIES + 1} times ({type(error).__name__})"
            raise EngineError(f"{title}: {lost}; the same command goes on from here") from error


def _reach(address: str) -> None:
    """Raise InputError if nobody listens at `address` (`host:port`); Ray itself would go on trying for minutes."""
    host, colon, port = address.rpartition(":")
    if not colon or "/" in address:
        return
    try:
        socket.create_connection((host, int(port)), timeout=_REACH_SECONDS).close()
    except (OSError, ValueError) as error:
        raise InputError("LIFECHART_RAY_ADDRESS", address, "the address of a Ray cluster that answers") from error
