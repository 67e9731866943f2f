"""An adapter: what an institution changed in a released model, as one file that is bound to that model.

It holds differences only, no record and no copy of the model: it says nothing without the model whose digest it names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import orjson
import torch
from numpy.typing import NDArray

from lifechart.core import durable
from lifechart.core.errors import InputError, IntegrityError
from lifechart.model.calibration import Calibration
from lifechart.model.network import Network
from lifechart.model.vocabulary import Vocabulary

ADAPTER, BASE = "adapter.npz", "base"
"""Names in an adapted model's folder: the adapter, and the folder of the model that it is for."""
METHODS = ("head", "lora")
_FORMAT = 1
_RECALIBRATED = ("slope", "scale")
"""What of a calibration is the adapter's own; the rest stays the released model's."""

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Adapter:
    """Differences by the name of what they change.

    `added`: to flattened weights, as (places, values). `products`: (left [out, r], right [r, in]) whose product is
    added to a matrix. `knots`: {row of the vocabulary: value scale}. `calibration`: arrays in place of the released
    ones. `about`: base (the model's digest), method, data_digest, seed and what else was noted.
    """

    about: dict[str, Any]
    added: Mapping[str, tuple[Array, Array]]
    products: Mapping[str, tuple[Array, Array]]
    knots: Mapping[int, Array]
    calibration: Mapping[str, Array]

    @property
    def base(self) -> str:
        """SHA-256 of the model that this is for."""
        return str(self.about["base"])

    @property
    def numbers(self) -> int:
        """How many numbers it holds."""
        return sum(array.size for array in self._arrays().values())

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        arrays = self._arrays()
        about = {**self.about, "format": _FORMAT}
        header = np.frombuffer(orjson.dumps({"about": about, "sum": _sum(about, arrays)}), np.uint8)
        with durable.replacing(path) as aside, aside.open("wb") as file:
            np.savez_compressed(file, header=header, **arrays)

    @classmethod
    def load(cls, path: Path) -> Adapter:
        """Read what `save` wrote; raises InputError if it is not that, IntegrityError if it was changed since."""
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            header = orjson.loads(arrays.pop("header").tobytes())
            about, stated = header["about"], header["sum"]
            known = about["format"] == _FORMAT and about["method"] in METHODS
        except BadZipFile as error:
            raise IntegrityError(f"{path}: not the bytes that were written ({error})") from error
        except (OSError, KeyError, ValueError, TypeError, orjson.JSONDecodeError) as error:
            raise InputError("adapter", str(path), f"a file written by `lifechart adapt` ({error})") from error
        if not known:
            raise InputError("adapter", str(path), f"format {_FORMAT} and one of the methods {', '.join(METHODS)}")
        if _sum(about, arrays) != stated:
            raise IntegrityError(f"{path}: its content is not what was written")
        return cls(
            {key: value for key, value in about.items() if key != "format"},
            _pairs(arrays, "added"), _pairs(arrays, "product"),
            {int(name.partition("/")[2]): array for name, array in arrays.items() if name.startswith("knots/")},
            {name.partition("/")[2]: array for name, array in arrays.items() if name.startswith("calibration/")},
        )  # fmt: skip

    def require(self, digest: str) -> None:
        """Raise InputError if the model with this digest is not the one that this is for."""
        if digest != self.base:
            raise InputError("base", digest, f"the model that this adapter is for, {self.base}")

    def onto(self, network: Network) -> None:
        """Add the differences to a network's weights, in place; raises InputError where they do not fit."""
        state = network.state_dict()
        try:
            with torch.no_grad():
                for name, (places, values) in self.added.items():
                    state[name].view(-1).index_add_(0, torch.from_numpy(places), torch.from_numpy(values))
                for name, (left, right) in self.products.items():
                    state[name] += torch.from_numpy(left) @ torch.from_numpy(right)
        except (KeyError, RuntimeError, IndexError) as error:
            raise InputError("adapter", self.base, f"differences that fit the model's weights ({error})") from error

    def read_by(self, vocabulary: Vocabulary) -> Vocabulary:
        """Return the vocabulary with the local value scales."""
        knots = vocabulary.knots.copy()
        for row, scale in self.knots.items():
            knots[row] = scale
        return replace(vocabulary, knots=knots)

    def calibrated(self, released: Calibration) -> Calibration:
        """Return the released calibration with the local parts in it."""
        return replace(released, **self.calibration)

    def _arrays(self) -> dict[str, Array]:
        arrays: dict[str, Array] = {}
        for kind, pairs in (("added", self.added), ("product", self.products)):
            for name, (one, two) in pairs.items():
                arrays |= {f"{kind}/{name}/0": one, f"{kind}/{name}/1": two}
        arrays |= {f"knots/{row}": scale for row, scale in self.knots.items()}
        return arrays | {f"calibration/{name}": array for name, array in self.calibration.items()}


def own_parts(calibration: Calibration) -> dict[str, Array]:
    """Return those arrays of a local calibration that an adapter holds."""
    return {name: getattr(calibration, name) for name in _RECALIBRATED}


def is_adapted(folder: Path) -> bool:
    """Whether a folder holds an adapted model."""
    return (folder / ADAPTER).is_file()


def _pairs(arrays: Mapping[str, Array], kind: str) -> dict[str, tuple[Array, Array]]:
    names = [name.removeprefix(f"{kind}/").removesuffix("/0") for name in arrays if name.startswith(f"{kind}/")]
    return {name: (arrays[f"{kind}/{name}/0"], arrays[f"{kind}/{name}/1"]) for name in names if name[-2:] != "/1"}


def _sum(about: Mapping[str, Any], arrays: Mapping[str, Array]) -> str:
    said = {name: [array.dtype.str, list(array.shape), _bytes(array)] for name, array in arrays.items()}
    return durable.digest_of({"about": dict(about), "arrays": said})


def _bytes(array: Array) -> str:
    return np.ascontiguousarray(array).tobytes().hex()
