"""What hangs on a record besides coded events (notes, images, genomic results), and what is known when.

Every encoder of `lifechart.encoders` but `event` says what it finds (`encoders.ItemEncoder`). Its items are laid out
here by person and time (`Items`), and looked up for a batch (`attach`); `modal_state` brings them to the answer.
Shapes: M items, Q questions, K items of a slot, C cells of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from torch import Tensor

from lifechart.core.errors import InputError
from lifechart.model.encoders import UNDATED, Found, Pictures, encoder, item_encoders
from lifechart.model.vocabulary import Vocabulary

NONE = "none"


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
