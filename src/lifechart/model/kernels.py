"""Hand-written forward and backward passes for learning in 16 bits on a CPU: attention, gate, norm and dropout.

There a matrix product in bfloat16 runs several times faster than in 32 bits, while softmax, masks, norms and random
numbers, as torch strings them together, run slower. So each of these functions does the least of those: what is cheap
to compute again is not kept, and nothing is masked that the order of the sums already leaves out.
Their slow twins, torch's own operations, are what inference uses; tests/model/test_kernels.py holds one to the other.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from scipy.sparse import csc_array
from torch import Tensor, nn

# Shapes: R rows, T places, D width, H heads, C dimensions of a head, P = C/2 rotating pairs, B = R x H.

_BLOCK = 256
"""Queries that are multiplied at once with all the keys that they may see."""


class Attend(torch.autograd.Function):
    """Causal attention with rotated queries and keys: [R, T, 3D] and the turn (RotaryTime) to [R, T, D].

    Long rows go block by block, so that what lies ahead of a whole block is never computed. Their shares, which grow
    with the square of the length, are not kept: the backward pass works them out again.
    """

    @staticmethod
    def forward(ctx: Any, qkv_RTD: Tensor, cos: Tensor, sin: Tensor, heads: int) -> Tensor:  # noqa: D102
        R, T, D3 = qkv_RTD.shape
        D, C = D3 // 3, D3 // 3 // heads
        # One copy brings every head's vectors together; the products below want them so.
        qkv = qkv_RTD.view(R, T, 3, heads, C).permute(2, 0, 3, 1, 4).contiguous()
        q, k = (part.view(R * heads, T, C) for part in turned(qkv[:2], cos, sin))
        v = qkv[2].view(R * heads, T, C)
        pieces, shares = [], []
        for first, last in _blocks(T):
            share = _shares(q, k, first, last)
            pieces.append(torch.bmm(share, v[:, :last]))
            if T <= _BLOCK:
                shares.append(share)
        ctx.save_for_backward(q, k, v, cos, sin, *shares)
        mixed = pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)
        return mixed.view(R, heads, T, C).transpose(1, 2).reshape(R, T, D)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:  # noqa: D102
        q, k, v, cos, sin, *shares = ctx.saved_tensors
        _, T, C = q.shape
        R = grads[0].shape[0]
        H = len(q) // R
        out_BTC = grads[0].view(R, T, H, C).transpose(1, 2).reshape(R * H, T, C)
        into = torch.empty(3, R, H, T, C, dtype=q.dtype)
        into_q, into_k, into_v = (part.view(R * H, T, C) for part in into)
        if T > _BLOCK:
            into[1:].zero_()
        for first, last in _blocks(T):
            share = shares[0] if shares else _shares(q, k, first, last)
            back = out_BTC[:, first:last]
            by_share = torch.bmm(back, v[:, :last].transpose(1, 2))
            by_score = torch._softmax_backward_data(by_share, share, -1, share.dtype)
            if T <= _BLOCK:
                torch.bmm(by_score, k, out=into_q)
                torch.bmm(by_score.transpose(1, 2), q, out=into_k)
                torch.bmm(share.transpose(1, 2), back, out=into_v)
            else:
                into_q[:, first:last] = torch.bmm(by_score, k[:, :last])
                into_k[:, :last] += torch.bmm(by_score.transpose(1, 2), q[:, first:last])
                into_v[:, :last] += torch.bmm(share.transpose(1, 2), back)
        into[:2] = turned(into[:2].mul_(C**-0.5), cos, -sin)
        return into.permute(1, 3, 0, 2, 4).reshape(R, T, 3 * H * C), None, None, None


def _shares(q: Tensor, k: Tensor, first: int, last: int) -> Tensor:
    """Return how much each of a block's queries takes from each key [B, queries, keys]."""
    barred, past = _ahead(first, last, q.dtype), k[:, :last].transpose(1, 2)
    score = torch.baddbmm(barred, q[:, first:last], past, alpha=q.shape[-1] ** -0.5)
    return torch.softmax(score.float(), dim=-1).to(q.dtype)


def _blocks(length: int) -> list[tuple[int, int]]:
    return [(first, min(first + _BLOCK, length)) for first in range(0, length, _BLOCK)]


@lru_cache(maxsize=256)
def _ahead(first: int, last: int, dtype: torch.dtype) -> Tensor:
    """Return what is added to the scores [queries, keys]: minus infinity for the keys after each query."""
    barred = torch.full((last - first, last), float("-inf"), dtype=dtype)
    return barred.triu_(first + 1)


