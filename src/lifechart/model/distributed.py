"""Several processes, on one machine or many, that learn as one: started by `torchrun`, which says who is who.

Every process (rank) holds the whole network and works on its share of each step's parts; the gradients are summed once a
step. A part's random numbers and its share of the loss do not depend on who works on it, so two ranks learn what one
would, but for the order of a sum. If a rank dies, torchrun starts all of them anew, and they go on from the checkpoint.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True, slots=True)
class World:
    """This process among the others: its rank, how many there are, and its place on its own machine."""

    rank: int = 0
    size: int = 1
    local: int = 0

    @property
    def leads(self) -> bool:
        """Whether this is the rank that writes files and talks."""
        return self.rank == 0


def world() -> World:
    """Return what torchrun's environment says; alone where there is none."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return World()
    return World(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), int(os.environ.get("LOCAL_RANK", "0")))


def device_for(name: str | None) -> torch.device:
    """Return the device to learn on: the one named, or this rank's own GPU, or the CPU."""
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device("cuda", world().local) if name == "cuda" and world().size > 1 else torch.device(name)


@contextmanager
def joined(device: torch.device) -> Iterator[World]:
    """Meet the other ranks, if there are any, for as long as the context lasts."""
    here = world()
    if here.size == 1:
        yield here
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield here
        # Nobody leaves before the one that writes has written.
        dist.barrier()
    finally:
        dist.destroy_process_group()


def among_all() -> bool:
    """Whether other ranks have been met."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def mine(number: int) -> bool:
    """Whether this rank works on the step's part of that number."""
    return not among_all() or number % dist.get_world_size() == dist.get_rank()


def summed(counts: Sequence[float], device: torch.device) -> list[float]:
    """Return each number's sum over the ranks."""
    if not among_all():
        return list(counts)
    tensor = torch.tensor(counts, dtype=torch.float64, device=device)
    dist.all_reduce(tensor)
    totals: list[float] = tensor.tolist()
    return totals


def sum_gradients(grads: Sequence[Tensor]) -> None:
    """Sum each gradient over the ranks, in place; all travel together."""
    if not among_all():
        return
    flat = torch.cat([each.reshape(-1) for each in grads])
    dist.all_reduce(flat)
    for each, part in zip(grads, flat.split([each.numel() for each in grads]), strict=True):
        each.copy_(part.view_as(each))
