"""The compiled block as a function of torch's autograd. Its slow twin is lifechart.model.backbone.Block."""

from __future__ import annotations

import ctypes
import itertools
from typing import Any, ClassVar

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


class Lent:
    """A stretch of memory for one pass, which the next one takes over when nobody holds this object any more.

    The C library would give it back to the system, to be asked for, and emptied, anew by the next pass; or keep it in
    pieces that other sizes have nibbled at.
    """

    _free: ClassVar[dict[int, Tensor]] = {}
    """By address. Entries are added and popped, each in one go, so no thread waits and a garbage collection may."""

    def __init__(self, num_bytes: int) -> None:
        memory = None
        while memory is None and (free := list(self._free.items())):
            # The smallest that is large enough, or else the largest, which makes room for a larger one.
            free.sort(key=lambda each: (each[1].numel() < num_bytes, abs(each[1].numel() - num_bytes)))
            memory = self._free.pop(free[0][0], None)
        if memory is None or memory.numel() < num_bytes:
            memory = None
            memory = torch.empty(num_bytes, dtype=torch.uint8)
        self.memory = memory

    def __del__(self) -> None:
        self._free[self.memory.data_ptr()] = self.memory

    @classmethod
    def forget(cls) -> None:
        """Hand back what nobody holds."""
        cls._free.clear()


class BlockPass(torch.autograd.Function):
    """[R, T, D] in 16 bits through one block. `weights`: those of Block in the order of its fields, in 32 bits."""

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, heads: int, dropped: int, seed: int, *weights: Tensor
    ) -> Tensor:
        R, T, D = x.shape
        shape = _Shape(R, T, D, heads, weights[5].shape[1])
        x, cos, sin = x.contiguous(), cos.contiguous(), sin.contiguous()
        out, scratch, ctx.kept = torch.empty_like(x), Lent(_passes().scratch_bytes(shape)), Lent(_kept_bytes(shape))
        ctx.shape, ctx.dropout = shape, _Dropout(dropped, seed)
        _passes().block_forward(
            shape, *_at(x, cos, sin), _Weights(*_at(*weights)), ctx.dropout, _kept(shape, ctx.kept),
            *_at(out, scratch.memory),
        )  # fmt: skip
        ctx.save_for_backward(x, cos, sin, *weights)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: D102
        x, cos, sin, *weights = ctx.saved_tensors
        slopes = [torch.zeros_like(each) for each in weights]
        # Named, for an address keeps nothing alive.
        back, into, scratch = grads[0].contiguous(), torch.empty_like(x), Lent(_passes().scratch_bytes(ctx.shape))
        _passes().block_backward(
            ctx.shape, *_at(x, cos, sin), _Weights(*_at(*weights)), ctx.dropout, _kept(ctx.shape, ctx.kept),
            *_at(back, into), _Weights(*_at(*slopes)), *_at(scratch.memory),
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


def _sizes(shape: _Shape) -> list[int]:
    """Return the bytes of what a forward pass keeps, in the order of _Kept."""
    places, D = shape.records * shape.places, shape.width
    return [places * each for each in (6 * D, 2 * D, 8 * shape.heads, 2 * D, 4 * shape.hidden)]


def _kept_bytes(shape: _Shape) -> int:
    return sum(_sizes(shape))


def _kept(shape: _Shape, lent: Lent) -> _Kept:
    start = lent.memory.data_ptr()
    return _Kept(*itertools.accumulate(_sizes(shape)[:-1], initial=start))


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