def turned(x_RHTC: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs (first half, second half) of each head; `cos` and `sin` as RotaryTime gives them."""
    return torch.addcmul(x_RHTC * cos, torch.roll(x_RHTC, x_RHTC.shape[-1] // 2, -1), sin)


class Gate(torch.autograd.Function):
    """SwiGLU's product: of [.., 2 x hidden], the sigmoid-weighted first half times the second."""

    @staticmethod
    def forward(ctx: Any, both: Tensor) -> Tensor:  # noqa: D102
        gate, value = both.chunk(2, dim=-1)
        opened = nn.functional.silu(gate)
        ctx.save_for_backward(both, opened)
        return opened * value

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:  # noqa: D102
        both, opened = ctx.saved_tensors
        gate, value = both.chunk(2, dim=-1)
        into = torch.empty_like(both)
        into_gate, into_value = into.chunk(2, dim=-1)
        torch.ops.aten.silu_backward.grad_input(grads[0] * value, gate, grad_input=into_gate)
        torch.mul(grads[0], opened, out=into_value)
        return into


class Normalise(torch.autograd.Function):
    """Root-mean-square normalisation of [.., D] times a weight [D]; worked out in 32 bits, which is the quicker way."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:  # noqa: D102
        whole = x.float()
        norm = torch.linalg.vector_norm(whole, dim=-1, keepdim=True)
        inverse = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, inverse, weight)
        return whole.mul_(inverse).mul_(weight).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:  # noqa: D102
        x, inverse, weight = ctx.saved_tensors
        width = weight.shape[0]
        scaled = x.float().mul_(inverse).view(-1, width)
        grad = grads[0].float().view(-1, width)
        along = grad * scaled
        into_weight = along.sum(0)
        # The gradient's part along x itself is lost in the normalisation.
        share = torch.mv(along, weight.float()).div_(-width).unsqueeze(1)
        into = grad.mul_(weight).addcmul_(scaled, share).mul_(inverse.view(-1, 1))
        return into.to(x.dtype).view(x.shape), into_weight.to(weight.dtype), None


class WeightedRows(torch.autograd.Function):
    """Sums of a table's rows, each times its weight: what nn.EmbeddingBag returns [bags, D] for a table [rows, D].

    Its own backward pass first sorts all entries by row; as a product with a sparse matrix that takes a quarter of the
    time, on a CPU. Columns, weights and offsets as there; entries lie bag by bag.
    """

    @staticmethod
    def forward(ctx: Any, table: Tensor, columns: Tensor, weights: Tensor, offsets: Tensor) -> Tensor:  # noqa: D102
        ctx.save_for_backward(columns, weights, offsets)
        ctx.rows = len(table)
        return nn.functional.embedding_bag(columns, table, offsets, mode="sum", per_sample_weights=weights)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:  # noqa: D102
        columns, weights, offsets = (each.numpy() for each in ctx.saved_tensors)
        ends = np.append(offsets, len(columns))
        entries = csc_array((weights, columns, ends), shape=(ctx.rows, len(offsets)))
        return torch.from_numpy(entries @ grads[0].contiguous().numpy()), None, None, None


def weighted_rows(table: Tensor, columns: Tensor, weights: Tensor, offsets: Tensor) -> Tensor:
    """Return the sums of WeightedRows, by the quicker way where the table learns on a CPU."""
    if table.device.type == "cpu" and table.requires_grad and torch.is_grad_enabled():
        sums: Tensor = WeightedRows.apply(table, columns, weights, offsets)  # type: ignore[no-untyped-call]
        return sums
    return nn.functional.embedding_bag(columns, table, offsets, mode="sum", per_sample_weights=weights)


def bagged(bag: nn.EmbeddingBag, columns: Tensor, weights: Tensor, offsets: Tensor) -> Tensor:
    """Return a bag's sums by weighted_rows, or by the bag itself where somebody listens to it."""
    if listened(bag):
        out: Tensor = bag(columns, offsets, per_sample_weights=weights)
        return out
    return weighted_rows(bag.weight, columns, weights, offsets)


def listened(*layers: nn.Module) -> bool:
    """Whether somebody waits for what goes through a layer, as private training does: it must then be called."""
    return any(each._forward_hooks or each._forward_pre_hooks for each in layers)


_draws = threading.local()


@contextmanager
def drawing(seed: int) -> Iterator[None]:
    """Let this thread's dropout draw from a generator of its own, whatever other threads and processes draw."""
    before = getattr(_draws, "generator", None)
    _draws.generator = torch.Generator().manual_seed(seed)
    try:
        yield
    finally:
        _draws.generator = before


def lots(number: int) -> Tensor:
    """Return numbers evenly from 0 to 1, from the same generator as this thread's dropout."""
    return torch.rand(number, generator=getattr(_draws, "generator", None))


def lot() -> int:
    """Return a whole number from the same generator."""
    return int(torch.empty((), dtype=torch.int64).random_(generator=getattr(_draws, "generator", None)))


class Dropout(nn.Module):
    """Dropout from one random byte an element: its rate is rounded to 256ths, and what is kept is scaled exactly.

    torch's own draws a 32-bit number an element; on a CPU that took a twentieth of a training step.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.dropped = round(256 * rate)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x`, in training with some elements set to nothing and the others scaled up."""
        return x * self._kept(x) if self.training and self.dropped else x

    def onto(self, stream: Tensor, x: Tensor) -> Tensor:
        """Return `stream` + dropout(`x`)."""
        return torch.addcmul(stream, x, self._kept(x)) if self.training and self.dropped else stream + x

    def _kept(self, x: Tensor) -> Tensor:
        generator = getattr(_draws, "generator", None)
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64, device=x.device)
        if generator is not None and generator.device != x.device:
            generator = _draws.generator = torch.Generator(x.device).manual_seed(generator.initial_seed())
        bytes_ = words.random_(-(2**63), None, generator=generator).view(torch.uint8)[: x.numel()].view(x.shape)
        kept = torch.ge(bytes_, self.dropped, out=torch.empty_like(x, requires_grad=False))
        return kept.mul_(256 / (256 - self.dropped))
