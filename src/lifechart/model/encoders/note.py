"""A note's text as one vector: our own subwords, a small convolution over them, attention over the places.

Kinds `note` and `report`, whatever prose de-identification left of them. Of a long text the beginning and the end
are read. Pieces begin as the company they keep in people's notes, and learn from there. Shapes: R x T items, M notes,
L pieces, V kinds of piece, E width of a piece, D width, W windows of people's lives.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn

from lifechart.model.encoders import UNDATED, Found, Pictures
from lifechart.model.subwords import PAD, Subwords, learn
from lifechart.model.vocabulary import UNREAD_KINDS, Vocabulary

_SIZE, _FEWEST = 2000, 20
"""Pieces at most, and how many notes must hold a word for it to teach any."""
_TAUGHT_BY = 40_000
_HEAD, _TAIL = 48, 80
_PIECE_WIDTH, _REACH, _VIEWS = 32, 5, 4
_COMPONENTS, _RARE = 16, 0.01
"""Components that pieces begin with; a piece that a smaller share of windows holds begins without."""
_FLAT = 1e-3
"""A piece whose share varies by less than so much of itself says nothing, and rounding would be all that it says."""
_MORE, _ROUNDS, _TAUGHT_BY_WINDOWS = 8, 6, 8_000


class NoteEncoder(nn.Module):
    """Embeds notes. Words act in their neighbourhood (a depthwise convolution); four views choose what counts."""

    modality = "note"
    most = 12

    def __init__(self, vocabulary: Vocabulary, width: int) -> None:
        super().__init__()
        size = len(_subwords(vocabulary.modalities[self.modality]))
        self.piece = nn.Embedding(size, _PIECE_WIDTH, padding_idx=PAD)
        nn.init.normal_(self.piece.weight, std=0.5)
        self.around = nn.Conv1d(_PIECE_WIDTH, _PIECE_WIDTH, _REACH, padding=_REACH // 2, groups=_PIECE_WIDTH)
        self.mix = nn.Linear(_PIECE_WIDTH, _PIECE_WIDTH)
        self.looks = nn.Linear(_PIECE_WIDTH, _VIEWS)
        self.out = nn.Linear(_VIEWS * _PIECE_WIDTH, width)
        # Begun as a plain mean over the places: where to look, and what neighbours mean, is learnt from there.
        for each in (self.mix.weight, self.mix.bias, self.looks.bias, self.out.bias):
            nn.init.zeros_(each)
        nn.init.normal_(self.looks.weight, std=0.05)

    def forward(self, events: tuple[Tensor, ...]) -> Tensor:
        """Return vectors [R, T, D] of ids [R, T, L] (0: padding)."""
        (ids_RTL,) = events
        ids_NL = ids_RTL.flatten(0, 1).long()
        # Many notes are shorter than the longest: what all of a batch leave empty is not computed.
        longest = max(1, int((ids_NL != PAD).sum(1).max())) if len(ids_NL) else 1
        ids_NL = ids_NL[:, :longest]
        x_NLE = self.piece(ids_NL)
        near_NLE = self.around(x_NLE.transpose(1, 2)).transpose(1, 2)
        x_NLE = x_NLE + nn.functional.silu(self.mix(near_NLE))
        there_NL1 = (ids_NL != PAD).unsqueeze(-1)
        looks_NLV = self.looks(x_NLE).masked_fill(~there_NL1, -1e4).softmax(1) * there_NL1
        seen_NVE = torch.einsum("nlv,nle->nve", looks_NLV, x_NLE)
        vectors: Tensor = self.out(seen_NVE.flatten(1)).view(*ids_RTL.shape[:2], -1)
        return vectors

    @torch.no_grad()
    def begin(self, contents: tuple[NDArray[Any], ...], known_WM: sparse.csr_array) -> None:
        """Begin the pieces' vectors from which others they keep company with in the notes of one person."""
        (ids_ML,) = contents
        bag_MV = _bags(ids_ML, len(self.piece.weight))
        vectors = _company((known_WM @ bag_MV).tocsr())
        vectors = vectors / max(float((bag_MV @ vectors).std(axis=0).max()), 1e-9)
        self.piece.weight.zero_()
        self.piece.weight[:, : vectors.shape[1]] = torch.from_numpy(vectors.astype(np.float32))
        self.piece.weight[PAD] = 0.0
        width = self.out.weight.shape[0]
        self.out.weight.copy_(torch.eye(_PIECE_WIDTH)[:width].repeat(1, _VIEWS) / _VIEWS)

    @staticmethod
    def learn(events: pl.DataFrame, pictures: Pictures | None) -> dict[str, Any] | None:
        """Return the tokenizer that the training notes teach; None where no note has text."""
        texts = _prose(events).get_column("text_value")
        if len(texts) < _FEWEST:
            return None
        if len(texts) > _TAUGHT_BY:
            texts = texts.gather_every(-(-len(texts) // _TAUGHT_BY))
        found = learn(texts, _SIZE, _FEWEST)
        return {"pieces": list(found.pieces), "merges": [list(pair) for pair in found.merges]}

    @staticmethod
    def slots(learnt: dict[str, Any]) -> int:
        """Return 1: the latest notes, of whatever type."""
        return 1

    @staticmethod
    def find(events: pl.DataFrame, learnt: dict[str, Any], pictures: Pictures | None) -> Found:
        """Return the notes as pieces [M, L]."""
        rows, subwords = _prose(events), _subwords(learnt)
        ids = np.zeros((rows.height, _HEAD + _TAIL), np.int16)
        for number, text in enumerate(rows.get_column("text_value")):
            pieces = subwords.encode(text)
            if len(pieces) > _HEAD + _TAIL:
                pieces = pieces[:_HEAD] + pieces[-_TAIL:]
            ids[number, : len(pieces)] = pieces
        time = rows["time"].cast(pl.Int64).fill_null(UNDATED).to_numpy()
        return Found(rows["subject_id"].to_numpy(), time, np.zeros(rows.height, np.int64), (ids,))


def _prose(events: pl.DataFrame) -> pl.DataFrame:
    return events.filter(pl.col("kind").is_in(UNREAD_KINDS) & (pl.col("text_value").str.len_chars() > 0))


def _subwords(learnt: dict[str, Any]) -> Subwords:
    return Subwords(tuple(learnt["pieces"]), tuple((first, second) for first, second in learnt["merges"]))


def _bags(ids_ML: NDArray[Any], size: int) -> sparse.csr_array:
    """Return the share that each piece has in each note [M, V]."""
    note, place = np.nonzero(ids_ML != PAD)
    length = np.bincount(note, minlength=len(ids_ML))
    return sparse.csr_array((1.0 / length[note], (note, ids_ML[note, place])), shape=(len(ids_ML), size))


def _company(pooled_WV: sparse.csr_array) -> NDArray[np.float64]:
    """Return directions [V, components] in which people's notes differ most: latent semantic analysis, by person.

    What a person is like shows in words that never stand in one note together, but in one person's notes again and
    again; by note, the same analysis found kinds of note (docs/lab-notes). Each piece counts by its own spread. By
    subspace iteration from one fixed draw: Lanczos methods draw anew where there is less than they look for.
    """
    few = pooled_WV[np.diff(pooled_WV.indptr) > 0]
    few = few[:: max(1, -(-few.shape[0] // _TAUGHT_BY_WINDOWS))].astype(np.float64)
    holders = np.bincount(few.indices, minlength=few.shape[1]) / max(few.shape[0], 1)
    middle = np.asarray(few.sum(axis=0)).ravel() / max(few.shape[0], 1)
    spread = np.sqrt(np.maximum(np.asarray(few.power(2).sum(axis=0)).ravel() / max(few.shape[0], 1) - middle**2, 0.0))
    scale = np.where((holders > _RARE) & (spread > _FLAT * middle), 1.0 / np.maximum(spread, 1e-9), 0.0)
    scaled, shift = sparse.csr_array(few @ sparse.diags_array(scale)), middle * scale
    basis = np.random.default_rng(0).standard_normal((few.shape[1], _COMPONENTS + _MORE))
    for _ in range(_ROUNDS):
        seen = scaled @ basis - shift @ basis
        basis, _ = np.linalg.qr(scaled.T @ seen - np.outer(shift, seen.sum(axis=0)))
    _, _, right = np.linalg.svd(scaled @ basis - shift @ basis, full_matrices=False)
    found: NDArray[np.float64] = (basis @ right[:_COMPONENTS].T) * scale[:, None]
    return found
