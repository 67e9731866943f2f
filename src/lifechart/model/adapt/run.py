"""`lifechart adapt`: a released model and local records in; an adapted model and a statement in the ledger out.

The data that the released model learnt from are neither there nor needed.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lifechart import __version__
from lifechart.core import durable
from lifechart.core.errors import InputError
from lifechart.core.timeline import DEATH
from lifechart.data import shards
from lifechart.ledger.log import Log
from lifechart.ledger.statement import Statement, Subject
from lifechart.model.adapt import low_rank
from lifechart.model.adapt.adapter import ADAPTER, BASE, METHODS, Adapter, is_adapted, own_parts
from lifechart.model.adapt.head import Bend, Prior, fit_head
from lifechart.model.adapt.local import ScaleTrial, ask_locally
from lifechart.model.adapt.reading import Reading, Scale, borne_out, doubtful, moved, read_of
from lifechart.model.calibration import Calibration, interval_scale
from lifechart.model.checkpoint import FILES, Model, adapted, load_model, model_digest
from lifechart.model.encoders import Pictures
from lifechart.model.encoders.image import pictures_of
from lifechart.model.heads import cumulative_incidence
from lifechart.model.labelled.folder import is_labelled
from lifechart.model.sizes import SIZES
from lifechart.model.threads import suited_to
from lifechart.model.tokens import Entries, Tokens, entries, tokenise, tokens_of, with_items
from lifechart.model.train import bar_of

FEWEST_LIVES = 100
"""Local lives to learn from below which nothing is adapted."""


@dataclass(frozen=True)
class Adaptation:
    """What was made, and what was found on the way."""

    folder: Path
    digest: str
    adapter: Adapter
    reading: Reading
    scales: tuple[Scale, ...]
    lives: int
    size: str
    """The released model's, by name; one of like size where it has a shape of its own."""
    novelty: float
    """Mean novelty of the local patients to the released model; 0.5 where they are like its own."""

    def summary(self) -> str:
        """Say in a few lines what was made."""
        size = (self.folder / ADAPTER).stat().st_size
        about = self.adapter.about
        moved_scales = [f"{each.code} x {each.factor:.2f}" for each in self.scales if each.moved]
        lines = [
            f"model     {self.folder} ({self.digest[:12]}), for {about['base'][:12]} and no other",
            f"adapter   {size / 1024:,.0f} kB, {self.adapter.numbers:,} numbers, by {about['method']}",
            f"learnt    from {self.lives:,} local lives, novelty {self.novelty:.2f} on average (0.5: as at home)",
            f"scales    {', '.join(moved_scales) or 'none moved'}; {len(self.scales) - len(moved_scales)} off but left",
        ]
        if about.get("low_rank"):
            losses = about["low_rank"]["tuning_losses"]
            kept = "kept" if about["low_rank"]["kept"] else "not kept: the head alone serves the tuning split better"
            lines.append(
                f"low rank  {kept} (loss {losses[0]:.4f}, then {', '.join(f'{one:.4f}' for one in losses[1:])})"
            )
        return "\n".join(lines)


