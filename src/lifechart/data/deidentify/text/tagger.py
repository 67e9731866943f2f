"""The learned half: a small convolutional network over tokens, in numpy, whose weights are a file beside this one.

Shapes: N tokens of a batch laid end to end with room between the texts, D width of a token's row, H width of the
network, L types. Trained by `lifechart train-tagger` (lifechart.model.tagger), which says in the `.json` beside the
weights what from. Method: hashed subword embeddings (Bojanowski et al., 2017) and dilated convolutions (Strubell et
al., 2017); no sequence decoding, since for privacy each token's probability of being nobody's is what counts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lifechart.core.errors import InputError
from lifechart.data.deidentify.text import features
from lifechart.data.deidentify.text.spans import Span
from lifechart.data.deidentify.text.words import Tokens

Floats = NDArray[np.float32]
ROOM = 5
"""Empty tokens between texts: as far as any one layer looks, since what a layer makes of the room is emptied again."""
_TOKENS = 3_072
"""Tokens that go through the network together; what is between its layers then stays in the processor's cache."""
_REMEMBERED = 200_000
"""Distinct tokens whose embeddings are kept."""

_NEVER_ONE_SIGN = frozenset(("name", "place", "facility", "date", "organisation", "street"))

DILATIONS = (1, 2, 5)
WIDTHS = (5, 3, 3)
"""Of each convolution: tokens it looks at, and how far apart they are."""


@dataclass(frozen=True)
class Weights:
    """What training made."""

    table_RD: Floats
    gap_GD: Floats
    convolutions: tuple[tuple[Floats, Floats], ...]
    """Per layer: weights [width, in, out] and bias [out]."""
    out_HL: Floats
    bias_L: Floats
    labels: tuple[str, ...]
    """The first is that of a token that belongs to nothing."""


def save(weights: Weights, path: Path) -> None:
    """Write weights as .npz: the table in 8 bits a number with a scale a row, the rest in half precision."""
    scale = np.maximum(np.abs(weights.table_RD).max(axis=1, keepdims=True), 1e-8) / 127
    arrays = {
        "table": np.round(weights.table_RD / scale).astype(np.int8),
        "scale": scale.astype(np.float32),
        "gap": weights.gap_GD.astype(np.float16),
        "out": weights.out_HL.astype(np.float16),
        "bias": weights.bias_L.astype(np.float16),
        "labels": np.array(weights.labels),
    }
    for number, (kernel, bias) in enumerate(weights.convolutions):
        arrays |= {f"kernel{number}": kernel.astype(np.float16), f"bias{number}": bias.astype(np.float16)}
    with open(path, "wb") as file:
        np.savez_compressed(file, **arrays)


