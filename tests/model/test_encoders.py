"""Every registered encoder keeps the contract, and the network's own comes through the same door."""

import pytest
from torch import nn

from lifechart.core import plugs
from lifechart.core.errors import PlugError
from lifechart.model.encoders import Encoder, encoder
from lifechart.model.encoders.event import EventEncoder


def test_every_encoder_keeps_the_contract() -> None:
    found = plugs.load("lifechart.encoders", Encoder)
    assert all(issubclass(plug, nn.Module) and plug.modality == name for name, plug in found.items())  # type: ignore


def test_the_built_in_comes_by_entry_point() -> None:
    assert encoder("event") is EventEncoder


def test_an_unknown_modality_is_refused_by_name() -> None:
    with pytest.raises(PlugError, match=r"'smell'.*event"):
        encoder("smell")
