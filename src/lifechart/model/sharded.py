"""Parameters that the ranks share out among them (FSDP2), for networks too large for one device's memory.

Each rank holds an equal slice of every parameter, of its two moments and of its average. A block's parameters are
gathered when its turn comes and dropped after it; its gradients are summed and cut into slices as soon as they are
there. So each rank must work on as many parts as the others (`parts_of(.., even=True)`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from lifechart.model import distributed
from lifechart.model.kernels import drawing
from lifechart.model.network import Network
from lifechart.model.step import Cores, Objective, Part, Totals, autocast, part_seed


class ShardedObjective(Objective):
    """The objective of one part, with a gradient, if only nothing, for every parameter that is not a block's.

    A part without pictures says nothing of what reads them, while another rank's part does: their sum would not meet.
    """

    def forward(self, part: Part, totals: Totals) -> tuple[Tensor, Tensor]:
        """Return the whole loss and the survival loss alone, as Objective does."""
        loss, main = super().forward(part, totals)
        for name, each in self.named_parameters():
            if each.requires_grad and ".backbone.blocks." not in name:
                loss = loss + each.sum() * 0.0
        return loss, main


def shard(network: Network, whole: nn.Module) -> None:
    """Cut the parameters of `network` into slices, in place; `whole` is the module that is called, or itself."""
    for block in network.backbone.blocks:
        fully_shard(block)
    # Averages change between two forward passes without a backward one: what was gathered must not be kept.
    fully_shard(whole, reshard_after_forward=True)


class Shards(Cores):
    """Works out the gradients of a step on sharded parameters, one part after another, in step with the other ranks."""

    def gradients(self, parts: Sequence[Part], totals: Totals, seed: int) -> float:
        """Set this rank's slice of every gradient to the step's; return the step's survival loss."""
        total, ranks = 0.0, dist.get_world_size()
        self.objective.zero_grad(set_to_none=True)
        for part in parts:
            with drawing(part_seed(seed, part)), autocast(self.device, self.precision):
                loss, main = self.objective(part, totals)
            # fully_shard takes the mean over the ranks; the step's loss is their sum.
            (loss * (0.0 if part.idle else float(ranks))).backward()
            total += 0.0 if part.idle else float(main)
        return distributed.summed([total])[0]


def local(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Return this rank's slice of each tensor that is sharded, and the others as they are."""
    return [each.to_local() if isinstance(each, DTensor) else each for each in tensors]


def gathered(state: Any) -> Any:
    """Return a state (of dicts, lists and tensors) with every sharded tensor whole; all ranks must ask together."""
    if isinstance(state, DTensor):
        return state.full_tensor()
    if isinstance(state, dict):
        return type(state)((key, gathered(each)) for key, each in state.items())
    return [gathered(each) for each in state] if isinstance(state, list) else state


def spread_moments(optimizer: torch.optim.Optimizer, held: dict[str, Any]) -> None:
    """Load what another optimizer of the same, whole parameters held into one whose parameters are sharded."""
    params = [each for group in optimizer.param_groups for each in group["params"]]
    for number, moments in held["state"].items():
        param = params[number]
        for name, each in moments.items():
            if isinstance(param, DTensor) and each.shape == param.shape:
                moments[name] = distribute_tensor(each, param.device_mesh, param.placements)
    optimizer.load_state_dict(held)
