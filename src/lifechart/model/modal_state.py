"""How what hangs on a record reaches the answer: encoders, the latest items of each slot pooled, and what they add.

What is not there adds nothing, to the last bit; and nothing is added to an outcome that is on record already, whose
recurrence the history knows better. Shapes: M items, Q questions, K items of a slot, S slots, D width of an item's
vector, P products, O outcomes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lifechart.model.encoders import encoder
from lifechart.model.kernels import lots
from lifechart.model.modalities import Attached, Items
from lifechart.model.vocabulary import Vocabulary

ITEM_WIDTH = 32
"""Width of an item's vector."""
PRODUCTS = 24
"""Products of what two slots say, at most."""
LEFT_OUT = 0.25
"""How often each modality is left out in training."""
_AT_ONCE = 512
_FARTHEST = 3.0
"""Standard deviations that a component goes at most."""


class ModalState(nn.Module):
    """Encoders of all modalities, their latest items pooled, and what those say alone and together.

    Each slot's vector is the mean of its items under attention, set to mean 0 and turned so that its components are
    uncorrelated, of spread 1, over those who have it (`modal_start`): one that is absent stands at the mean and so adds
    nothing. Each outcome weighs these components, and beside them products of two of their directions: what two slots
    say together may be told by neither.
    """

    mark: Tensor
    turn: Tensor

    def __init__(self, vocabulary: Vocabulary, width: int, outcomes: int) -> None:
        super().__init__()
        self.names = tuple(vocabulary.modalities)
        self.encoders = nn.ModuleDict({name: encoder(name)(vocabulary, ITEM_WIDTH) for name in self.names})
        slots = sum(encoder(name).slots(vocabulary.modalities[name]) for name in self.names)
        self.looks = nn.ModuleList(nn.Linear(ITEM_WIDTH, 1) for _ in range(slots))
        self.middle = nn.Parameter(torch.zeros(slots, ITEM_WIDTH))
        self.register_buffer("turn", torch.eye(ITEM_WIDTH).repeat(slots, 1, 1))
        inside = slots * ITEM_WIDTH
        self.one, self.other = nn.Linear(inside, PRODUCTS, bias=False), nn.Linear(inside, PRODUCTS, bias=False)
        # Begun at nothing: what a modality adds, it has to earn.
        self.alone, self.together = nn.Linear(inside, outcomes, bias=False), nn.Linear(PRODUCTS, outcomes, bias=False)
        self.fuse = nn.ModuleDict({name: nn.Linear(ITEM_WIDTH, width, bias=False) for name in self.names})
        for look in self.looks:
            nn.init.zeros_(look.weight)  # type: ignore[arg-type]
            nn.init.zeros_(look.bias)  # type: ignore[arg-type]
        for each in (self.one, self.other, self.alone, self.together, *self.fuse.values()):
            nn.init.zeros_(each.weight)  # type: ignore[arg-type]
        self.register_buffer("mark", torch.zeros((), dtype=torch.int64))

    def forward(self, attached: Attached, had_QO: Tensor) -> Tensor:
        """Return what the modalities add to each question's log hazards [Q, O]."""
        state_QN = self.state(attached)
        added: Tensor = self.alone(state_QN) + self.together(self.one(state_QN) * self.other(state_QN))
        return added.float().masked_fill(had_QO, 0.0)

    def state(self, attached: Attached) -> Tensor:
        """Return all slots' vectors side by side [Q, S x D], 0 where nothing is known."""
        slots = []
        for number in range(len(self.looks)):
            there, mean_ND = self.pooled(number, attached)
            # Bounded, so that a strange item moves no answer beyond reason.
            turned = _FARTHEST * torch.tanh((mean_ND - self.middle[number]) @ self.turn[number] / _FARTHEST)
            empty = torch.zeros(len(attached.known[number]), ITEM_WIDTH, device=self.mark.device)
            slots.append(empty.index_copy(0, there, turned))
        return torch.cat(slots, dim=1)

    def there(self, attached: Attached | None) -> Attached | None:
        """Return what is there; in training, each modality is left out of a whole batch by lot (modality dropout)."""
        if attached is None or not self.training:
            return attached
        left_out = (lots(len(self.names)) < LEFT_OUT).numpy()
        kept = ~left_out[attached.modality_C]
        thinned = attached.without(np.repeat(left_out[None], len(attached.known[0]), axis=0))
        return replace(
            thinned, cell_C=attached.cell_C[kept], modality_C=attached.modality_C[kept], row_C=attached.row_C[kept]
        )

    def nothing(self) -> Tensor:
        """Return 0, as what the layers that still learn would add if none of their items were there."""
        total = torch.zeros((), device=self.mark.device)
        for name in self.names:
            weight: Tensor = self.fuse[name].weight  # type: ignore[assignment]
            # A product and not a sum times 0, whose gradient would be one number seen as many.
            total = total + (weight * torch.zeros_like(weight)).sum()
        return total

    def at_events(self, attached: Attached, x_RTD: Tensor) -> Tensor:
        """Return the vectors of events with those of the items that lie there added."""
        if not len(attached.cell_C):
            return x_RTD
        flat = x_RTD.flatten(0, 1)
        for number, name in enumerate(self.names):
            mine = attached.modality_C == number
            if mine.any():
                vectors = self._vectors(attached.items, name)[torch.from_numpy(attached.row_C[mine])].to(flat.device)
                where = torch.from_numpy(attached.cell_C[mine]).to(flat.device)
                flat = flat.index_add(0, where, self.fuse[name](vectors).to(flat.dtype))
        return flat.view_as(x_RTD)

    def settle(self, mark: int) -> None:
        """Say that the encoders learn no more: from now on each item is encoded once."""
        self.mark.fill_(mark)

    def unsettle(self, items: Items | None) -> None:
        """Let the encoders learn again, and forget what they made of items."""
        self.mark.fill_(0)
        if items is not None:
            items.encoded.clear()

    def train(self, mode: bool = True) -> ModalState:
        """Set the mode of what still learns: settled encoders stay as they are."""
        super().train(mode)
        if int(self.mark):
            self.encoders.eval()
        return self

    def pooled(self, number: int, attached: Attached) -> tuple[Tensor, Tensor]:
        """Return which questions have items of a slot [N], and the mean of those under attention [N, D]."""
        slot, rows_QK = attached.items.slots[number], attached.known[number]
        device = self.mark.device
        there = np.flatnonzero((rows_QK >= 0).any(axis=1))
        if not len(there):
            return torch.zeros(0, dtype=torch.int64, device=device), torch.zeros(0, ITEM_WIDTH, device=device)
        rows = rows_QK[there]
        needed, inverse = np.unique(rows[rows >= 0], return_inverse=True)
        vectors = self._rows(attached.items, slot.modality, needed)
        at = np.zeros(rows.shape, np.int64)
        at[rows >= 0] = inverse
        known_NK = torch.from_numpy(rows >= 0).to(device)
        items_NKD = vectors[torch.from_numpy(at).to(device)]
        looks_NK = self.looks[number](items_NKD).squeeze(-1).masked_fill(~known_NK, -1e4).softmax(1)
        return torch.from_numpy(there).to(device), (looks_NK.unsqueeze(-1) * items_NKD).sum(1)

    def _rows(self, items: Items, name: str, rows: NDArray[np.int64]) -> Tensor:
        if int(self.mark):
            return self._vectors(items, name)[torch.from_numpy(rows)].to(self.mark.device)
        return self._encode(items, name, rows)

    def _encode(self, items: Items, name: str, rows: NDArray[np.int64]) -> Tensor:
        arrays = tuple(torch.from_numpy(each[rows]).unsqueeze(1).to(self.mark.device) for each in items.contents[name])
        vectors: Tensor = self.encoders[name](arrays).squeeze(1)
        return vectors.float()

    def _vectors(self, items: Items, name: str) -> Tensor:
        """Return the vectors of all of a modality's items [M, D], kept for as long as the items are."""
        kept = items.encoded.setdefault(int(self.mark), {})
        if name not in kept:
            number = len(items.contents[name][0])
            with torch.no_grad():
                parts = [
                    self._encode(items, name, np.arange(first, min(first + _AT_ONCE, number))).cpu()
                    for first in range(0, number, _AT_ONCE)
                ]
            kept[name] = torch.cat(parts) if parts else torch.zeros(0, ITEM_WIDTH)
        return kept[name]
