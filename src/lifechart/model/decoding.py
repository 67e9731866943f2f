"""One new event a pass: the decoder with its keys and values kept, and a prompt that many futures share.

The arithmetic is the backbone's own (its blocks' weights, its rotary time). A prompt is read once; the futures that
begin from it attend to its keys in one product, whatever their number, and each keeps only what is its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lifechart.model.backbone import Backbone, Block, rotate

# Shapes: P prompts, N futures of a prompt, T places of the longest prompt, G places generated, D width, H heads,
# C dimensions of a head, F = C/2 rotating pairs.

_GROWTH = 32


@dataclass
class Cache:
    """Keys and values of one block: the prompts' [P, H, T, C], the futures' own [P, N, H, room, C]."""

    prompt_keys: Tensor
    prompt_values: Tensor
    own_keys: Tensor
    own_values: Tensor


class Decoder:
    """Reads prompts once, then one event of each future a call. `retire` drops futures that are done."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self.blocks: list[Block] = [block for block in backbone.blocks if isinstance(block, Block)]
        self.caches: list[Cache] = []
        self.length = 0

    def read(self, x_PTD: Tensor, days_PT: Tensor, place_PT: Tensor, lengths_P: Tensor, futures: int) -> Tensor:
        """Read prompts, each beginning at place 0 of its row; return the hidden state of its last event [P, D]."""
        P, T, D = x_PTD.shape
        turn = self.backbone.rotary(days_PT, place_PT)
        places = torch.arange(T, device=x_PTD.device)
        held_P1T = (places < lengths_P.unsqueeze(1)).unsqueeze(1)
        mask = ((places.unsqueeze(1) >= places) & held_P1T).unsqueeze(1)
        self.bias_P1T = torch.zeros(held_P1T.shape, device=x_PTD.device).masked_fill(~held_P1T, float("-inf"))
        self.caches, self.length = [], 0
        for block in self.blocks:
            q, k, v = (part.transpose(1, 2) for part in _queries_keys_values(block, x_PTD))
            q, k = rotate(q, turn), rotate(k, turn)
            mixed = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
            x_PTD = _finish(block, x_PTD, mixed.transpose(1, 2).reshape(P, T, D))
            room = x_PTD.new_empty(P, futures, block.heads, _GROWTH, D // block.heads)
            self.caches.append(Cache(k.contiguous(), v.contiguous(), room, torch.empty_like(room)))
        hidden: Tensor = self.backbone.last(x_PTD)
        return hidden[torch.arange(P), lengths_P - 1]

    def step(self, x_PND: Tensor, days_PN: Tensor, place_PN: Tensor) -> Tensor:
        """Read one more event of each future; return its hidden state [P, N, D]."""
        P, N, D = x_PND.shape
        cos, sin = self.backbone.rotary(days_PN, place_PN)
        turn = (cos.transpose(1, 2), sin.transpose(1, 2))
        if self.length == self.caches[0].own_keys.shape[3]:
            self._grow()
        for block, cache in zip(self.blocks, self.caches, strict=True):
            q, k, v = _queries_keys_values(block, x_PND)
            q, k = rotate(q, turn), rotate(k, turn)
            cache.own_keys[:, :, :, self.length] = k
            cache.own_values[:, :, :, self.length] = v
            mixed = self._attend(q, cache)
            x_PND = _finish(block, x_PND, mixed.reshape(P, N, D))
        self.length += 1
        hidden: Tensor = self.backbone.last(x_PND)
        return hidden

    def _attend(self, q_PNHC: Tensor, cache: Cache) -> Tensor:
        upto = self.length + 1
        q_PNHC = q_PNHC * q_PNHC.shape[-1] ** -0.5
        shared = torch.matmul(q_PNHC.transpose(1, 2), cache.prompt_keys.transpose(2, 3)) + self.bias_P1T.unsqueeze(1)
        own_keys, own_values = cache.own_keys[:, :, :, :upto], cache.own_values[:, :, :, :upto]
        own = torch.matmul(own_keys, q_PNHC.unsqueeze(-1)).squeeze(-1)
        T = shared.shape[-1]
        weights = torch.softmax(torch.cat([shared.transpose(1, 2), own], dim=-1), dim=-1)
        from_shared = torch.matmul(weights[..., :T].transpose(1, 2), cache.prompt_values).transpose(1, 2)
        from_own = torch.matmul(weights[..., T:].unsqueeze(-2), own_values).squeeze(-2)
        return from_shared + from_own

    def retire(self, prompts: Tensor, futures_PN: Tensor) -> None:
        """Keep these prompts [P'], and of each these futures [P', N'], by their present numbers."""
        self.bias_P1T = self.bias_P1T[prompts]
        row = prompts.unsqueeze(1)
        for cache in self.caches:
            cache.prompt_keys, cache.prompt_values = cache.prompt_keys[prompts], cache.prompt_values[prompts]
            cache.own_keys = cache.own_keys[row, futures_PN]
            cache.own_values = cache.own_values[row, futures_PN]

    def _grow(self) -> None:
        for cache in self.caches:
            more = torch.empty_like(cache.own_keys[:, :, :, :1]).expand(-1, -1, -1, max(_GROWTH, self.length), -1)
            cache.own_keys = torch.cat([cache.own_keys, more], dim=3)
            cache.own_values = torch.cat([cache.own_values, more], dim=3)


def _queries_keys_values(block: Block, x: Tensor) -> tuple[Tensor, ...]:
    """Return q, k, v, each [.., .., H, C]."""
    qkv = block.qkv(block.before_attention(x))
    return qkv.view(*x.shape[:2], 3, block.heads, x.shape[2] // block.heads).unbind(2)  # type: ignore[no-any-return]


def _finish(block: Block, x: Tensor, mixed: Tensor) -> Tensor:
    x = x + block.attended(mixed)
    gate, value = block.gate_and_value(block.before_gate(x)).chunk(2, dim=-1)
    out: Tensor = x + block.down(nn.functional.silu(gate) * value)
    return out
