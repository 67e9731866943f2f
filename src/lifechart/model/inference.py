"""Running a network over questions, without learning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lifechart.model.batches import Collator, alike, cut
from lifechart.model.network import Network
from lifechart.model.questions import Questions
from lifechart.model.tokens import Tokens

_BATCH_TOKENS = 8192


@dataclass(frozen=True)
class Told:
    """What a network told of questions: log hazards [Q, O, B], last-layer states [Q, Z], what was on record [Q, O]."""

    log_hazard: NDArray[np.float32]
    state: NDArray[np.float32]
    had: NDArray[np.bool_]


def tell(
    network: Network,
    collator: Collator,
    tokens: Tokens,
    questions: Questions,
    advance: Callable[[float], None] = lambda share: None,
) -> Told:
    """Answer questions in their order. Every prompt of a window is answered by one pass over it.

    `advance` is told what share of the work is done.
    """
    outcomes, rank = network.hazards.outcomes, network.hazards.rank
    told = Told(
        np.zeros((len(questions), outcomes, network.hazards.base_OB.shape[1]), dtype=np.float32),
        np.zeros((len(questions), rank), dtype=np.float32),
        np.zeros((len(questions), outcomes), dtype=np.bool_),
    )
    if not len(questions):
        return told
    windows = cut(tokens, questions, collator.context)
    done = 0
    for group in alike(windows.sizes, np.arange(len(windows.first)), _BATCH_TOKENS):
        batch, asked = collator.batch(tokens, questions, windows, group)
        with torch.inference_mode():
            output = network(batch)
        told.log_hazard[asked] = output.log_hazard_QOB.float().cpu().numpy()
        told.state[asked] = output.state_QZ.float().cpu().numpy()
        told.had[asked] = batch.had_QO.cpu().numpy()
        done += len(group)
        advance(done / len(windows.first))
    return told