def load(path: Path) -> Weights:
    """Read what `save` wrote; raises InputError if it is something else."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            f = {name: arrays[name].astype(np.float32) for name in arrays.files if name != "labels"}
            return Weights(
                f["table"] * f["scale"],
                f["gap"],
                tuple((f[f"kernel{n}"], f[f"bias{n}"]) for n in range(len(DILATIONS))),
                f["out"],
                f["bias"],
                tuple(str(label) for label in arrays["labels"]),
            )
    except (OSError, ValueError, KeyError) as error:
        raise InputError("tagger", str(path), "weights that `lifechart train-tagger` wrote") from error


class Tagger:
    """Finds identifiers in texts of one language."""

    def __init__(self, weights: Weights, threshold: float) -> None:
        self._weights = weights
        self._threshold = threshold
        self._place: dict[str, int] = {}
        self._known = np.zeros((1024, weights.table_RD.shape[1]), np.float32)

    def find(self, texts: Sequence[str], cut: Sequence[Tokens], wanted: frozenset[str]) -> list[list[Span]]:
        """Return for each text (and its tokens) the spans of `wanted` types, in order.

        A token is taken if the probabilities of the wanted types together reach the threshold; its type is the
        likeliest of them.
        """
        found: list[list[Span]] = []
        begin = 0
        while begin < len(texts):
            end, size = begin, 0
            while end < len(texts) and (end == begin or size + len(cut[end]) < _TOKENS):
                size += len(cut[end]) + ROOM
                end += 1
            found += self._find(texts[begin:end], cut[begin:end], wanted)
            begin = end
        return found

    def _find(self, texts: Sequence[str], cut: Sequence[Tokens], wanted: frozenset[str]) -> list[list[Span]]:
        if len(self._place) > _REMEMBERED:
            self._place.clear()
        place = np.zeros(sum(len(tokens) + ROOM for tokens in cut) + ROOM, np.int64)
        gap = np.zeros(len(place), np.int64)
        at, starts = ROOM, []
        for text, tokens in zip(texts, cut, strict=True):
            starts.append(at)
            place[at : at + len(tokens)] = self._places([token for token, _ in tokens])
            gap[at : at + len(tokens)] = gaps(text, tokens)
            at += len(tokens) + ROOM
        probability_NL = self.probabilities(place, gap)
        labels = self._weights.labels
        kept = [number for number, label in enumerate(labels) if label in wanted]
        wanted_NK = probability_NL[:, kept]
        taken = wanted_NK.sum(axis=1) >= self._threshold
        likeliest = wanted_NK.argmax(axis=1)
        found = []
        for start, text, tokens in zip(starts, texts, cut, strict=True):
            hits = np.flatnonzero(taken[start : start + len(tokens)])
            types = [labels[kept[likeliest[start + hit]]] for hit in hits]
            found.append(list(_joined(text, tokens, hits.tolist(), types)))
        return found

    def probabilities(self, place: NDArray[np.int64], gap: NDArray[np.int64]) -> Floats:
        """Return the probability of each label at each token, N x L; `place` 0 is room between texts."""
        weights = self._weights
        x_ND: Floats = self._known[place] + weights.gap_GD[gap]
        x_ND[place == 0] = 0
        for (kernel, bias), dilation in zip(weights.convolutions, DILATIONS, strict=True):
            y_NH = _convolved(x_ND, kernel, bias, dilation)
            np.maximum(y_NH, 0, out=y_NH)
            if y_NH.shape == x_ND.shape:
                y_NH += x_ND
            y_NH[place == 0] = 0
            x_ND = y_NH
        logits_NL: Floats = x_ND @ weights.out_HL + weights.bias_L
        logits_NL -= logits_NL.max(axis=1, keepdims=True)
        np.exp(logits_NL, out=logits_NL)
        logits_NL /= logits_NL.sum(axis=1, keepdims=True)
        return logits_NL

    def _places(self, tokens: list[str]) -> list[int]:
        known = self._place
        new = [token for token in dict.fromkeys(tokens) if token not in known]
        if new:
            first = len(known) + 1
            self._embed(new, first)
            for number, token in enumerate(new, start=first):
                known[token] = number
        return [known[token] for token in tokens]

    def _embed(self, tokens: list[str], first: int) -> None:
        if first + len(tokens) > len(self._known):
            grown = np.zeros((2 * (first + len(tokens)), self._known.shape[1]), np.float32)
            grown[: len(self._known)] = self._known
            self._known = grown
        rows = [features.rows(token) for token in tokens]
        flat = np.array([row for word, others in rows for row in (word, *others)])
        starts = np.cumsum([0, *(1 + len(others) for _, others in rows[:-1])])
        self._known[first : first + len(tokens)] = np.add.reduceat(self._weights.table_RD[flat], starts, axis=0)


def gaps(text: str, tokens: Tokens) -> list[int]:
    """Return what stands before each token (features.GAPS)."""
    found, last = [], 0
    for token, start in tokens:
        if start == last:
            found.append(0)
        else:
            between = text[last:start]
            found.append(1 if between == " " else 2 if "\n" in between else 3)
        last = start + len(token)
    return found


def _convolved(x_ND: Floats, kernel: Floats, bias: Floats, dilation: int) -> Floats:
    width = len(kernel)
    y_NH: Floats = x_ND @ kernel[width // 2] + bias
    for number in range(width):
        shift = (number - width // 2) * dilation
        if shift < 0:
            y_NH[-shift:] += x_ND[:shift] @ kernel[number]
        elif shift > 0:
            y_NH[:-shift] += x_ND[shift:] @ kernel[number]
    return y_NH


def _joined(text: str, tokens: Tokens, hits: list[int], types: list[str]) -> list[Span]:
    spans: list[Span] = []
    last = -2
    for hit, type_ in zip(hits, types, strict=True):
        token, start = tokens[hit]
        if spans and hit == last + 1 and (spans[-1].type == type_ or start == spans[-1].end):
            spans[-1] = Span(spans[-1].start, start + len(token), spans[-1].type, "tagger")
        else:
            spans.append(Span(start, start + len(token), type_, "tagger"))
        last = hit
    return [span for span in spans if _stands_alone(text, span)]


def _stands_alone(text: str, span: Span) -> bool:
    """Return whether a span is more than a mark, and more than one sign where one sign names nobody and no day."""
    signs = sum(sign.isalnum() for sign in text[span.start : span.end])
    return signs > (1 if span.type in _NEVER_ONE_SIGN else 0)


@cache
def load_tagger(language: str) -> Tagger | None:
    """Return the tagger that is shipped for a language, or None if there is none."""
    folder = files(__package__) / "weights"
    if not (folder / f"{language}.npz").is_file():
        return None
    with as_file(folder / f"{language}.npz") as path:
        note = json.loads((folder / f"{language}.json").read_text(encoding="utf-8"))
        return Tagger(load(path), note["threshold"])
