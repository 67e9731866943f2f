"""How many cores this process may use, and how: many small passes side by side, rather than one pass on many cores."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import torch

SMALL_WIDTH = 96
"""Up to this width torch's threads wait for each other longer than they work."""
_most = 0


def limit(num: int) -> None:
    """Keep every pass in this process to `num` cores.

    Passes over one chart are small: on two cores torch's own threads wait for each other longer than they work, and
    where other processes want the cores as well, they spin. A server answers several people at once, one a core.
    """
    torch.set_num_threads(num)


def cores() -> int:
    """Return how many cores this process may use, even where one pass is held to fewer."""
    return max(_most, torch.get_num_threads())


@contextmanager
def limited_to(num: int) -> Iterator[None]:
    """Give each pass `num` cores, and put back what was set before."""
    global _most
    before, most = torch.get_num_threads(), _most
    _most = cores()
    torch.set_num_threads(num)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _most = most


@contextmanager
def suited_to(width: int) -> Iterator[None]:
    """Use one core for each pass of a small network and every core for one of a large one."""
    with limited_to(1 if width <= SMALL_WIDTH else cores()):
        yield


def keep_freed_memory(largest: int) -> None:
    """Ask the C library not to hand freed memory back at once: a step frees and wants the same sizes over and over.

    Handing it back and forth cost a step thousands of page faults, each thread with a store of its own several times
    over. Blocks larger than `largest` bytes are handed back all the same: kept, they fall to pieces, and a training's
    memory grows by half. Nothing happens where the library is not glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in ((_TRIM, 8 * largest), (_MAPPED, largest), (_STORES, 1)):
            mallopt(parameter, value)


def hand_back_freed_memory() -> None:
    """Hand the system what has been freed, once: for after a step of another kind, and now and then in between.

    What is kept lies in pieces, which are used again less and less: without this a training's memory grew by half.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


_TRIM, _MAPPED, _STORES = -1, -3, -8
"""M_TRIM_THRESHOLD, M_MMAP_THRESHOLD and M_ARENA_MAX of glibc's <malloc.h>."""
