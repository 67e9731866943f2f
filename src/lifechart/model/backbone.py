"""The decoder: causal attention within each patient, continuous rotary time, RMSNorm, SwiGLU."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lifechart.model.kernels import Attend, Dropout, Gate, Normalise, listened, lot, turned
from lifechart.model.native import block as native

# Shapes: R rows, T places, D width, H heads, C dimensions of a head, P = C/2 rotating pairs.

_SHORTEST_DAYS = 7.0
_LONGEST_DAYS = 200 * 365.25
_HIDDEN_RATIO = 8 / 3


class RotaryTime(nn.Module):
    """Rotates queries and keys by the age at their event, so attention depends on intervals, not dates.

    Three pairs in four turn with time (wavelengths from a week to two centuries, geometric); the rest turn with the
    event's place in its record, which tells apart the events of one visit.
    """

    by_time_P: Tensor
    by_place_P: Tensor

    def __init__(self, pairs: int) -> None:
        super().__init__()
        timed = pairs - pairs // 4
        wavelengths = torch.logspace(math.log10(_SHORTEST_DAYS), math.log10(_LONGEST_DAYS), timed)
        places = torch.logspace(math.log10(4.0), math.log10(512.0), pairs - timed)
        zeros = torch.zeros
        self.register_buffer("by_time_P", torch.cat([2 * math.pi / wavelengths, zeros(pairs - timed)]), False)
        self.register_buffer("by_place_P", torch.cat([zeros(timed), 2 * math.pi / places]), False)

    def forward(self, days_RT: Tensor, place_RT: Tensor) -> tuple[Tensor, Tensor]:
        """Return what each dimension of a head is multiplied by, and its partner, each [R, 1, T, C]: cosines and sines.

        A pair is a dimension of the first half and one of the second; the first half's sines are negative.
        """
        angle_RTP = days_RT.unsqueeze(-1) * self.by_time_P + place_RT.unsqueeze(-1) * self.by_place_P
        cos, sin = angle_RTP.cos().unsqueeze(1), angle_RTP.sin().unsqueeze(1)
        return torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)


def rotate(x_RHTC: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate the pairs of each head by what RotaryTime returned."""
    return turned(x_RHTC, *turn)


class Norm(nn.Module):
    """Root-mean-square normalisation in the precision of its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` scaled to unit mean square over its last dimension, times the learnt weight."""
        if by_hand(x):
            normalised: Tensor = Normalise.apply(x, self.weight, 1e-5)  # type: ignore[no-untyped-call]
            return normalised
        return nn.functional.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), eps=1e-5)


class Block(nn.Module):
    """Attention, then a gated linear unit, each on a normalised copy that is added back."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        hidden = 32 * math.ceil(width * _HIDDEN_RATIO / 32)
        self.heads = heads
        self.before_attention = Norm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.attended = nn.Linear(width, width, bias=False)
        self.before_gate = Norm(width)
        self.gate_and_value = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)
        self.dropout = Dropout(dropout)
        for last in (self.attended, self.down):
            nn.init.normal_(last.weight, std=0.02)

    def forward(self, x_RTD: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        """Return [R, T, D]."""
        if by_hand(x_RTD) and self._plain() and native.serves(x_RTD, self.heads, self._weights()):
            dropped = self.dropout.dropped if self.training else 0
            seed = lot() if dropped else 0
            compiled: Tensor = native.BlockPass.apply(x_RTD, *turn, self.heads, dropped, seed, *self._weights())  # type: ignore[no-untyped-call]
            return compiled
        mixed = self.attention(self.qkv(self.before_attention(x_RTD)), turn)
        x_RTD = self.dropout.onto(x_RTD, self.attended(mixed))
        both = self.gate_and_value(self.before_gate(x_RTD))
        if by_hand(both):
            gated: Tensor = Gate.apply(both)  # type: ignore[no-untyped-call]
        else:
            gate, value = both.chunk(2, dim=-1)
            gated = nn.functional.silu(gate) * value
        return self.dropout.onto(x_RTD, self.down(gated))

    def _plain(self) -> bool:
        """Whether the layers are our own, with no adapter (model.adapt) in their place, and nobody listens to them."""
        linear = (self.qkv, self.attended, self.gate_and_value, self.down)
        return all(type(each) is nn.Linear for each in linear) and not listened(*self.children())

    def _weights(self) -> tuple[Tensor, ...]:
        return (
            self.before_attention.weight, self.qkv.weight, self.attended.weight, self.before_gate.weight,
            self.gate_and_value.weight, self.down.weight,
        )  # fmt: skip

    def attention(self, qkv_RTD: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        """Mix each place's value with those before it: [R, T, 3D] to [R, T, D]."""
        if by_hand(qkv_RTD):
            mixed_RTD: Tensor = Attend.apply(qkv_RTD, *turn, self.heads)  # type: ignore[no-untyped-call]
            return mixed_RTD
        R, T, D = qkv_RTD.shape
        q, k, v = (part.transpose(1, 2) for part in qkv_RTD.view(R, T, 3, self.heads, -1).unbind(2))
        q, k = rotate(q, turn), rotate(k, turn)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return mixed.transpose(1, 2).reshape(R, T, D // 3)


class Backbone(nn.Module):
    """A stack of blocks. Each row is one record, padded at its end: nothing real looks at what comes after it."""

    def __init__(self, width: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.rotary = RotaryTime(width // heads // 2)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        self.last = Norm(width)

    def forward(self, x_RTD: Tensor, days_RT: Tensor, place_RT: Tensor) -> Tensor:
        """Return normalised hidden states [R, T, D]."""
        turn = self.rotary(days_RT, place_RT)
        if torch.is_autocast_enabled(x_RTD.device.type):
            # The stream of states in 16 bits too: on a CPU, moving it costs more than multiplying it.
            x_RTD = x_RTD.to(torch.get_autocast_dtype(x_RTD.device.type))
            turn = (turn[0].to(x_RTD.dtype), turn[1].to(x_RTD.dtype))
        for block in self.blocks:
            x_RTD = block(x_RTD, turn)
        normalised: Tensor = self.last(x_RTD)
        return normalised


def by_hand(x: Tensor) -> bool:
    """Whether the hand-written passes serve: 16 bits, on a CPU, with a gradient to come."""
    return x.dtype == torch.bfloat16 and x.device.type == "cpu" and x.requires_grad
