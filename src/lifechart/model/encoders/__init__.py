"""One file a modality; each turns events into vectors of the network's width.

The network takes its encoders from the entry-point group `lifechart.encoders`, the built-in `event` included.
"""

from __future__ import annotations

from typing import Any, Protocol, cast, runtime_checkable

from lifechart.core import plugs
from lifechart.core.errors import PlugError


@runtime_checkable
class Encoder(Protocol):
    """A module class: built from (vocabulary, width), called with the events of a batch, returns [R, T, width]."""

    modality: str
    """What it reads; the name of its entry point."""

    def forward(self, events: Any) -> Any:
        """Return one vector a position, shape [R, T, width]."""


def encoder(modality: str) -> Any:
    """Return the encoder class of a modality; raises PlugError that names the known ones."""
    found = plugs.load("lifechart.encoders", Encoder)
    if modality not in found:
        raise PlugError(f"modality: got {modality!r}, expected one of {sorted(found)}")
    if cast(Encoder, found[modality]).modality != modality:
        raise PlugError(f"lifechart.encoders: {modality!r} says that it reads another modality")
    return found[modality]