def adapt(
    base_folder: Path, dataset: Path, out: Path, *, method: str = "head", seed: int = 0, log: Log, actor: str = "",
    owner: Mapping[str, Any] | None = None, progress: bool | None = None, prior: Prior | None = None,
) -> Adaptation:  # fmt: skip
    """Adapt the model in `base_folder` to `dataset`'s training lives; write it, the base beside it, to `out`.

    `method`: `head`, or `lora` (then low-rank changes of the network besides). The data set's tuning lives set how wide
    intervals are and whether low-rank changes are kept; its held-out lives are not looked at. `actor`: who adapts it,
    and so never signs for it. `owner`: where the released model's own lineage is held (origin, size and root of a
    checkpoint of its owner's log; the digest of the release's manifest). Raises InputError for a model that cannot be
    adapted or too few lives.
    """
    base = _base(base_folder, method)
    data_digest = shards.dataset_digest(dataset)
    if data_digest == base.config.get("data_digest"):
        raise InputError("DATASET", str(dataset), "another data set than the one that the model was trained on")
    events, pictures = shards.read_split(dataset, "train"), pictures_of(dataset)
    shown = sys.stderr.isatty() if progress is None else progress
    with bar_of(shown) as bar, suited_to(base.size.width):
        task = bar.add_task("reading", total=100, loss=float("nan"), tuning=float("nan"), rate=0.0)

        def advance(doing: str, first: float, last: float, share: float) -> None:
            bar.update(task, description=doing, completed=100 * (first + (last - first) * share))

        reading = read_of(events, base.vocabulary)
        read = entries(events, base.vocabulary)
        tokens = tokens_of(read, base.vocabulary)
        if tokens.num_subjects < FEWEST_LIVES:
            raise InputError("DATASET", tokens.num_subjects, f"{FEWEST_LIVES} training lives or more, to adapt to")
        scales = borne_out(doubtful(read, tokens, base.vocabulary), ScaleTrial(base, read, seed).gain)
        advance("asking", 0.0, 0.2, 1.0)
        fitted = _Fit(base, events, read, pictures, scales, seed)
        asked = ask_locally(fitted.model(), fitted.tokens, seed)
        bends = fit_head(asked, base.calibration, prior or Prior(), lambda share: advance("head", 0.3, 0.6, share))
        fitted.bend(bends)
        tuning = tokenise(shards.read_split(dataset, "tuning"), fitted.vocabulary, pictures)
        if method == "lora":
            fitted.lower(tuning, lambda share: advance("low rank", 0.6, 0.95, share))
        fitted.widen(tuning)
        advance("writing", 0.95, 1.0, 1.0)
    about = {"method": method, "data_digest": data_digest, "seed": seed, "code_version": __version__, **fitted.noted}
    adapter = fitted.adapter({"base": base.digest, **about})
    novelty = float(np.mean(base.calibration.novelty(asked.state)))
    digest = write(base_folder, adapter, out)
    size = next((name for name, each in SIZES.items() if asdict(each) == asdict(base.size)), "xs")
    made = Adaptation(out, digest, adapter, reading, tuple(scales), tokens.num_subjects, size, novelty)
    log.append(_statement(made, base, actor, owner))
    return made


def write(base_folder: Path, adapter: Adapter, out: Path) -> str:
    """Write an adapted model's folder: the adapter, and the model that it is for; return the digest that names it.

    Raises InputError where the adapter is for another model.
    """
    adapter.require(model_digest(base_folder))
    for name in FILES:
        with durable.replacing(out / BASE / name) as aside:
            shutil.copyfile(base_folder / name, aside)
    adapter.save(out / ADAPTER)
    return model_digest(out)


def _base(folder: Path, method: str) -> Model:
    if method not in METHODS:
        raise InputError("--method", method, f"one of {', '.join(METHODS)}")
    if method == "lora":
        low_rank.require_peft()
    if is_labelled(folder) or is_adapted(folder):
        raise InputError(
            "MODEL", str(folder), "a model of `lifechart train` itself, neither of labels nor adapted before"
        )
    base = load_model(folder)
    if base.config.get("stack"):
        raise InputError("MODEL", str(folder), "a model without a stack: its trees read another institution's counts")
    return base


