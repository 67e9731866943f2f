"""The network: encoder, backbone and heads, and what one batch of it holds."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lifechart.model.backbone import Backbone
from lifechart.model.encoders import encoder
from lifechart.model.encoders.event import AGES, EventArrays
from lifechart.model.every_code import EveryCodeHead
from lifechart.model.heads import BaseRates, HazardHead
from lifechart.model.modal_state import ModalState
from lifechart.model.modalities import Attached
from lifechart.model.next_event import NextEventHead
from lifechart.model.questions import num_columns
from lifechart.model.sizes import Size
from lifechart.model.steps import Steps
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
    steps: Steps | None = None
    """What came next, for the next-event head to learn from; None where nothing is learnt."""
    modal: Attached | None = None
    """What there is besides coded events."""

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
        # Fitted afterwards, by fit_codes.
        self.every_code = EveryCodeHead(vocabulary, NUM_QUESTION_FEATURES).requires_grad_(False)
        self.next_event = NextEventHead(vocabulary, size.width, size.rank, dropout)
        self.modal: ModalState | None = None
        if vocabulary.modalities:
            self.modal = ModalState(vocabulary, size.width, len(base.first))

    def forward(self, batch: Batch) -> Output:
        """Return hazards for every question and the hidden state of every place."""
        x_RTD = self.encoder(batch.events)
        attached = self.modal.there(batch.modal) if self.modal is not None else None
        if self.modal is not None and attached is not None:
            x_RTD = self.modal.at_events(attached, x_RTD)
        if self.modal is not None and self.training:
            x_RTD = x_RTD + self.modal.nothing()
        hidden_RTD = self.backbone(x_RTD, batch.days_RT, batch.place_RT)
        hidden_QD = hidden_RTD.flatten(0, 1)[batch.cell_Q]
        # In 32 bits: questions are few, and no two batches have as many (see batches.LENGTHS).
        with torch.autocast(hidden_QD.device.type, enabled=False):
            log_hazard, state = self.hazards(hidden_QD.float(), batch.features_QF, batch.history, batch.had_QO)
            if self.modal is not None and attached is not None:
                log_hazard = log_hazard + self.modal(attached, batch.had_QO).unsqueeze(-1)
        return Output(log_hazard, state, hidden_RTD)

    def next_event_loss(self, batch: Batch, output: Output) -> Tensor:
        """Return the next-event head's loss at the batch's steps. The forecasts that it reads do not learn from it."""
        assert batch.steps is not None, "a batch packed to learn from"
        if not len(batch.steps):
            # Nothing to learn here, from weights that every part of a step must still mention.
            return sum((each.sum() * 0.0 for each in self.next_event.parameters()), output.hidden_RTD.sum() * 0.0)
        relative_QOB = output.log_hazard_QOB.detach().float() - self.hazards.base_OB
        return self.next_event.loss(
            output.hidden_RTD.flatten(0, 1), output.state_QZ.detach().float(), relative_QOB, batch.steps
        )
