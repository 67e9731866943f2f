"""Generation's half of `model_speed`: events generated a second beside plainer ways, and patients answered a second.

The plainer ways decode the token scheme of ETHOS (code, value and time, each a token of its own) with a decoder of the
same widths: (a) uncached, the whole window through the network again for each token; (b) with a plain cache of keys and
values, each future reading the prompt for itself. Both get what a careful user would give them: every future of a
patient in one batch, one matrix product a step, and a window cut to their context. Futures are of equal length here, so
that what retirement saves is left out of the ratios. The networks are untrained: what is measured is arithmetic.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from lifechart.core.timeline import DEATH
from lifechart.model import threads
from lifechart.model.backbone import Backbone, rotate
from lifechart.model.batches import Collator
from lifechart.model.fit import base_rates
from lifechart.model.generate import Ask, generate
from lifechart.model.heads import cumulative_incidence
from lifechart.model.inference import tell
from lifechart.model.network import Network
from lifechart.model.questions import Questions, ask
from lifechart.model.sizes import SIZES, Size
from lifechart.model.steps import start_rates
from lifechart.model.tokens import DAY_US, Tokens, tokenise
from lifechart.model.vocabulary import Vocabulary, build_vocabulary

ETHOS_SMALL = replace(SIZES["m"], width=128, layers=6, context=512)
TOKENS_AN_EVENT = 3
FUTURES = 20


def generation(events: pl.DataFrame, quick: bool) -> dict[str, float]:
    """Measure on MEDS rows of many patients; print a table and return the three keys of the bench, unrounded."""
    vocabulary = build_vocabulary(events)
    tokens = tokenise(events, vocabulary)
    patients, length = (2, 8) if quick else (8, 32)
    with threads.suited_to(ETHOS_SMALL.width), torch.inference_mode():
        ours = _ours(tokens, vocabulary, patients, length)
        plain = _PlainDecoder(ETHOS_SMALL, len(vocabulary))
        prompts = _token_prompts(tokens, patients, len(vocabulary))
        cached = _rate(lambda: plain.cached(prompts, TOKENS_AN_EVENT * length), patients, length)
        few = 1 if quick else 2
        uncached = _rate(lambda: plain.uncached(prompts[:1], TOKENS_AN_EVENT * few), 1, few)
    with threads.suited_to(SIZES["s"].width):
        answered, ratio = _answers(events, vocabulary, quick)
    table = Table("generation at ETHOS's small widths, 20 futures a patient", "events/s", "ours against it")
    table.add_row("one position an event, shared prompt, cache", f"{ours:,.0f}", "")
    table.add_row("three tokens an event, plain cache", f"{cached:,.0f}", f"{ours / cached:.1f} x")
    table.add_row("three tokens an event, uncached", f"{uncached:,.1f}", f"{ours / uncached:.1f} x")
    table.add_row("from records to all risks at size s, patients/s", f"{answered:,.0f}", "")
    table.add_row("20 futures of a year cost as many of those answers", f"{ratio:,.1f}", "")
    Console().print(table)
    return {
        "generate_ratio_uncached": ours / uncached,
        "generate_ratio_cached": ours / cached,
        "patients_per_s": answered,
    }


def _network(tokens: Tokens, vocabulary: Vocabulary, size: Size) -> tuple[Network, Collator]:
    torch.manual_seed(0)
    network = Network(vocabulary, size, base_rates(tokens, len(vocabulary.outcomes), 0, 4))
    network.next_event.start_from(start_rates(tokens, vocabulary))
    return network.eval().requires_grad_(False), Collator(vocabulary, size.context, torch.device("cpu"))


def _subjects(tokens: Tokens, patients: int) -> NDArray[np.int64]:
    """Return the first patients whose records fill a peer's window (or the longest ones, where too few do)."""
    sizes = np.diff(tokens.starts)
    room = ETHOS_SMALL.context // TOKENS_AN_EVENT
    order = np.lexsort((np.arange(len(sizes)), -np.minimum(sizes, room)))
    return np.sort(order[:patients])


def _asked(tokens: Tokens, subject: NDArray[np.int64]) -> Questions:
    """Ask about each patient a day after its last event."""
    return ask(tokens, subject, tokens.micros[tokens.starts[subject + 1] - 1] + DAY_US)


def _ours(tokens: Tokens, vocabulary: Vocabulary, patients: int, length: int) -> float:
    network, collator = _network(tokens, vocabulary, ETHOS_SMALL)
    questions = _asked(tokens, _subjects(tokens, patients))
    asked = Ask(futures=FUTURES, days=1e5, most_events=length)
    generate(network, collator, tokens, questions.take(np.arange(1)), replace(asked, most_events=2))
    began = time.perf_counter()
    made = generate(network, collator, tokens, questions, asked)
    return len(made) / (time.perf_counter() - began)