class _Fit:
    """The parts of an adapter, as they come to be."""

    def __init__(
        self, base: Model, events: Any, read: Entries, pictures: Pictures | None, scales: list[Scale], seed: int
    ) -> None:
        self.base, self.seed = base, seed
        self.knots = moved(base.vocabulary, scales)
        knots = base.vocabulary.knots.copy()
        for row, scale in self.knots.items():
            knots[row] = scale
        self.vocabulary = replace(base.vocabulary, knots=knots)
        self.tokens: Tokens = with_items(tokens_of(read, self.vocabulary), events, self.vocabulary, pictures)
        self.calibration = base.calibration
        self.added: dict[str, tuple[Any, Any]] = {}
        self.products: low_rank.Pairs = {}
        self.noted: dict[str, Any] = {}

    def adapter(self, about: dict[str, Any]) -> Adapter:
        return Adapter(about, self.added, self.products, self.knots, own_parts(self.calibration))

    def model(self) -> Model:
        about = {"base": self.base.digest, "data_digest": ""}
        return adapted(self.base, self.adapter(about), self.base.digest)

    def bend(self, bends: list[Bend]) -> None:
        self.calibration, self.added = merged(bends, self.base)

    def lower(self, tuning: Tokens, advance: Any) -> None:
        found = low_rank.fit_low_rank(self.model(), self.tokens, tuning, self.seed, advance)
        self.products = found.products
        self.noted["low_rank"] = {
            "rank": low_rank.RANK, "kept": bool(found.products),
            "tuning_losses": [round(one, 6) for one in found.losses],
        }  # fmt: skip

    def widen(self, tuning: Tokens) -> None:
        """Let intervals be as wide as the local tuning lives ask for, and never narrower than they were."""
        if not tuning.num_subjects:
            return
        model = self.model()
        asked = ask_locally(model, tuning, self.seed + 1)
        outcomes = model.vocabulary.outcomes
        death = outcomes.index(DEATH) if DEATH in outcomes else None
        probability = cumulative_incidence(self.calibration.hazards(asked.log_hazard), death)
        unscaled = replace(self.calibration, scale=np.ones(1, np.float32)).errors(asked.state)
        found = interval_scale(probability, unscaled, asked.had, asked.labels, asked.subject)
        scale = np.maximum(self.calibration.scale, np.float32(found)).astype(np.float32)
        self.calibration = replace(self.calibration, scale=scale)


def merged(bends: list[Bend], base: Model) -> tuple[Calibration, dict[str, tuple[Any, Any]]]:
    """Return the local calibration, and what is added to which weights so that the network says what the bends add.

    Slopes go to the calibration; all else to weights before it, divided by the slope that they will be multiplied with.
    """
    head = base.network.hazards
    slope = base.calibration.slope * np.maximum(1.0 + np.array([each.slope for each in bends]), 0.1)
    slope = slope.astype(np.float32)
    by_bin = np.stack([each.levels for each in bends]) / slope[:, None]
    features = np.stack([each.features for each in bends]) / slope[:, None]
    state = np.stack([each.state for each in bends]) / slope[:, None]
    width = head.history.weight.shape[1]
    places = [each.columns.astype(np.int64) * width + head.rank + o for o, each in enumerate(bends)]
    weights = [each.weights / slope[o] for o, each in enumerate(bends)]

    def whole(array: Any) -> tuple[Any, Any]:
        return np.arange(array.size, dtype=np.int64), array.reshape(-1).astype(np.float32)

    added = {
        "hazards.out_by_bin.bias": whole(by_bin),
        "hazards.by_age.weight": whole(features),
        "hazards.out.weight": whole(state),
        "hazards.history.weight": (np.concatenate(places), np.concatenate(weights).astype(np.float32)),
    }
    return replace(base.calibration, slope=slope), added


def _statement(made: Adaptation, base: Model, actor: str, owner: Mapping[str, Any] | None) -> Statement:
    about = made.adapter.about
    promise = base.config.get("privacy")
    said: dict[str, Any] = {
        "base": base.digest,
        "dataset": about["data_digest"],
        "method": about["method"],
        "seed": about["seed"],
        "actor": actor,
        "files": {path.relative_to(made.folder).as_posix(): durable.file_digest(path) for path in _files(made.folder)},
        "lives": made.lives,
        "reading": made.reading.content(),
        "scales": [
            {"code": each.code, "factor": round(each.factor, 4), "moved": each.moved} for each in made.scales
        ],
        "novelty": round(made.novelty, 4),
        "adapter_privacy": "none: the adapter was learnt from local patients without differential privacy",
        "code_version": __version__,
    }  # fmt: skip
    if about.get("low_rank"):
        said["low_rank"] = about["low_rank"]
    if owner:
        said["owner"] = dict(owner)
    if promise:
        # Whatever is computed from a private model alone stays so for its patients (post-processing).
        said["base_privacy"] = promise
    return Statement("adapt", (Subject("model", made.digest),), said)


def _files(folder: Path) -> list[Path]:
    return [folder / ADAPTER, *(folder / BASE / name for name in FILES)]
