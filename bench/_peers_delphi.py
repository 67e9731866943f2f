"""Delphi-2M's token scheme and training step, written anew in plain torch from its paper (Shmatko et al. 2025).

An event is a code token; values are not read. Ages enter as sines and cosines through a linear layer, there are no
positions. "No event" tokens are strewn in once in five years, rows are padded in front, and no place attends to
padding or to what has the age of its target. The loss is the cross-entropy of the next code plus the exponential
log-likelihood of the waiting time, whose rate is the sum of the exponentiated logits. Blocks as GPT-2's with biases,
attention and GELU spelt out operation by operation, every layer's attention map returned, tied embeddings; AdamW
(0.9, 0.99), weight decay 0.2, gradients clipped at 1; no dropout, float32, not compiled: the published small
configuration, as it ships.
"""

from __future__ import annotations

import math
from collections.abc import Generator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bench._peers_records import Records

WIDTH, LAYERS, HEADS, CONTEXT, BATCH = 120, 12, 12, 48, 128
PADDING, NO_EVENT, FIRST_CODE = 0, 1, 2
_YEAR = 365.25
_T_MIN = 0.1
_LONG_AGO = -10_000.0


class Trajectories:
    """Every patient's codes and ages in days, and batches of windows on them."""

    def __init__(self, records: Records) -> None:
        self.codes, self.days = records.code + FIRST_CODE, records.minutes / 1440.0
        _, self.first, self.number = np.unique(records.subject, return_index=True, return_counts=True)
        self.vocabulary = records.num_codes + FIRST_CODE
        self.rng = np.random.default_rng(42)

    def batch(self) -> tuple[Tensor, Tensor, Tensor, Tensor, int]:
        """Return tokens, ages, next tokens, their ages [rows, places], and how many of the tokens are events."""
        tokens = np.full((BATCH, CONTEXT + 1), PADDING)
        ages = np.full((BATCH, CONTEXT + 1), _LONG_AGO)
        for row, patient in enumerate(self.rng.integers(0, len(self.first), BATCH)):
            code, day = self._window(int(patient))
            tokens[row, CONTEXT + 1 - len(code) :], ages[row, CONTEXT + 1 - len(code) :] = code, day
        x, y = torch.from_numpy(tokens[:, :-1]), torch.from_numpy(tokens[:, 1:])
        a, b = (torch.from_numpy(part.astype(np.float32)) for part in (ages[:, :-1], ages[:, 1:]))
        return x, a, y, b, int((x >= FIRST_CODE).sum())

    def _window(self, patient: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        first, number = self.first[patient], self.number[patient]
        start = first + self.rng.integers(0, max(number - CONTEXT, 1))
        stop = min(start + CONTEXT + 1, first + number)
        code, day = self.codes[start:stop], self.days[start:stop]
        strewn = np.arange(day[0] + self.rng.random() * 5 * _YEAR, day[-1], 5 * _YEAR)
        code = np.concatenate([code, np.full(len(strewn), NO_EVENT)])
        day = np.concatenate([day, strewn])
        order = np.argsort(day, kind="stable")[-(CONTEXT + 1) :]
        return code[order], day[order]


def gelu(x: Tensor) -> Tensor:
    """Return the Gaussian error linear unit by its tanh form."""
    return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))))


class Block(nn.Module):
    """A GPT-2 block that also returns its attention map."""

    def __init__(self) -> None:
        super().__init__()
        self.before_attention, self.before_feed = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.attended = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Return [rows, places, width] and the attention [rows, heads, places, places]."""
        rows, places, _ = x.shape
        q, k, v = (
            part.view(rows, places, HEADS, WIDTH // HEADS).transpose(1, 2)
            for part in self.qkv(self.before_attention(x)).split(WIDTH, dim=2)
        )
        score = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.shape[-1]))
        attention = score.masked_fill(~seen, float("-inf")).softmax(dim=-1)
        mixed = (attention @ v).transpose(1, 2).contiguous().view(rows, places, WIDTH)
        x = x + self.attended(mixed)
        return x + self.down(gelu(self.up(self.before_feed(x)))), attention


class Delphi(nn.Module):
    """The decoder and its two losses."""

    frequency: Tensor

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, WIDTH)
        self.age = nn.Linear(WIDTH, WIDTH, bias=False)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.last = nn.LayerNorm(WIDTH)
        frequency = torch.exp(torch.arange(0, WIDTH, 2) * (-math.log(10_000.0) / WIDTH))
        self.register_buffer("frequency", frequency, False)
        for each in self.parameters():
            if each.ndim >= 2:
                nn.init.normal_(each, std=0.02)

    def forward(self, tokens: Tensor, ages: Tensor, targets: Tensor, target_ages: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss and every layer's attention."""
        angle = ages.unsqueeze(-1) / _YEAR * self.frequency
        x = self.token(tokens) + self.age(torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2))
        seen = self._seen(tokens, ages, target_ages)
        maps = []
        for block in self.blocks:
            x, attention = block(x, seen)
            maps.append(attention)
        logits = self.last(x) @ self.token.weight.T
        learnt = (targets != PADDING).flatten()
        code = nn.functional.cross_entropy(logits.flatten(0, 1)[learnt], targets.flatten()[learnt])
        # From the last event that is not of the target's own age.
        last = (seen.squeeze(1) * torch.arange(tokens.shape[1])).argmax(-1)
        wait = (target_ages - ages).clamp(min=1.0).gather(1, last)
        log_rate = -torch.log(torch.exp(-torch.logsumexp(logits, dim=-1)) + _T_MIN)
        time = torch.exp(log_rate + torch.log(wait + _T_MIN)) - log_rate
        return code + time.flatten()[learnt].mean(), torch.stack(maps)

    def _seen(self, tokens: Tensor, ages: Tensor, target_ages: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1])
        causal = places.unsqueeze(1) >= places
        itself = places.unsqueeze(1) == places
        real = tokens != PADDING
        seen = real.unsqueeze(1) & real.unsqueeze(2) & causal & (ages.unsqueeze(1) != target_ages.unsqueeze(2))
        return (seen | (~seen.any(-1, keepdim=True) & itself)).unsqueeze(1)


def learn(records: Records, how: str) -> Generator[tuple[int, int], None, None]:
    """Train for ever, a step a turn; yield the events and tokens of each. `how`: float32 (as it ships) or bfloat16."""
    torch.manual_seed(42)
    trajectories = Trajectories(records)
    network = Delphi(trajectories.vocabulary)
    decayed = [each for name, each in network.named_parameters() if each.ndim >= 2 and name != "token.weight"]
    spared = [each for name, each in network.named_parameters() if each.ndim < 2 or name == "token.weight"]
    groups = [{"params": decayed, "weight_decay": 0.2}, {"params": spared, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=6e-4, betas=(0.9, 0.99))
    while True:
        tokens, ages, targets, target_ages, events = trajectories.batch()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=how == "bfloat16"):
            loss, _ = network(tokens, ages, targets, target_ages)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield events, tokens.numel()
