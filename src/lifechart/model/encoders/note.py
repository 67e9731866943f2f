"""A note's text as one vector: our own subwords, a small convolution over them, attention over the places.

Kinds `note` and `report`, whatever prose de-identification left of them. Of a long text the beginning and the end
are read. Pieces begin as what they say of what came of people (the first gradient of the outcomes' likelihood, where
it stands out from chance) and of which other pieces they keep company with. Shapes: R x T items, M notes, L pieces,
V kinds of piece, E width of a piece, D width, W windows and O outcomes of a lesson.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import svds
from torch import Tensor, nn

from lifechart.model.encoders import UNDATED, Found, Lesson, Pictures
from lifechart.model.subwords import PAD, Subwords, learn
from lifechart.model.vocabulary import UNREAD_KINDS, Vocabulary

_SIZE, _FEWEST = 2000, 20
"""Pieces at most, and how many notes must hold a word for it to teach any."""
_TAUGHT_BY = 40_000
_HEAD, _TAIL = 48, 80
_PIECE_WIDTH, _REACH, _VIEWS = 32, 5, 4
_TOLD, _STANDS_OUT = 20, 4.0
"""Components that outcomes teach at most, and by how many standard errors a piece must stand out to teach one."""


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
    def begin(self, contents: tuple[NDArray[Any], ...], lesson: Lesson | None) -> None:
        """Begin the pieces' vectors from the training notes, and from what came of those who have them."""
        (ids_ML,) = contents
        bag_MV = _bags(ids_ML, len(self.piece.weight))
        told_VE = _told(bag_MV, lesson) if lesson is not None else np.zeros((bag_MV.shape[1], 0))
        company_VE = _company(bag_MV, _PIECE_WIDTH - told_VE.shape[1])
        vectors = np.concatenate([told_VE, company_VE], axis=1)
        notes = bag_MV @ vectors
        spread = notes.std(axis=0)
        vectors = np.where(spread > 0, vectors / np.maximum(spread, 1e-9), 0.0)
        self.piece.weight.copy_(torch.from_numpy(vectors.astype(np.float32)))
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


def _told(bag_MV: sparse.csr_array, lesson: Lesson) -> NDArray[np.float64]:
    """Return directions [V, E] in which pieces differ by what came of those whose notes hold them.

    A piece's score for an outcome is the derivative of the likelihood in the piece's weight, over its standard error.
    """
    pooled_WV = (lesson.known_WM @ bag_MV).tocsr()
    there = np.diff(lesson.known_WM.indptr) > 0
    came, expected = lesson.came_WO * there[:, None], lesson.expected_WO * there[:, None]
    number_O = np.maximum(expected.sum(axis=0), 1e-9)
    middle_VO = pooled_WV.T @ expected / number_O
    gradient_VO = pooled_WV.T @ (came - expected) - middle_VO * (came - expected).sum(axis=0)
    information_VO = pooled_WV.power(2).T @ expected - number_O * middle_VO**2
    information_VO = np.maximum(information_VO, 1e-12)
    score_VO = gradient_VO / np.sqrt(information_VO)
    # A handful of onsets has no normal errors.
    common = information_VO > 1e-9
    loud_VO = np.where(common & (np.abs(score_VO) > _STANDS_OUT) & (came.sum(axis=0) >= _FEWEST), score_VO, 0.0)
    left, size, _ = np.linalg.svd(loud_VO, full_matrices=False)
    kept = min(_TOLD, int((size > 1e-6).sum()))
    spread_V = np.sqrt(np.maximum((information_VO / number_O).mean(axis=1), 1e-12))
    found: NDArray[np.float64] = left[:, :kept] / spread_V[:, None]
    return found


def _company(bag_MV: sparse.csr_array, number: int) -> NDArray[np.float64]:
    """Return directions [V, number] in which notes differ most, rare pieces weighing more (latent semantic analysis)."""
    few = bag_MV[:: -(-bag_MV.shape[0] // _TAUGHT_BY)]
    holders = np.bincount(few.indices, minlength=few.shape[1])
    rarity = np.where(holders > 0, np.log((1 + len(holders) + few.shape[0]) / (1 + holders)), 0.0)
    weighed = few @ sparse.diags_array(rarity)
    found = np.zeros((few.shape[1], number))
    most = min(number, min(weighed.shape) - 1)
    if most > 0:
        _, size, right = svds(weighed, k=most, v0=np.ones(min(weighed.shape)), solver="arpack")
        found[:, :most] = (right[np.argsort(-size)] * rarity).T
    return found
