"""One file a modality; each turns events into vectors of the network's width.

The network takes its encoders from the entry-point group `lifechart.encoders`, the built-in `event` included. `event`
reads every coded event. An encoder of another modality (`ItemEncoder`) finds items in a record (a note, an image, a
variant) and gives each one a vector; `lifechart.model.modalities` brings them to the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from lifechart.core import plugs
from lifechart.core.errors import PlugError

UNDATED = np.iinfo(np.int64).min
"""The time of an item that has no date: it is known from the beginning."""


@runtime_checkable
class Encoder(Protocol):
    """A module class: built from (vocabulary, width), called with the events of a batch, returns [R, T, width]."""

    modality: str
    """What it reads; the name of its entry point."""

    def forward(self, events: Any) -> Any:
        """Return one vector a position, shape [R, T, width]."""


@runtime_checkable
class Pictures(Protocol):
    """Where images are found: beside a data set, or at the bedside in an archive."""

    @property
    def index(self) -> pl.DataFrame:
        """Columns subject_id Int64, time Datetime(us), modality String (as in DICOM), image String (its key)."""

    def load(self, image: str) -> NDArray[np.generic]:
        """Return an image's samples (frames, rows, columns, samples)."""


@dataclass(frozen=True)
class Found:
    """The items of one modality in some records, in any order: M items, all arrays with M rows."""

    subject_id: NDArray[np.int64]
    time: NDArray[np.int64]
    """Microseconds as in the events; UNDATED without a date."""
    slot: NDArray[np.int64]
    """Which of the encoder's slots the item belongs to: within a slot the latest items are pooled."""
    contents: tuple[NDArray[Any], ...]
    """What `forward` reads of each item."""

    def __len__(self) -> int:
        return len(self.subject_id)


@runtime_checkable
class Beginner(Protocol):
    """An item encoder that does not begin at random."""

    def begin(self, contents: tuple[NDArray[Any], ...], known_WM: sparse.csr_array) -> None:
        """Set first weights from the M items of the training split.

        `known_WM`: windows of people's lives, and what share each item has of what is known then; a row adds up to 1,
        or to 0 where nothing is known.
        """


@runtime_checkable
class ItemEncoder(Encoder, Protocol):
    """An encoder of what hangs on a timeline beside its coded events.

    The class is built from (vocabulary, width), where `vocabulary.modalities[modality]` is what `learn` returned;
    `forward` reads a tuple of tensors [R, T, ...], the `contents` of R x T items.
    """

    most: int
    """How many of the latest items of a slot are pooled."""

    def learn(self, events: pl.DataFrame, pictures: Pictures | None) -> dict[str, Any] | None:
        """Static. Return what must be known to read the modality, from the training split, as JSON; None: not there."""

    def slots(self, learnt: dict[str, Any]) -> int:
        """Static. Return how many slots there are."""

    def find(self, events: pl.DataFrame, learnt: dict[str, Any], pictures: Pictures | None) -> Found:
        """Static. Return the items of some records."""


def encoder(modality: str) -> Any:
    """Return the encoder class of a modality; raises PlugError that names the known ones."""
    found = plugs.load("lifechart.encoders", Encoder)
    if modality not in found:
        raise PlugError(f"modality: got {modality!r}, expected one of {sorted(found)}")
    if cast(Encoder, found[modality]).modality != modality:
        raise PlugError(f"lifechart.encoders: {modality!r} says that it reads another modality")
    return found[modality]


def item_encoders() -> dict[str, Any]:
    """Return the encoder classes of modalities beside coded events, by name."""
    found = plugs.load("lifechart.encoders", Encoder)
    return {name: encoder(name) for name, plug in found.items() if isinstance(plug, ItemEncoder)}
