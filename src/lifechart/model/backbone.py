"""The decoder: causal attention within each patient, continuous rotary time, RMSNorm, SwiGLU."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

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
        """Return cosines and sines, each [R, 1, T, P]."""
        angle_RTP = days_RT.unsqueeze(-1) * self.by_time_P + place_RT.unsqueeze(-1) * self.by_place_P
        return angle_RTP.cos().unsqueeze(1), angle_RTP.sin().unsqueeze(1)


def rotate(x_RHTC: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate the pairs (first half, second half) of each head."""
    cos, sin = turn
    first, second = x_RHTC.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


class Norm(nn.Module):
    """Root-mean-square normalisation in the precision of its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` scaled to unit mean square over its last dimension, times the learnt weight."""
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
        self.dropout = nn.Dropout(dropout)
        for last in (self.attended, self.down):
            nn.init.normal_(last.weight, std=0.02)

    def forward(self, x_RTD: Tensor, turn: tuple[Tensor, Tensor], mask_R1TT: Tensor) -> Tensor:
        """Return [R, T, D]."""
        R, T, D = x_RTD.shape
        qkv = self.qkv(self.before_attention(x_RTD)).view(R, T, 3, self.heads, D // self.heads)
        q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))
        q, k = rotate(q, turn), rotate(k, turn)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask_R1TT)
        x_RTD = x_RTD + self.dropout(self.attended(mixed.transpose(1, 2).reshape(R, T, D)))
        gate, value = self.gate_and_value(self.before_gate(x_RTD)).chunk(2, dim=-1)
        out_RTD: Tensor = x_RTD + self.dropout(self.down(nn.functional.silu(gate) * value))
        return out_RTD


class Backbone(nn.Module):
    """A stack of blocks over packed rows. Patients that share a row never see each other."""

    def __init__(self, width: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.rotary = RotaryTime(width // heads // 2)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        self.last = Norm(width)

    def forward(self, x_RTD: Tensor, days_RT: Tensor, place_RT: Tensor, segment_RT: Tensor) -> Tensor:
        """Return normalised hidden states [R, T, D]. `segment_RT` numbers the patients of a row (-1: padding)."""
        turn = self.rotary(days_RT, place_RT)
        mask = causal_within(segment_RT)
        if torch.is_autocast_enabled(x_RTD.device.type):
            # The stream of states in 16 bits too: on a CPU, moving it costs more than multiplying it.
            x_RTD = x_RTD.to(torch.get_autocast_dtype(x_RTD.device.type))
            turn = (turn[0].to(x_RTD.dtype), turn[1].to(x_RTD.dtype))
        for block in self.blocks:
            x_RTD = block(x_RTD, turn, mask)
        normalised: Tensor = self.last(x_RTD)
        return normalised


def causal_within(segment_RT: Tensor) -> Tensor:
    """Return the block-diagonal causal mask [R, 1, T, T]: True where a place may look."""
    same = segment_RT.unsqueeze(2) == segment_RT.unsqueeze(1)
    places = torch.arange(segment_RT.shape[1], device=segment_RT.device)
    return (same & (places.unsqueeze(1) >= places.unsqueeze(0))).unsqueeze(1)
