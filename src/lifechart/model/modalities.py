"""What hangs on a record besides coded events (notes, images, genomic results), and how it reaches the answer.

Every encoder of `lifechart.encoders` but `event` says what it finds (`encoders.ItemEncoder`). Its items are laid out
here by person and time (`Items`), the latest of each slot known at a question are pooled (`ModalState`), and what they
say together is added to the hazards. What is not there adds nothing, to the last bit. Shapes: M items, Q questions,
K items of a slot, S slots, D width of an item's vector, Z rank, O outcomes, C cells of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lifechart.core.errors import InputError
from lifechart.model.encoders import UNDATED, Found, Pictures, encoder, item_encoders
from lifechart.model.kernels import Dropout, lots
from lifechart.model.vocabulary import Vocabulary

ITEM_WIDTH = 32
"""Width of an item's vector."""
NONE = "none"
LEFT_OUT = 0.25
"""How often each modality is left out in training."""
_AT_ONCE = 512


def learn_modalities(
    events: pl.DataFrame, pictures: Pictures | None, wanted: tuple[str, ...] | None = None
) -> dict[str, Any]:
    """Return what each modality's encoder has to know, from the training split; what is absent is not in it.

    `wanted`: names of modalities to read; by default all that are installed. Raises InputError for one that is not.
    """
    known = item_encoders()
    strangers = set(wanted or ()) - set(known) - {NONE}
    if strangers:
        raise InputError("--modalities", sorted(strangers), f"some of {sorted(known)}, or {NONE}")
    chosen = {name: plug for name, plug in known.items() if wanted is None or name in wanted}
    learnt = {name: plug.learn(events, pictures) for name, plug in chosen.items()}
    # By name: the order decides which weights belong to which slot, and a file keeps no other.
    return {name: learnt[name] for name in sorted(learnt) if learnt[name] is not None}


