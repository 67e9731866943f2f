"""ETHOS's token scheme and training step, written anew in plain torch from its paper's description (Renc et al. 2024).

An event is a code token, a decile token if it carries a value, and before it interval tokens for the time since the
last one: twelve intervals from 5 minutes to 6 months, and one of 6 months that is repeated. Patients lie end to end; a
training window begins anywhere in that stream, may run into the next patient, and is preceded by what is static of the
patient it begins in, with the age in two decile tokens. GPT-2 blocks without biases, learnt positions, tied embeddings,
dropout 0.3 everywhere (attention too), fused attention; AdamW (0.9, 0.95), weight decay 0.1, gradients clipped at 1.
ETHOS ships bfloat16 autocast and torch.compile.
Where MIMIC's diagnoses and drugs cost it up to three code tokens each, here every code costs one: in its favour.
"""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from bench._peers_records import Records

WIDTH, LAYERS, HEADS, CONTEXT, BATCH, DROPOUT = 128, 6, 4, 512, 8, 0.3
_HOUR, _DAY = 60.0, 1440.0
INTERVALS = (
    5, 15, _HOUR, 2 * _HOUR, 6 * _HOUR, 12 * _HOUR, _DAY, 3 * _DAY, 7 * _DAY, 14 * _DAY, 30 * _DAY, 60 * _DAY,
    180 * _DAY,
)  # fmt: skip
"""Lower edges, in minutes. The last one is repeated, rounded, for longer gaps."""
DECILES = 10


class Stream:
    """The tokens of all patients end to end. Tokens count: codes, then deciles, then intervals."""

    def __init__(self, records: Records) -> None:
        first = np.append(True, np.diff(records.subject) != 0) | ~np.append(True, records.dated[:-1])
        gap = np.where(first | ~records.dated, 0.0, np.diff(records.minutes, prepend=0.0))
        kind = np.searchsorted(INTERVALS, gap, side="right") - 1
        repeats = np.where(kind == len(INTERVALS) - 1, np.floor(gap / INTERVALS[-1] + 0.5), kind >= 0).astype(np.int64)
        told = records.decile >= 0
        dated = np.flatnonzero(records.dated)
        per_event = (repeats + 1 + told)[dated]
        ends = np.cumsum(per_event)
        deciles, intervals = records.num_codes, records.num_codes + DECILES
        self.tokens = np.repeat(intervals + kind[dated], per_event)
        self.is_event = np.zeros(ends[-1], dtype=bool)
        places = ends - 1 - told[dated]
        self.tokens[places] = records.code[dated]
        self.is_event[places] = True
        self.tokens[ends[told[dated]] - 1] = deciles + records.decile[dated][told[dated]]
        self.row = np.repeat(dated, per_event)
        self.minutes, self.subject = records.minutes, records.subject
        size = intervals + len(INTERVALS)
        self.vocabulary = -(-size // 64) * 64
        self.deciles = deciles
        undated = np.flatnonzero(~records.dated)
        self.static = {
            int(subject): records.code[undated[records.subject[undated] == subject]][:4]
            for subject in np.unique(records.subject)
        }
        self.num_static = max((len(codes) for codes in self.static.values()), default=0)
        self.unknown = size - 1


class Windows(Dataset[tuple[Tensor, Tensor, int]]):
    """Every place of the stream may begin a window of CONTEXT tokens, the patient's static ones included."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.tokens = torch.from_numpy(stream.tokens)
        self.lead = stream.num_static + 2
        self.length = CONTEXT - self.lead

    def __len__(self) -> int:
        return len(self.tokens) - self.length

    def __getitem__(self, at: int) -> tuple[Tensor, Tensor, int]:
        stream = self.stream
        row = stream.row[at]
        known = self._static(int(stream.subject[row]), float(stream.minutes[row]))
        timeline = self.tokens[at : at + self.length + 1]
        target = torch.cat([torch.full((self.lead,), -100), timeline[1:]])
        events = int(stream.is_event[at : at + self.length].sum()) + len(stream.static[int(stream.subject[row])])
        return torch.cat([known, timeline[:-1]]), target, events

    def _static(self, subject: int, minutes: float) -> Tensor:
        stream = self.stream
        codes: NDArray[np.int64] = stream.static[subject]
        missing = [stream.unknown] * (stream.num_static - len(codes))
        scaled = min(int(minutes / _DAY / 365.25), DECILES**2 - 1)
        age = [stream.deciles + scaled // DECILES, stream.deciles + scaled % DECILES]
        return torch.tensor([*codes.tolist(), *missing, *age])


class Block(nn.Module):
    """Attention, then a feed-forward layer of four times the width, each after a layer norm and added back."""

    def __init__(self) -> None:
        super().__init__()
        self.before_attention = nn.LayerNorm(WIDTH, bias=False)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.attended = nn.Linear(WIDTH, WIDTH, bias=False)
        self.before_feed = nn.LayerNorm(WIDTH, bias=False)
        self.up = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.down = nn.Linear(4 * WIDTH, WIDTH, bias=False)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: Tensor) -> Tensor:
        """Return [rows, places, width]."""
        rows, places, _ = x.shape
        q, k, v = (
            part.view(rows, places, HEADS, WIDTH // HEADS).transpose(1, 2)
            for part in self.qkv(self.before_attention(x)).split(WIDTH, dim=2)
        )
        rate = DROPOUT if self.training else 0.0
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, dropout_p=rate, is_causal=True)
        x = x + self.dropout(self.attended(mixed.transpose(1, 2).reshape(rows, places, WIDTH)))
        out: Tensor = x + self.dropout(self.down(nn.functional.gelu(self.up(self.before_feed(x)))))
        return out


class Ethos(nn.Module):
    """The decoder and its loss."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, WIDTH)
        self.place = nn.Embedding(CONTEXT, WIDTH)
        self.dropout = nn.Dropout(DROPOUT)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.last = nn.LayerNorm(WIDTH, bias=False)
        for each in self.parameters():
            if each.ndim >= 2:
                nn.init.normal_(each, std=0.02)

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy of the next token."""
        x = self.dropout(self.token(tokens) + self.place(torch.arange(tokens.shape[1])))
        for block in self.blocks:
            x = block(x)
        logits = self.last(x) @ self.token.weight.T
        return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)


def learn(records: Records, how: str) -> Generator[tuple[int, int], None, None]:
    """Train for ever, a step a turn; yield the events and tokens of each. `how`: float32, bfloat16 or compiled."""
    torch.manual_seed(42)
    stream = Stream(records)
    network = Ethos(stream.vocabulary)
    decayed = [each for each in network.parameters() if each.ndim >= 2]
    spared = [each for each in network.parameters() if each.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": spared, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=4e-4, betas=(0.9, 0.95))
    model = torch.compile(network) if how == "compiled" else network
    while True:
        for tokens, targets, events in DataLoader(Windows(stream), batch_size=BATCH, shuffle=True, drop_last=True):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=how != "float32"):
                loss = model(tokens, targets)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            yield int(events.sum()), tokens.numel()
