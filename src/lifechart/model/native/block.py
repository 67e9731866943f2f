"""The compiled block as a function of torch's autograd. Its slow twin is lifechart.model.backbone.Block."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from lifechart.model.native import library

# Shapes: R rows, T places, D width, H heads, C dimensions of a head, G hidden units of the gate.

_PLACES = 16
"""Rows are whole multiples of so many places."""


class _Shape(ctypes.Structure):
    _fields_ = [(name, ctypes.c_long) for name in ("records", "places", "width", "heads", "hidden")]


class _Weights(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("norm", "qkv", "attended", "gate_norm", "gate", "down")]


class _Kept(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("qkv", "mixed", "stats", "middle", "both")]


class _Dropout(ctypes.Structure):
    _fields_ = [("dropped", ctypes.c_long), ("seed", ctypes.c_uint64)]


def serves(x_RTD: Tensor, heads: int, weights: tuple[Tensor, ...]) -> bool:
    """Whether the compiled block takes this input and these weights."""
    D = x_RTD.shape[-1]
    fits = x_RTD.shape[1] % _PLACES == 0 and D % 8 == 0 and D % (2 * heads) == 0
    plain = all(each.dtype == torch.float32 and each.is_contiguous() for each in weights)
    return fits and plain and library() is not None


class BlockPass(torch.autograd.Function):
    """[R, T, D] in 16 bits through one block. `weights`: those of Block in the order of its fields, in 32 bits."""

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, heads: int, dropped: int, seed: int, *weights: Tensor
    ) -> Tensor:
        R, T, D = x.shape
        shape = _Shape(R, T, D, heads, weights[5].shape[1])
        x, cos, sin = x.contiguous(), cos.contiguous(), sin.contiguous()
        sizes = (3 * D, D, 0, D, 2 * shape.hidden)
        kept = [x.new_empty(R, T, size) for size in sizes]
        kept[2] = torch.empty(R, heads, T, 2)
        out, scratch = torch.empty_like(x), _scratch(shape)
        _passes().block_forward(
            shape, *_at(x, cos, sin), _Weights(*_at(*weights)), _Dropout(dropped, seed), _Kept(*_at(*kept)), *_at(out, scratch),
        )  # fmt: skip
        ctx.save_for_backward(x, cos, sin, *weights, *kept)
        ctx.shape, ctx.dropout = shape, _Dropout(dropped, seed)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: D102
        x, cos, sin, *others = ctx.saved_tensors
        weights, kept = others[:6], others[6:]
        slopes = [torch.zeros_like(each) for each in weights]
        # Named, for an address keeps nothing alive.
        back, into, scratch = grads[0].contiguous(), torch.empty_like(x), _scratch(ctx.shape)
        _passes().block_backward(
            ctx.shape, *_at(x, cos, sin), _Weights(*_at(*weights)), ctx.dropout, _Kept(*_at(*kept)),
            *_at(back, into), _Weights(*_at(*slopes)), *_at(scratch),
        )  # fmt: skip
        return into, None, None, None, None, None, *slopes


def kept_bytes(seed: int, site: int, rows: int, width: int) -> Tensor:
    """Return the random bytes that decide what a block drops [rows, width] after attention (site 0) or the gate (1)."""
    bytes_ = torch.empty(rows, -(-width // 64) * 64, dtype=torch.uint8)
    for row in range(rows):
        _passes().random_bytes(ctypes.c_uint64(seed), site, row, width, ctypes.c_void_p(bytes_[row].data_ptr()))
    return bytes_[:, :width]


def _at(*tensors: Tensor) -> list[ctypes.c_void_p]:
    return [ctypes.c_void_p(each.data_ptr()) for each in tensors]


def _scratch(shape: _Shape) -> Tensor:
    return torch.empty(_passes().scratch_bytes(shape), dtype=torch.uint8)


def _passes() -> ctypes.CDLL:
    passes = library()
    assert passes is not None, "only where `serves` said so"
    pointer = ctypes.c_void_p
    passes.scratch_bytes.argtypes, passes.scratch_bytes.restype = [_Shape], ctypes.c_long
    passes.random_bytes.restype = None
    passes.random_bytes.argtypes = [ctypes.c_uint64, ctypes.c_long, ctypes.c_long, ctypes.c_long, pointer]
    shared = [_Shape, pointer, pointer, pointer, _Weights, _Dropout, _Kept]
    passes.block_forward.argtypes, passes.block_forward.restype = [*shared, pointer, pointer], None
    passes.block_backward.argtypes = [*shared, pointer, pointer, _Weights, pointer]
    passes.block_backward.restype = None
    return passes
