"""A model on disk: weights and calibration as plain arrays, vocabulary and configuration as JSON. No pickle."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch

from lifechart.core import durable
from lifechart.core.errors import InputError
from lifechart.model.adapt.adapter import ADAPTER, BASE, Adapter, is_adapted
from lifechart.model.calibration import Calibration
from lifechart.model.heads import BaseRates
from lifechart.model.labelled.folder import is_labelled, labelled_digest
from lifechart.model.neighbours import NEIGHBOURS, Neighbours
from lifechart.model.network import Network
from lifechart.model.sizes import Size
from lifechart.model.vocabulary import Vocabulary

WEIGHTS, CALIBRATION, VOCABULARY, CONFIG = "weights.npz", "calibration.npz", "vocabulary.json", "config.json"
FILES = (WEIGHTS, CALIBRATION, VOCABULARY, CONFIG)
STACK = "stack.npz"
"""Beside them where the configuration says `stack`: trees on top of the network (model.stack)."""
_INDEX = "neighbours"
"""In the configuration: the digest of model.neighbours' index. The file itself may stay behind when a model leaves the
house, so it is no part of the digest of a model but through this.
"""
_FORMAT = 2


@dataclass(frozen=True)
class Model:
    """Everything that a forecast needs, and the digest of the files it came from."""

    network: Network
    calibration: Calibration
    vocabulary: Vocabulary
    size: Size
    config: dict[str, Any]
    digest: str


def save_model(
    folder: Path, network: Network, calibration: Calibration, vocabulary: Vocabulary, size: Size, about: dict[str, Any]
) -> str:
    """Write a model and return its digest. `about` (seed, data digest, ...) goes into the configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {name: tensor.detach().cpu().numpy() for name, tensor in network.state_dict().items()}
    with durable.replacing(folder / WEIGHTS) as aside, aside.open("wb") as file:
        np.savez(file, **arrays)
    calibration.save(folder / CALIBRATION)
    vocabulary.save(folder / VOCABULARY)
    durable.write_json(folder / CONFIG, {"format": _FORMAT, "size": asdict(size), **about})
    return model_digest(folder)


def model_digest(folder: Path) -> str:
    """Return the SHA-256 that names a model: of the digests of its files, so that no other file matters."""
    if is_labelled(folder):
        return labelled_digest(folder)
    if is_adapted(folder):
        return durable.digest_of({BASE: model_digest(folder / BASE), ADAPTER: durable.file_digest(folder / ADAPTER)})
    stacked = bool(orjson.loads((folder / CONFIG).read_bytes()).get("stack"))
    return durable.digest_of({name: durable.file_digest(folder / name) for name in (*FILES, *[STACK] * stacked)})


def files_of(folder: Path) -> tuple[str, ...]:
    """Return the names of a network's files that a statement about it lists, its index of people among them."""
    config = orjson.loads((folder / CONFIG).read_bytes())
    beside = [name for key, name in (("stack", STACK), (_INDEX, NEIGHBOURS)) if config.get(key)]
    return (*FILES, *(name for name in beside if (folder / name).is_file()))


def load_neighbours(folder: Path, config: dict[str, Any]) -> Neighbours | None:
    """Read a model's index of people; None if it has none or came without it. Raises IntegrityError for another."""
    digest = config.get(_INDEX)
    return Neighbours.load(folder, str(digest)) if digest else None


def load_model(folder: Path, device: torch.device | None = None) -> Model:
    """Read a model; raises InputError if the folder does not hold one.

    An adapted one is the released model in `base` with its adapter's differences: IntegrityError if that was changed.
    """
    if is_adapted(folder):
        return _load_adapted(folder, device)
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise InputError("model", str(folder), f"a folder that holds {', '.join(missing)}")
    config = orjson.loads((folder / CONFIG).read_bytes())
    if config.get("format") != _FORMAT:
        raise InputError(f"{CONFIG}: format", config.get("format"), f"{_FORMAT}")
    size = Size(**config["size"])
    vocabulary = Vocabulary.load(folder / VOCABULARY)
    with np.load(folder / WEIGHTS, allow_pickle=False) as arrays:
        state = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    start = BaseRates(*(state[f"hazards.{name}"].numpy() for name in ("base_OB", "again_OB")))
    network = Network(vocabulary, size, start)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(WEIGHTS, str(folder), "weights of a network that this version builds") from error
    network.eval().requires_grad_(False)
    network.to(device or torch.device("cpu"))
    return Model(network, Calibration.load(folder / CALIBRATION), vocabulary, size, config, model_digest(folder))


def _load_adapted(folder: Path, device: torch.device | None) -> Model:
    base, adapter = load_model(folder / BASE, device), Adapter.load(folder / ADAPTER)
    return adapted(base, adapter, model_digest(folder))


def adapted(base: Model, adapter: Adapter, digest: str) -> Model:
    """Return a model with an adapter's differences in it, `base` left as it is; raises InputError for another base."""
    adapter.require(base.digest)
    network = copy.deepcopy(base.network)
    adapter.onto(network)
    return Model(
        network, adapter.calibrated(base.calibration), adapter.read_by(base.vocabulary), base.size,
        base.config | {"adapter": adapter.about, "data_digest": adapter.about["data_digest"]}, digest,
    )  # fmt: skip
