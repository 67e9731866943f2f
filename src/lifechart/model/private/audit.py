"""`lifechart audit-privacy`: attacks on a model and on a twin of its run, held against what the model promises.

- membership   by how well the model forecasts a patient: those trained on against those held out
- twin         the head is trained again under the same plan with canaries: a proven lower bound of epsilon, an
               estimate of it, and the exposure of the canaries' secrets (extraction of rare sequences)
"""

from __future__ import annotations

import math
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lifechart.core import durable
from lifechart.core.errors import InputError
from lifechart.data import shards
from lifechart.ledger.log import Log
from lifechart.ledger.statement import Statement, Subject
from lifechart.model.batches import Collator
from lifechart.model.checkpoint import Model, load_model
from lifechart.model.heads import WIDTHS, BaseRates
from lifechart.model.inference import tell
from lifechart.model.private.attacks import (
    Membership,
    beyond_difficulty,
    gaussian_estimate,
    membership,
    most_refutable,
    one_run_bound,
)
from lifechart.model.private.canaries import Twin, train_twin
from lifechart.model.private.lot import Lot
from lifechart.model.private.moments import draw_moments
from lifechart.model.private.plan import Plan, plan
from lifechart.model.private.statistics import Noises
from lifechart.model.questions import EDGES, label
from lifechart.model.tokens import DAY_US, tokenise
from lifechart.model.train import bar_of

FILE = "privacy-audit.json"
_MOST_PEOPLE = 4000


@dataclass(frozen=True)
class TwinFindings:
    """What a twin run gave away of its canaries."""

    canaries: int
    proven: float
    """Lower bound of epsilon, with 95% confidence."""
    provable: float
    """What every guess being right would have proven."""
    estimated: float
    estimated_at_least: float
    exposure_in: float
    """Mean bits by which a secret stands out, of canaries trained on."""
    exposure_out: float

    def within(self, claimed: float) -> bool:
        """Whether neither the bound nor the estimate's lower limit is above what is claimed."""
        return self.proven <= claimed and self.estimated_at_least <= claimed


@dataclass(frozen=True)
class Audit:
    """What was found of one model. `claimed` is infinite for a model that promises nothing."""

    model: str
    claimed: float
    delta: float
    by_loss: Membership
    by_loss_and_difficulty: Membership
    twin: TwinFindings | None

    @property
    def holds(self) -> bool:
        """Whether nothing found contradicts what the model promises."""
        return self.twin is None or self.twin.within(self.claimed)

    def table(self) -> list[tuple[str, str]]:
        """Return what was found, as rows of two words."""
        rows = [
            ("promised", "nothing" if math.isinf(self.claimed) else f"epsilon {self.claimed:.2f} at {self.delta:g}")
        ]
        for name, each in (
            ("membership by loss", self.by_loss),
            ("... beyond difficulty", self.by_loss_and_difficulty),
        ):
            rows.append((name, f"AUROC {each.auroc:.3f} ({each.low:.3f}-{each.high:.3f})"))
            rows.append(("... at 1% false alarms", f"{each.found_at_one_percent:.1%} found"))
        if found := self.twin:
            rows += [
                (f"twin with {found.canaries} canaries", f"epsilon at least {found.proven:.2f} (95%)"),
                ("... every guess right", f"would prove {found.provable:.2f}"),
                ("... estimated", f"{found.estimated:.2f} (at least {found.estimated_at_least:.2f})"),
                ("secrets' exposure", f"{found.exposure_in:.2f} bits in, {found.exposure_out:.2f} out"),
            ]
        return rows


