"""An adapter: what an institution changed in a released model, as one file that is bound to that model.

It holds differences only, no record and no copy of the model: it says nothing without the model whose digest it names.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch
from numpy.typing import NDArray

from lifechart.core import durable
from lifechart.core.errors import InputError, IntegrityError
from lifechart.model.calibration import Calibration
from lifechart.model.network import Network
from lifechart.model.vocabulary import Vocabulary

ADAPTER, BASE = "adapter.bin", "base"
"""Names in an adapted model's folder: the adapter, and the folder of the model that it is for."""
METHODS = ("head", "lora")
_MARK = b"lifechart adapter 1 "
"""How the file begins; the SHA-256 of all that follows the first line ends it, and then come NumPy arrays."""
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
        header = np.frombuffer(durable.canonical_json(self.about), np.uint8)
        content = io.BytesIO()
        np.savez_compressed(content, **{"header": header, **self._arrays()})  # type: ignore[arg-type]
        durable.write_bytes(path, _line(content.getvalue()) + content.getvalue())

    @classmethod
    def load(cls, path: Path) -> Adapter:
        """Read what `save` wrote; raises InputError if it is not that, IntegrityError if it was changed since."""
        try:
            first, _, content = path.read_bytes().partition(b"\n")
        except OSError as error:
            raise InputError("adapter", str(path), f"a file written by `lifechart adapt` ({error})") from error
        if not first.startswith(_MARK):
            raise InputError("adapter", str(path), "a file written by `lifechart adapt`, of this version's form")
        if _line(content) != first + b"\n":
            raise IntegrityError(f"{path}: its content is not what was written")
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = orjson.loads(arrays.pop("header").tobytes())
        return cls(
            about, _pairs(arrays, "added"), _pairs(arrays, "product"),
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


def _line(content: bytes) -> bytes:
    return _MARK + hashlib.sha256(content).hexdigest().encode() + b"\n"
