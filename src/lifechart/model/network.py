"""The network: encoder, backbone and heads, and what one batch of it holds."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lifechart.model.backbone import Backbone
from lifechart.model.encoders import encoder
from lifechart.model.encoders.event import AGES, EventArrays
from lifechart.model.heads import BaseRates, HazardHead
from lifechart.model.questions import num_columns
from lifechart.model.sizes import Size
from lifechart.model.vocabulary import QUANTILES, Vocabulary

# Shapes: R rows, T places, D width, V codes, Q questions, F features of a question, Z rank, O outcomes, B intervals.

NUM_QUESTION_FEATURES = len(AGES) + 5


@dataclass(frozen=True)
class Batch:
    """Records, one a row, and the questions put to them. `cell_Q` is each question's last known place, flat in R x T.

    `segment_RT` is each place's row, -1 where the row is padded.
    """

    events: EventArrays
    days_RT: Tensor
    place_RT: Tensor
    segment_RT: Tensor
    cell_Q: Tensor
    features_QF: Tensor
    history: tuple[Tensor, Tensor, Tensor]
    had_QO: Tensor

    @property
    def num_events(self) -> int:
        """Places that hold an event."""
        return int((self.segment_RT >= 0).sum())


@dataclass(frozen=True)
class Output:
    """What the network says of a batch."""

    log_hazard_QOB: Tensor
    state_QZ: Tensor
    hidden_RTD: Tensor


class Network(nn.Module):
    """Reads records; forecasts from each question's moment, and the next event from each place."""

    def __init__(self, vocabulary: Vocabulary, size: Size, base: BaseRates, dropout: float = 0.1) -> None:
        super().__init__()
        valued = int((vocabulary.valued >= 0).sum())
        columns = num_columns(len(vocabulary), valued, len(QUANTILES))
        self.encoder = encoder("event")(vocabulary, size.width)
        self.backbone = Backbone(size.width, size.layers, size.heads, dropout)
        self.hazards = HazardHead(size.width, NUM_QUESTION_FEATURES, columns, size.rank, base, dropout)
        self.next_code = nn.Linear(size.width, len(vocabulary))
        nn.init.zeros_(self.next_code.weight)

    def forward(self, batch: Batch) -> Output:
        """Return hazards for every question and the hidden state of every place."""
        x_RTD = self.encoder(batch.events)
        hidden_RTD = self.backbone(x_RTD, batch.days_RT, batch.place_RT)
        hidden_QD = hidden_RTD.flatten(0, 1)[batch.cell_Q]
        # In 32 bits: questions are few, and no two batches have as many (see batches.LENGTHS).
        with torch.autocast(hidden_QD.device.type, enabled=False):
            log_hazard, state = self.hazards(hidden_QD.float(), batch.features_QF, batch.history, batch.had_QO)
        return Output(log_hazard, state, hidden_RTD)

    def next_code_loss(self, batch: Batch, hidden_RTD: Tensor, stride: int) -> Tensor:
        """Return the summed cross-entropy of the next event's code, at every `stride`-th place if it has one."""
        segment, code = batch.segment_RT, batch.events.code
        nothing = torch.full_like(segment[:, :1], -1)
        following = torch.cat([segment[:, 1:], nothing], dim=1)
        target = torch.cat([code[:, 1:], nothing], dim=1).masked_fill((following != segment) | (segment < 0), -1)
        hidden, target = hidden_RTD.flatten(0, 1)[::stride], target.flatten()[::stride]
        loss = nn.functional.cross_entropy(self.next_code(hidden).float(), target, ignore_index=-1, reduction="sum")
        return loss