@dataclass(frozen=True)
class Slot:
    """The items of one slot, sorted by subject and time."""

    modality: str
    starts: NDArray[np.int64]
    """[subjects + 1]"""
    micros: NDArray[np.int64]
    """Since the subject's origin, as in Tokens; UNDATED without a date."""
    rows: NDArray[np.int64]
    """Of each item, its row in the modality's contents."""
    most: int

    def known(self, subject: NDArray[np.int64], micros: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return rows [Q, K] of the latest items known at each question, -1 where there are fewer."""
        low, high = self.starts[subject].copy(), self.starts[subject + 1].copy()
        first = low.copy()
        while (open_ := low < high).any():
            middle = np.minimum((low + high) // 2, max(len(self.micros) - 1, 0))
            before = self.micros[middle] <= micros
            low = np.where(open_ & before, middle + 1, low)
            high = np.where(open_ & ~before, middle, high)
        most = int(min(self.most, (low - first).max(initial=0)))
        at = low[:, None] - 1 - np.arange(most)
        there = at >= first[:, None]
        return np.where(there, self.rows[np.where(there, at, 0)] if len(self.rows) else -1, -1)


@dataclass(frozen=True)
class Items:
    """All items of some records: by slot, for the pooled state, and by place, for the timeline."""

    contents: dict[str, tuple[NDArray[Any], ...]]
    slots: tuple[Slot, ...]
    place: NDArray[np.int64]
    """The row of Tokens that each item is added to, sorted: the first event at or after it, so that none is early."""
    place_modality: NDArray[np.int64]
    place_row: NDArray[np.int64]
    encoded: dict[Any, dict[str, Tensor]] = field(default_factory=dict, compare=False)
    """Vectors of all items by the mark of the weights that made them."""

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names, in the vocabulary's order."""
        return tuple(self.contents)


def find_items(
    events: pl.DataFrame,
    vocabulary: Vocabulary,
    pictures: Pictures | None,
    subject_ids: NDArray[np.int64],
    origin: NDArray[np.int64],
    starts: NDArray[np.int64],
    token_micros: NDArray[np.int64],
) -> Items | None:
    """Return the items of tokenised records, or None if the vocabulary knows no modality or there are none.

    The last four are those of Tokens: subjects, what their time counts from, their first rows, each row's time.
    """
    contents: dict[str, tuple[NDArray[Any], ...]] = {}
    slots: list[Slot] = []
    places: list[NDArray[np.int64]] = []
    for number, (name, learnt) in enumerate(vocabulary.modalities.items()):
        plug = encoder(name)
        found: Found = plug.find(events, learnt, pictures)
        owner = np.searchsorted(subject_ids, found.subject_id)
        micros = np.where(found.time == UNDATED, UNDATED, np.maximum(found.time - origin[owner], 0))
        contents[name] = found.contents
        for slot in range(plug.slots(learnt)):
            mine = np.flatnonzero(found.slot == slot)
            mine = mine[np.lexsort((mine, micros[mine], owner[mine]))]
            edges = np.searchsorted(owner[mine], np.arange(len(subject_ids) + 1))
            slots.append(Slot(name, edges, micros[mine], mine, plug.most))
        at = _first_at_or_after(starts[owner], starts[owner + 1], micros, token_micros)
        ends = at == starts[owner + 1]
        places.append(np.stack([at, np.full(len(at), number), np.arange(len(at))])[:, ~ends])
    if not any(len(slot.rows) for slot in slots):
        return None
    placed = np.concatenate(places, axis=1)
    placed = placed[:, np.argsort(placed[0], kind="stable")]
    return Items(contents, tuple(slots), *placed)


def _first_at_or_after(
    low: NDArray[np.int64], high: NDArray[np.int64], micros: NDArray[np.int64], token_micros: NDArray[np.int64]
) -> NDArray[np.int64]:
    low, high = low.copy(), high.copy()
    while (open_ := low < high).any():
        middle = np.minimum((low + high) // 2, len(token_micros) - 1)
        before = token_micros[middle] < micros
        low = np.where(open_ & before, middle + 1, low)
        high = np.where(open_ & ~before, middle, high)
    return low


@dataclass(frozen=True)
class Attached:
    """What a batch has of other modalities: for each slot the rows [Q, K] (-1: none), and what lies at which cell."""

    items: Items
    known: tuple[NDArray[np.int64], ...]
    cell_C: NDArray[np.int64]
    modality_C: NDArray[np.int64]
    row_C: NDArray[np.int64]

    def without(self, dropped_QM: NDArray[np.bool_]) -> Attached:
        """Return it with some modalities [Q, modalities] left out of some questions."""
        names = self.items.modalities
        known = [
            np.where(dropped_QM[:, [names.index(slot.modality)]], -1, rows)
            for slot, rows in zip(self.items.slots, self.known, strict=True)
        ]
        return replace(self, known=tuple(known))


def attach(
    items: Items | None,
    subject: NDArray[np.int64],
    micros: NDArray[np.int64],
    token_rows: NDArray[np.int64] | None = None,
) -> Attached | None:
    """Return what is known at questions, and what lies at the cells of packed `token_rows` (-1: padding).

    None where nothing is there: what has no other modality costs nothing.
    """
    if items is None:
        return None
    known = tuple(slot.known(subject, micros) for slot in items.slots)
    nothing = np.zeros(0, np.int64)
    cell, modality, row = nothing, nothing, nothing
    if token_rows is not None:
        flat = token_rows.ravel()
        cells = np.flatnonzero(flat >= 0)
        first = np.searchsorted(items.place, flat[cells])
        size = np.searchsorted(items.place, flat[cells], side="right") - first
        cell = np.repeat(cells, size)
        at = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size) + np.repeat(first, size)
        modality, row = items.place_modality[at], items.place_row[at]
    if not len(cell) and not any((rows >= 0).any() for rows in known):
        return None
    return Attached(items, known, cell, modality, row)


class ModalState(nn.Module):
    """Encoders of all modalities, their latest items pooled, and what those say alone and together.

    Each slot's vector is the mean of its items under attention, scaled to mean 0 and spread 1 over those who have it:
    one that is absent stands at the mean and so adds nothing. The state is linear in the slots and,
    beside that, a low-rank product of them with each other: what two say together may be told by neither.
    """

    mark: Tensor

    def __init__(self, vocabulary: Vocabulary, width: int, rank: int, outcomes: int, dropout: float) -> None:
        super().__init__()
        self.names = tuple(vocabulary.modalities)
        self.encoders = nn.ModuleDict({name: encoder(name)(vocabulary, ITEM_WIDTH) for name in self.names})
        slots = [encoder(name).slots(vocabulary.modalities[name]) for name in self.names]
        self.looks = nn.ModuleList(nn.Linear(ITEM_WIDTH, 1) for _ in range(sum(slots)))
        self.scales = nn.ModuleList(nn.BatchNorm1d(ITEM_WIDTH, affine=False) for _ in range(sum(slots)))
        inside = sum(slots) * ITEM_WIDTH
        self.alone = nn.Linear(inside, rank, bias=False)
        self.one, self.other = nn.Linear(inside, rank, bias=False), nn.Linear(inside, rank, bias=False)
        self.dropout = Dropout(dropout)
        # Begun at nothing: what a modality adds, it has to earn.
        self.to_outcomes = nn.Linear(2 * rank, outcomes, bias=False)
        self.fuse = nn.ModuleDict({name: nn.Linear(ITEM_WIDTH, width, bias=False) for name in self.names})
        # Of two slots that are there, states and their products then have a spread of about 1.
        for mixed in (self.alone, self.one, self.other):
            nn.init.normal_(mixed.weight, std=(2 * ITEM_WIDTH) ** -0.5)
        nn.init.zeros_(self.to_outcomes.weight)
        for name in self.names:
            nn.init.zeros_(self.fuse[name].weight)  # type: ignore[arg-type]
        self.register_buffer("mark", torch.zeros((), dtype=torch.int64))

    def forward(self, attached: Attached) -> Tensor:
        """Return what the modalities add to each question's log hazards [Q, O]."""
        pooled = torch.cat([self._pool(number, attached) for number in range(len(self.looks))], dim=1)
        together = self.one(pooled) * self.other(pooled)
        state_QZ = torch.cat([self.alone(pooled), together], dim=1)
        added: Tensor = self.to_outcomes(self.dropout(state_QZ)).float()
        return added

    def there(self, attached: Attached | None) -> Attached | None:
        """Return what is there; in training, each modality is left out of a whole batch by lot (modality dropout)."""
        if attached is None or not self.training:
            return attached
        left_out = (lots(len(self.names)) < LEFT_OUT).numpy()
        kept = ~left_out[attached.modality_C]
        thinned = attached.without(np.repeat(left_out[None], len(attached.known[0]), axis=0))
        return replace(
            thinned, cell_C=attached.cell_C[kept], modality_C=attached.modality_C[kept], row_C=attached.row_C[kept]
        )

    def nothing(self) -> Tensor:
        """Return 0, as what the layers that still learn would add if none of their items were there."""
        total = torch.zeros((), device=self.mark.device)
        for name in self.names:
            weight: Tensor = self.fuse[name].weight  # type: ignore[assignment]
            # A product and not a sum times 0, whose gradient would be one number seen as many.
            total = total + (weight * torch.zeros_like(weight)).sum()
        return total

    def at_events(self, attached: Attached, x_RTD: Tensor) -> Tensor:
        """Return the vectors of events with those of the items that lie there added."""
        if not len(attached.cell_C):
            return x_RTD
        flat = x_RTD.flatten(0, 1)
        for number, name in enumerate(self.names):
            mine = attached.modality_C == number
            if mine.any():
                vectors = self._vectors(attached.items, name)[torch.from_numpy(attached.row_C[mine])].to(flat.device)
                where = torch.from_numpy(attached.cell_C[mine]).to(flat.device)
                flat = flat.index_add(0, where, self.fuse[name](vectors).to(flat.dtype))
        return flat.view_as(x_RTD)

    def settle(self, mark: int) -> None:
        """Say that the encoders learn no more: from now on each item is encoded once."""
        self.mark.fill_(mark)

    def unsettle(self, items: Items | None) -> None:
        """Let the encoders learn again, and forget what they made of items."""
        self.mark.fill_(0)
        if items is not None:
            items.encoded.clear()

    def train(self, mode: bool = True) -> ModalState:
        """Set the mode of what still learns: settled encoders and scales stay as they are."""
        super().train(mode)
        if int(self.mark):
            for part in (self.encoders, self.scales):
                part.eval()
        return self

    def _pool(self, number: int, attached: Attached) -> Tensor:
        """Return a slot's vector [Q, D], 0 where nothing is known."""
        slot, rows_QK = attached.items.slots[number], attached.known[number]
        device = self.mark.device
        pooled = torch.zeros(len(rows_QK), ITEM_WIDTH, device=device)
        there = np.flatnonzero((rows_QK >= 0).any(axis=1))
        if not len(there):
            return pooled
        rows = rows_QK[there]
        needed, inverse = np.unique(rows[rows >= 0], return_inverse=True)
        vectors = self._rows(attached.items, slot.modality, needed)
        at = np.zeros(rows.shape, np.int64)
        at[rows >= 0] = inverse
        known_QK = torch.from_numpy(rows >= 0).to(device)
        items_QKD = vectors[torch.from_numpy(at).to(device)]
        looks_QK = self.looks[number](items_QKD).squeeze(-1).masked_fill(~known_QK, -1e4).softmax(1)
        mean_QD = (looks_QK.unsqueeze(-1) * items_QKD).sum(1)
        scale = self.scales[number]
        if self.training and scale.training and len(there) < 2:
            return pooled
        return pooled.index_copy(0, torch.from_numpy(there).to(device), scale(mean_QD))

    def _rows(self, items: Items, name: str, rows: NDArray[np.int64]) -> Tensor:
        if int(self.mark):
            return self._vectors(items, name)[torch.from_numpy(rows)].to(self.mark.device)
        return self._encode(items, name, rows)

    def _encode(self, items: Items, name: str, rows: NDArray[np.int64]) -> Tensor:
        arrays = tuple(torch.from_numpy(each[rows]).unsqueeze(1).to(self.mark.device) for each in items.contents[name])
        vectors: Tensor = self.encoders[name](arrays).squeeze(1)
        return vectors.float()

    def _vectors(self, items: Items, name: str) -> Tensor:
        """Return the vectors of all of a modality's items [M, D], kept for as long as the items are."""
        kept = items.encoded.setdefault(int(self.mark), {})
        if name not in kept:
            number = len(items.contents[name][0])
            with torch.no_grad():
                parts = [
                    self._encode(items, name, np.arange(first, min(first + _AT_ONCE, number))).cpu()
                    for first in range(0, number, _AT_ONCE)
                ]
            kept[name] = torch.cat(parts) if parts else torch.zeros(0, ITEM_WIDTH)
        return kept[name]
