"""LoRA (Hu et al., 2021) on the network, through `peft`: low-rank changes of its matrices, learnt from local records.

It begins where the head's adaptation ends and keeps the state with the best local tuning loss; that may be the first.
"""

from __future__ import annotations

import copy
import importlib.util
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lifechart.core.errors import InputError
from lifechart.model.batches import Collator, cut, in_groups
from lifechart.model.calibration import Calibration
from lifechart.model.checkpoint import Model
from lifechart.model.fit import Recipe, label_of
from lifechart.model.heads import survival
from lifechart.model.inference import tell
from lifechart.model.network import Network
from lifechart.model.questions import sample_questions
from lifechart.model.step import Cores, Objective, Part, Totals, parts_of, totals_of
from lifechart.model.tokens import Tokens

RANK, ALPHA = 4, 8
TARGETS = (
    "qkv", "attended", "gate_and_value", "down", "from_history", "to_state.2", "from_hidden.0", "from_hidden.3", "out"
)  # fmt: skip
"""Ends of the names of the matrices that are changed: the backbone's, and the deep part of the hazard head."""
_RATE, _PASSES, _WARMUP, _DECAY = 2e-3, 4, 0.1, 0.01
_PER_LIFE, _BATCH_TOKENS = 24.0, 4096
_PREFIX = "lora_"

Pairs = dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]


@dataclass(frozen=True)
class LowRank:
    """What was learnt. `products` is empty where the tuning split was served best by none."""

    products: Pairs
    losses: tuple[float, ...]
    """On the tuning split: before, then after each pass."""


def available() -> bool:
    """Whether `peft` is installed."""
    return importlib.util.find_spec("peft") is not None


def require_peft() -> None:
    """Raise InputError that says what to install, if `peft` is not there."""
    if not available():
        raise InputError(
            "--method", "lora", "an installation with peft: `pip install lifechart[lora]`, or --method head"
        )


def fit_low_rank(
    model: Model, train: Tokens, tuning: Tokens, seed: int, advance: Callable[[float], None] = lambda share: None
) -> LowRank:
    """Learn low-rank changes of `model`'s network; the model stays as it is. Only forecasts of outcomes are learnt."""
    require_peft()
    torch.manual_seed(seed)
    network = injected(copy.deepcopy(model.network))
    learnt = [each for each in network.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(learnt, lr=_RATE, weight_decay=_DECAY)
    collator = Collator(model.vocabulary, model.size.context, torch.device("cpu"))
    cores = Cores(_Forecasts(network, Recipe().recurrence_weight, 0.0), None)
    losses = [_tuning_loss(network, collator, model.calibration, tuning, seed)]
    best: Pairs = {}
    with cores.at_work():
        for number in range(_PASSES):
            rng = np.random.default_rng([seed, 41, number])
            questions = sample_questions(train, _PER_LIFE, rng)
            windows = cut(train, questions, model.size.context, whole=True)
            groups = list(in_groups(windows.sizes, rng.permutation(len(windows.first)), _BATCH_TOKENS))
            network.train()
            for step, group in enumerate(groups):
                done = (number + step / len(groups)) / _PASSES
                optimizer.param_groups[0]["lr"] = _RATE * _schedule(done)
                parts = parts_of(collator, train, questions, windows, group)
                cores.gradients(parts, totals_of(parts), seed * 1_000_003 + number * 100_003 + step)
                nn.utils.clip_grad_norm_(learnt, 1.0)
                optimizer.step()
                advance(done)
            losses.append(_tuning_loss(network.eval(), collator, model.calibration, tuning, seed))
            if losses[-1] < min(losses[:-1]):
                best = products_of(network)
    return LowRank(best, tuple(losses))


class _Forecasts(Objective):
    """The survival loss alone: what the network says of the next event is left as it is."""

    def forward(self, part: Part, totals: Totals) -> tuple[Tensor, Tensor]:
        """Return the loss twice, as Objective does."""
        output = self.network(part.batch)
        main = survival(output.log_hazard_QOB, part.labels, self.recurrence_weight)
        main = main * (len(part.labels.observed) / totals.questions)
        return main, main.detach()


def injected(network: Network) -> Network:
    """Put peft's layers into a network, in place: they alone are learnt."""
    with warnings.catch_warnings():
        # What peft's own imports warn of is none of the user's doing.
        warnings.simplefilter("ignore")
        from peft import LoraConfig, inject_adapter_in_model

        config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(TARGETS), lora_dropout=0.0)
        inject_adapter_in_model(config, network)
    for name, each in network.named_parameters():
        each.requires_grad_(_PREFIX in name)
    return network


def products_of(network: nn.Module) -> Pairs:
    """Return (left, right) by the weight that their product is added to, named as in the network without peft."""
    found: Pairs = {}
    for name, module in network.named_modules():
        if hasattr(module, "lora_A") and len(module.lora_A):
            right, left = (getattr(module, part)["default"].weight.detach() for part in ("lora_A", "lora_B"))
            scaled = left * module.scaling["default"]
            found[f"{name}.weight"] = (scaled.numpy().copy(), right.numpy().copy())
    return found


def _tuning_loss(network: Network, collator: Collator, calibration: Calibration, tokens: Tokens, seed: int) -> float:
    """Return the survival loss of calibrated forecasts, first onsets only."""
    questions = sample_questions(tokens, _PER_LIFE, np.random.default_rng([seed, 42]))
    told = tell(network, collator, tokens, questions)
    labels = label_of(tokens, questions, collator.vocabulary)
    return float(survival(torch.from_numpy(calibration.hazards(told.log_hazard)), labels, 0.0))


def _schedule(share: float) -> float:
    return min(share / _WARMUP + 0.02, 1.0) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * share)))