def _answers(events: pl.DataFrame, vocabulary: Vocabulary, quick: bool) -> tuple[float, float]:
    """Return patients a second (every outcome at every horizon), and what 20 futures of a year cost in such answers.

    The clock runs from a patient's MEDS rows to the risks: tokens, network, cumulative incidences with death competing.
    """
    wanted = events["subject_id"].unique().sort().head(40 if quick else 400)
    rows = events.filter(pl.col("subject_id").is_in(wanted.implode()))
    tokens = tokenise(rows, vocabulary)
    network, collator = _network(tokens, vocabulary, SIZES["s"])
    death = vocabulary.outcomes.index(DEATH) if DEATH in vocabulary.outcomes else None
    tell(network, collator, tokens, _asked(tokens, np.arange(2)))
    began = time.perf_counter()
    tokens = tokenise(rows, vocabulary)
    questions = _asked(tokens, np.arange(tokens.num_subjects))
    risks = cumulative_incidence(tell(network, collator, tokens, questions).log_hazard, death)
    each = (time.perf_counter() - began) / len(risks)
    few = questions.take(np.arange(min(len(questions), 32)))
    began = time.perf_counter()
    generate(network, collator, tokens, few, Ask(futures=FUTURES, days=365.0))
    return 1.0 / each, (time.perf_counter() - began) / len(few) / each


def _token_prompts(tokens: Tokens, patients: int, codes: int) -> Tensor:
    """Return the last tokens of each patient's record [P, T] in a scheme of three tokens an event."""
    subject = _subjects(tokens, patients)
    room = min(ETHOS_SMALL.context // TOKENS_AN_EVENT, int(np.diff(tokens.starts)[subject].min()))
    rows = np.stack([np.arange(stop - room, stop) for stop in tokens.starts[subject + 1]])
    value = codes + np.nan_to_num(tokens.level[rows]).astype(np.int64)
    gap = codes + 16 + np.minimum(np.log2(1 + tokens.gap[rows]).astype(np.int64), 15)
    return torch.from_numpy(np.stack([gap, tokens.code[rows], value], axis=2).reshape(len(rows), -1))


def _rate(work: Callable[[], Any], patients: int, length: int) -> float:
    began = time.perf_counter()
    work()
    return patients * FUTURES * length / (time.perf_counter() - began)


class _PlainDecoder:
    """A decoder of one width and one vocabulary of tokens, as a plain reimplementation of a peer's would be."""

    def __init__(self, size: Size, codes: int) -> None:
        torch.manual_seed(0)
        self.size = size
        self.embedding = nn.Embedding(codes + 32, size.width).eval()
        self.backbone = Backbone(size.width, size.layers, size.heads, 0.0).eval()
        self.out = nn.Linear(size.width, codes + 32, bias=False)

    def _draw(self, hidden: Tensor) -> Tensor:
        return torch.multinomial(torch.softmax(self.out(hidden), dim=-1), 1)

    def uncached(self, prompts: Tensor, number: int) -> Tensor:
        """Generate `number` tokens in each future, the last window read anew for each."""
        row = prompts.repeat_interleave(FUTURES, 0)
        for _ in range(number):
            window = row[:, -self.size.context :]
            place = torch.arange(window.shape[1], dtype=torch.float32).expand(window.shape)
            hidden = self.backbone(self.embedding(window), place, place)
            row = torch.cat([row, self._draw(hidden[:, -1])], dim=1)
        return row

    def cached(self, prompts: Tensor, number: int) -> Tensor:
        """Generate `number` tokens in each future of each patient, one patient after another, keys and values kept."""
        return torch.cat([self._cached(prompt.expand(FUTURES, -1), number) for prompt in prompts])

    def _cached(self, row: Tensor, number: int) -> Tensor:
        B, T = row.shape
        shape = (B, self.size.heads, T + number, self.size.width // self.size.heads)
        kept = [(torch.empty(shape), torch.empty(shape)) for _ in self.backbone.blocks]
        new, at = row, 0
        for _ in range(number):
            place = torch.arange(at, at + new.shape[1], dtype=torch.float32).expand(new.shape)
            x = self.embedding(new)
            turn = self.backbone.rotary(place, place)
            for block, (keys, values) in zip(self.backbone.blocks, kept, strict=True):
                x = self._block(block, x, turn, keys, values, at)
            at += new.shape[1]
            new = self._draw(self.backbone.last(x[:, -1]))
            row = torch.cat([row, new], dim=1)
        return row

    def _block(
        self, block: Any, x: Tensor, turn: tuple[Tensor, Tensor], keys: Tensor, values: Tensor, at: int
    ) -> Tensor:
        B, T, D = x.shape
        qkv = block.qkv(block.before_attention(x)).view(B, T, 3, block.heads, D // block.heads)
        q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))
        keys[:, :, at : at + T], values[:, :, at : at + T] = rotate(k, turn), v
        q, held = rotate(q, turn), (keys[:, :, : at + T], values[:, :, : at + T])
        mixed = nn.functional.scaled_dot_product_attention(q, *held, is_causal=at == 0)
        x = x + block.attended(mixed.transpose(1, 2).reshape(B, T, D))
        gate, value = block.gate_and_value(block.before_gate(x)).chunk(2, dim=-1)
        out: Tensor = x + block.down(nn.functional.silu(gate) * value)
        return out
