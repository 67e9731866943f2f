"""A model of one's own labels on disk: members as plain arrays, everything else as JSON. No pickle."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from lifechart.core import durable
from lifechart.core.errors import InputError
from lifechart.data.summaries import Summary
from lifechart.model.labelled.blend import Blend
from lifechart.model.labelled.dense import Dense
from lifechart.model.labelled.fit import Fitted, Member
from lifechart.model.labelled.linear import Linear
from lifechart.model.labelled.scaling import Scaling
from lifechart.model.labelled.target import Baseline
from lifechart.model.labelled.trees import Trees

MEMBERS, CONFIG = "members.npz", "config.json"
FILES = (MEMBERS, CONFIG)
KIND = "labelled"
_FORMAT = 1
_CLASSES: dict[str, type[Trees] | type[Linear] | type[Dense]] = {"trees": Trees, "linear": Linear, "dense": Dense}


@dataclass(frozen=True, eq=False)
class Reliability:
    """How sure a probability is, and what is usual: from rows whose subjects the members had not seen.

    probability, low, high [G]: 95% intervals of the share that came true near each; bounds [2, F]: the range of each
    feature that holds all but 1% of rows; unusual [101]: percentiles of how many features leave theirs.
    """

    probability: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    bounds: NDArray[np.float32]
    unusual: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LabelledModel:
    """All that is read from a folder."""

    name: str
    horizon: float | None
    """Days; None for a plain yes or no."""
    summary: Summary
    fitted: Fitted
    reliability: Reliability
    about: dict[str, Any]
    digest: str


def save(
    folder: Path,
    name: str,
    horizon: float | None,
    summary: Summary,
    fitted: Fitted,
    reliability: Reliability,
    about: dict[str, Any],
) -> str:
    """Write a model and return its digest; `about` (seed, digests, figures) goes into the configuration."""
    kinds = {member: next(kind for kind, cls in _CLASSES.items() if isinstance(made, cls)) for member, made in
             fitted.members.items()}  # fmt: skip
    parts: dict[str, Any] = {"scaling": fitted.scaling, "blend": fitted.blend, "reliability": reliability}
    parts |= {f"member/{member}": made for member, made in fitted.members.items()}
    if fitted.baseline is not None:
        parts["baseline"] = fitted.baseline
    arrays = {f"{part}/{each.name}": getattr(made, each.name) for part, made in parts.items() for each in fields(made)}
    folder.mkdir(parents=True, exist_ok=True)
    with durable.replacing(folder / MEMBERS) as aside, aside.open("wb") as file:
        np.savez(file, **arrays)
    config = {"format": _FORMAT, "kind": KIND, "name": name, "horizon_days": horizon, "members": kinds}
    durable.write_json(folder / CONFIG, {**config, "order": list(kinds), "summary": summary.content(), **about})
    return labelled_digest(folder)


def labelled_digest(folder: Path) -> str:
    """Return the SHA-256 that names a model: of the digests of its files."""
    return durable.digest_of({name: durable.file_digest(folder / name) for name in FILES})


def is_labelled(folder: Path) -> bool:
    """Return whether a folder holds a model of labels."""
    return (folder / MEMBERS).is_file() and (folder / CONFIG).is_file()


def load(folder: Path) -> LabelledModel:
    """Read what `save` wrote; raises InputError if it is not that."""
    if not is_labelled(folder):
        raise InputError("model", str(folder), "a folder written by `lifechart train --labels`")
    config = orjson.loads((folder / CONFIG).read_bytes())
    if (config.get("kind"), config.get("format")) != (KIND, _FORMAT):
        raise InputError(f"{CONFIG}: kind, format", (config.get("kind"), config.get("format")), f"{(KIND, _FORMAT)}")
    try:
        with np.load(folder / MEMBERS, allow_pickle=False) as read:
            arrays = {name: read[name] for name in read.files}

        def part(name: str, cls: type[Any]) -> Any:
            return cls(**{each.name: arrays[f"{name}/{each.name}"] for each in fields(cls)})

        members: dict[str, Member] = {
            name: part(f"member/{name}", _CLASSES[config["members"][name]]) for name in config["order"]
        }
        baseline = part("baseline", Baseline) if "baseline/days" in arrays else None
        fitted = Fitted(part("scaling", Scaling), members, part("blend", Blend), baseline)
        reliability = part("reliability", Reliability)
        summary = Summary.of(config["summary"])
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise InputError(MEMBERS, str(folder), f"arrays written by `lifechart train --labels` ({error})") from error
    return LabelledModel(
        config["name"], config["horizon_days"], summary, fitted, reliability, config, labelled_digest(folder)
    )