def audit(
    model: Path, dataset: Path, out: Path, *, canaries: int, seed: int, log: Log, lot: Lot | None = None,
    progress: bool | None = None,
) -> Audit:  # fmt: skip
    """Attack a model and a twin of its run; write the findings and a statement of kind `privacy-audit`.

    A plain model's twin is its head without noise: it shows what is remembered where nothing is promised.
    Raises InputError for another data set than the model was trained on, or fewer canaries than tell anything.
    """
    if canaries and canaries < 20:
        raise InputError("--canaries", canaries, "0, or at least 20")
    loaded = load_model(model)
    if loaded.config.get("data_digest") != shards.dataset_digest(dataset):
        raise InputError("dataset", str(dataset), f"the data set that {model} was trained on")
    lot = lot or Lot()
    promise = loaded.config.get("privacy")
    intended = plan_of(promise) if promise else plan(math.inf)
    claimed = float(promise["spent"]["train"]) if promise else math.inf
    losses, difficulty, member = _losses(loaded, dataset, lot.generator())
    beyond = beyond_difficulty(-losses, difficulty, ~member)
    rng = np.random.default_rng(seed)
    findings = None
    if canaries:
        with bar_of(sys.stderr.isatty() if progress is None else progress) as bar:
            task = bar.add_task("twin", total=intended.steps, loss=math.nan, tuning=math.nan, rate=0.0)
            base = BaseRates(
                *(getattr(loaded.network.hazards, f"{name}_OB").cpu().numpy() for name in ("base", "again"))
            )
            twin = train_twin(
                shards.read_split(dataset, "train"), loaded.vocabulary, base, intended, canaries, seed, lot,
                lambda step, steps: bar.update(task, completed=step),
            )  # fmt: skip
        findings = findings_of(twin, intended.delta)
    found = Audit(
        loaded.digest, claimed, intended.delta, membership(-losses[member], -losses[~member], rng),
        membership(beyond[member], beyond[~member], rng), findings,
    )  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {**_told(asdict(found)), "holds": found.holds}
    durable.write_json(out / FILE, content)
    digest = durable.file_digest(out / FILE)
    predicate = {"model": loaded.digest, **content}
    log.append(Statement(kind="privacy-audit", subjects=(Subject("audit", digest),), predicate=predicate))
    return found


def findings_of(twin: Twin, delta: float) -> TwinFindings:
    """Return what the scores of a twin's canaries prove at `delta`."""
    estimate, least = gaussian_estimate(twin.scores, twin.included, delta)
    return TwinFindings(
        len(twin.included), one_run_bound(twin.scores, twin.included, delta), most_refutable(len(twin.included), delta),
        estimate, least, float(twin.exposure[twin.included].mean()), float(twin.exposure[~twin.included].mean()),
    )  # fmt: skip


def plan_of(promise: dict[str, Any]) -> Plan:
    """Return the plan that a model's configuration tells of."""
    names = ("epsilon", "delta", "sampling", "steps", "clip", "noise", "tuning")
    return Plan(**{name: promise[name] for name in names}, statistics=Noises(**promise["statistics"]))


def _losses(
    model: Model, dataset: Path, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Return the mean loss of people trained on and held out, what makes each hard to forecast, and who was in."""
    parts = []
    for split in ("train", "held_out"):
        events = shards.read_split(dataset, split)
        people = events["subject_id"].unique().sort().to_numpy()
        chosen = rng.permutation(people)[:_MOST_PEOPLE]
        tokens = tokenise(events.filter(events["subject_id"].is_in(chosen)), model.vocabulary)
        questions = draw_moments(tokens, rng)
        told = tell(
            model.network, Collator(model.vocabulary, model.size.context, torch.device("cpu")), tokens, questions
        )
        labels = label(tokens, questions, len(model.vocabulary.outcomes))
        until = np.minimum(labels.days_to, labels.observed[:, None])[..., None]
        low, high = np.array(EDGES[:-1]), np.array(EDGES[1:])
        exposure = np.clip(until - low, 0.0, np.array(WIDTHS)) * ~told.had[..., None]
        days = labels.days_to[..., None]
        came = (days > low) & (days <= high) & (days <= labels.observed[:, None, None]) & ~told.had[..., None]
        base = model.network.hazards.base_OB.cpu().numpy()

        def loss(log_hazard: Any, exposure: Any = exposure, came: Any = came) -> Any:
            return (np.exp(log_hazard) * exposure - np.where(came, log_hazard, 0.0)).sum(axis=(1, 2))

        rows = np.stack(
            [loss(told.log_hazard), loss(base), came.sum(axis=(1, 2)), questions.micros / DAY_US / 36525], 1
        )
        asked, first = np.unique(questions.subject, return_index=True)
        counts = np.diff(np.append(first, len(questions)))[:, None]
        mean = np.add.reduceat(rows, first, axis=0) / counts
        size = np.log1p(np.diff(tokens.starts)[asked])[:, None]
        parts.append(np.concatenate([mean, size, np.full((len(asked), 1), split == "train")], axis=1))
    every = np.concatenate(parts)
    return every[:, 0], every[:, 1:-1], every[:, -1] > 0


def _told(content: Any) -> Any:
    """Return JSON that can say infinity: as the word."""
    if isinstance(content, dict):
        return {key: _told(value) for key, value in content.items()}
    return str(content) if isinstance(content, float) and not math.isfinite(content) else content
