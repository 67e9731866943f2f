"""How many cores one pass of the network may use. Small passes are done soonest on one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

SMALL_WIDTH = 96
"""Up to this width torch's threads wait for each other longer than they work."""


def limit(num: int) -> None:
    """Keep every pass in this process to `num` cores.

    Passes over one chart are small: on two cores torch's own threads wait for each other longer than they work, and
    where other processes want the cores as well, they spin. A server answers several people at once, one a core.
    """
    torch.set_num_threads(num)


@contextmanager
def suited_to(width: int) -> Iterator[None]:
    """Use one core for small networks and every core for large ones, and put back what was set before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if width <= SMALL_WIDTH else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
