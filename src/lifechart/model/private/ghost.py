"""Per-patient gradient norms and clipped sums of them, without any patient's gradient being formed (ghost clipping).

A layer's gradient for one patient is a sum over his rows of (input x output gradient), so its norm follows from the two
Gram matrices of these (Li et al., ICLR 2022), and the clipped sum over patients is one product with the output
gradients scaled by each patient's factor: one backward pass in all (Bu et al., ICML 2023, "book-keeping"). Layers without
a rule here are refused: a parameter that is trained unclipped would make every promise void.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from scipy.sparse import csr_array
from torch import Tensor, nn

from lifechart.core.errors import InputError
from lifechart.model.backbone import Norm
from lifechart.model.encoders.event import EventEncoder
from lifechart.model.heads import HazardHead

# Shapes: N rows (places or questions) of all patients, P patients, K most rows of one, D inputs, E outputs, W weights.

_MOST_CELLS = 16_000_000
"""Floats that one step of a rule may hold at once."""


@dataclass
class Dense:
    """Rows of a linear map's gradient: inputs [N, D], output gradients [N, E], whose row each is [N]."""

    inputs_ND: Tensor
    grads_NE: Tensor
    owner_N: Tensor

    def squared_norms(self, patients: int) -> Tensor:
        """Return each patient's squared norm [P]."""
        D, E = self.inputs_ND.shape[1], self.grads_NE.shape[1]
        total_P = torch.zeros(patients)
        for chosen_PK, held_PK, which_P in _by_patient(self.owner_N, patients, D + E):
            inputs_PKD, grads_PKE = (_held(each, chosen_PK, held_PK) for each in (self.inputs_ND, self.grads_NE))
            K = chosen_PK.shape[1]
            if K * K < D * E:
                gram = torch.bmm(inputs_PKD, inputs_PKD.mT) * torch.bmm(grads_PKE, grads_PKE.mT)
                total_P[which_P] = gram.sum((1, 2)).clamp(min=0)
            else:
                total_P[which_P] = torch.bmm(inputs_PKD.mT, grads_PKE).square().sum((1, 2))
        return total_P

    def clipped_sum(self, factor_P: Tensor) -> Tensor:
        """Return the sum over patients of factor x gradient, as a linear layer's weight [E, D]."""
        return _scaled(self.grads_NE, factor_P, self.owner_N).T @ torch.nan_to_num(self.inputs_ND)


@dataclass
class Sparse:
    """Rows of a table's gradient: each of M rows adds its gradient [M, E], weighted, to some rows of the table.

    Compressed: row m touches `row_N[start_M[m] : start_M[m + 1]]` with the weights of the same places.
    """

    start_M: Tensor
    row_N: Tensor
    weight_N: Tensor
    grads_ME: Tensor
    owner_M: Tensor
    num_rows: int

    def squared_norms(self, patients: int) -> Tensor:
        """Return each patient's squared norm [P], from the inputs laid out densely a few patients at a time."""
        total_P = torch.zeros(patients)
        used = torch.zeros(self.num_rows, dtype=torch.bool)
        used[self.row_N] = True
        columns = int(used.sum())
        column_of = used.cumsum(0) - 1
        for chosen_PK, held_PK, which_P in _by_patient(self.owner_M, patients, columns + self.grads_ME.shape[1]):
            P, K = chosen_PK.shape
            mine, cell = chosen_PK[held_PK], held_PK.flatten().nonzero().squeeze(1)
            sizes = self.start_M[mine + 1] - self.start_M[mine]
            shift = self.start_M[mine] - (sizes.cumsum(0) - sizes)
            picked = torch.repeat_interleave(shift, sizes) + torch.arange(int(sizes.sum()))
            place = torch.repeat_interleave(cell * columns, sizes) + column_of[self.row_N[picked]]
            dense = torch.zeros(P * K * columns).index_add_(0, place, self.weight_N[picked])
            inputs_PKU = dense.view(P, K, columns)
            grads_PKE = _held(self.grads_ME, chosen_PK, held_PK)
            gram = torch.bmm(inputs_PKU, inputs_PKU.mT) * torch.bmm(grads_PKE, grads_PKE.mT)
            total_P[which_P] = gram.sum((1, 2)).clamp(min=0)
        return total_P

    def clipped_sum(self, factor_P: Tensor) -> Tensor:
        """Return the sum over patients of factor x gradient [rows, E]."""
        scaled_ME = _scaled(self.grads_ME, factor_P, self.owner_M)
        size = (len(scaled_ME), self.num_rows)
        inputs = csr_array(
            (torch.nan_to_num(self.weight_N).numpy(), self.row_N.numpy(), self.start_M.numpy()), shape=size
        )
        return torch.from_numpy(inputs.T @ scaled_ME.numpy())


@dataclass
class Plain:
    """Rows of a vector parameter's gradient [N, W]."""

    grads_NW: Tensor
    owner_N: Tensor

    def squared_norms(self, patients: int) -> Tensor:
        """Return each patient's squared norm [P]."""
        summed = torch.zeros(patients, self.grads_NW.shape[1]).index_add_(0, self.owner_N, self.grads_NW)
        return summed.square().sum(1)

    def clipped_sum(self, factor_P: Tensor) -> Tensor:
        """Return the sum over patients of factor x gradient [W]."""
        return _scaled(self.grads_NW, factor_P, self.owner_N).sum(0)


def _scaled(grads_NE: Tensor, factor_P: Tensor, owner_N: Tensor) -> Tensor:
    """Return each row times its patient's factor; one with factor 0 gives nothing, be his gradient no number at all."""
    return torch.nan_to_num(grads_NE) * factor_P[owner_N].unsqueeze(1)


def _held(rows_NE: Tensor, chosen_PK: Tensor, held_PK: Tensor) -> Tensor:
    """Return patients' rows [P, K, E], nothing where none is held: chosen, not multiplied, lest a NaN spread."""
    return torch.where(held_PK.unsqueeze(-1), rows_NE[chosen_PK], 0.0)


def _by_patient(owner_N: Tensor, patients: int, width: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield patients of like numbers of rows: their rows [P, K], which places of it are held, and who they are [P]."""
    order = torch.argsort(owner_N, stable=True)
    counts = torch.bincount(owner_N, minlength=patients)
    first = counts.cumsum(0) - counts
    by_count = torch.argsort(counts)
    by_count = by_count[counts[by_count] > 0]
    at = 0
    while at < len(by_count):
        # As many as fit beside the longest of them: counts rise, so the last of a group decides.
        size = max(1, _MOST_CELLS // (width * int(counts[by_count[min(at + 255, len(by_count) - 1)]])))
        which = by_count[at : at + min(size, 256)]
        K = int(counts[which[-1]])
        place = torch.arange(K)
        held = place < counts[which].unsqueeze(1)
        yield order[torch.where(held, first[which].unsqueeze(1) + place, 0)], held, which
        at += len(which)


Rule = Callable[[nn.Module, tuple[Any, ...], Any, Any, Tensor], list[tuple[nn.Parameter, Any]]]


def _flat(x: Tensor) -> Tensor:
    return x.detach().reshape(-1, x.shape[-1]).float()


def _linear(layer: nn.Module, inputs: tuple[Any, ...], output: Any, grads: Tensor, owner: Tensor) -> Any:
    assert isinstance(layer, nn.Linear)
    parts: list[tuple[Tensor, Any]] = [(layer.weight, Dense(_flat(inputs[0]), _flat(grads), owner))]
    if layer.bias is not None:
        parts.append((layer.bias, Plain(_flat(grads), owner)))
    return parts


def _norm(layer: nn.Module, inputs: tuple[Any, ...], output: Any, grads: Tensor, owner: Tensor) -> Any:
    assert isinstance(layer, Norm)
    x = _flat(inputs[0])
    scaled = nn.functional.rms_norm(x, (x.shape[1],), eps=1e-5)
    return [(layer.weight, Plain(_flat(grads) * scaled, owner))]


def _embedding(layer: nn.Module, inputs: tuple[Any, ...], output: Any, grads: Tensor, owner: Tensor) -> Any:
    assert isinstance(layer, nn.Embedding)
    row = inputs[0].reshape(-1)
    start = torch.arange(len(row) + 1)
    return [(layer.weight, Sparse(start, row, torch.ones(len(row)), _flat(grads), owner, layer.num_embeddings))]


def _bag(layer: nn.Module, inputs: tuple[Any, ...], output: Any, grads: Tensor, owner: Tensor) -> Any:
    assert isinstance(layer, nn.EmbeddingBag)
    columns, offsets, weights = inputs
    start = torch.cat([offsets, torch.tensor([len(columns)])])
    return [(layer.weight, Sparse(start, columns, weights, _flat(grads), owner, layer.num_embeddings))]


def _encoder(layer: nn.Module, inputs: tuple[Any, ...], output: Any, grads: Tensor, owner: Tensor) -> Any:
    """Codes: an event's vector holds its code's row and those of the code's ancestors."""
    assert isinstance(layer, EventEncoder)
    code = inputs[0].code.reshape(-1)
    rows = torch.cat([code.unsqueeze(1), layer.parents_VA[code]], dim=1)
    known = torch.cat([torch.ones(len(code), 1), layer.parent_known_VA[code]], dim=1) > 0
    start = torch.cat([torch.zeros(1, dtype=torch.int64), known.sum(1).cumsum(0)])
    row = rows[known]
    sparse = Sparse(start, row, torch.ones(len(row)), _flat(grads), owner, layer.code.num_embeddings)
    return [(layer.code.weight, sparse)]


def _head(layer: nn.Module, inputs: tuple[Any, ...], output: Any, grads: Tensor, owner: Tensor) -> Any:
    assert isinstance(layer, HazardHead)
    had_QO = inputs[3]
    return [(layer.again_shift, Plain((grads.sum(-1) * had_QO).detach(), owner))]


RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: _linear, nn.Embedding: _embedding, nn.EmbeddingBag: _bag, Norm: _norm, EventEncoder: _encoder,
    HazardHead: _head,
}  # fmt: skip
"""How each kind of layer's own parameters are clipped."""


@dataclass
class Ghost:
    """Takes clipped gradients of `trained` parameters of `module`, which must only be run within `listening`.

    Raises InputError for a trained parameter of a layer that has no rule.
    """

    module: nn.Module
    trained: tuple[nn.Parameter, ...]
    _calls: list[tuple[nn.Module, tuple[Any, ...], Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        wanted = {id(each) for each in self.trained}
        self._layers = [
            layer
            for layer in self.module.modules()
            if (type(layer) in RULES and any(id(each) in wanted for each in layer.parameters(recurse=False)))
            or (isinstance(layer, EventEncoder) and id(layer.code.weight) in wanted)
        ]  # fmt: skip
        ruled = {id(each) for layer in self._layers for each in layer.parameters(recurse=False)}
        for name, each in self.module.named_parameters():
            if id(each) in wanted and id(each) not in ruled:
                raise InputError("private training", name, f"layers of {sorted(kind.__name__ for kind in RULES)}")

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Note what goes through the layers; parameters themselves take no gradient meanwhile."""

        def note(layer: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
            told = output[0] if isinstance(output, tuple) else output
            if not told.requires_grad:
                told.requires_grad_(True)
            self._calls.append((layer, (*inputs, *named.values()), told))

        self._calls.clear()
        before = [(each, each.requires_grad) for each in self.module.parameters()]
        hooks = [layer.register_forward_hook(note, with_kwargs=True) for layer in self._layers]
        try:
            for each, _ in before:
                each.requires_grad_(False)
            yield
        finally:
            for hook in hooks:
                hook.remove()
            for each, flag in before:
                each.requires_grad_(flag)

    def norms(self, loss: Tensor, patients: int, owner_Q: Tensor, owner_RT: Tensor | None = None) -> Tensor:
        """Return the norm of each patient's gradient of `loss`, a sum over patients [P].

        `owner_Q` and `owner_RT`: whose each question is, and each place of the records (any patient for padding, which
        takes no gradient).
        """
        outputs = [told for _, _, told in self._calls]
        grads = torch.autograd.grad(loss, outputs, allow_unused=True)
        self._parts: dict[int, list[Any]] = defaultdict(list)
        wanted = {id(each) for each in self.trained}
        for (layer, inputs, told), grad in zip(self._calls, grads, strict=True):
            if grad is None:
                continue
            of_places = told.ndim == 3 and not isinstance(layer, HazardHead)
            assert owner_RT is not None or not of_places, "places without owners"
            owner = owner_RT.reshape(-1) if of_places and owner_RT is not None else owner_Q
            for parameter, part in RULES[type(layer)](layer, inputs, told, grad, owner):
                if id(parameter) in wanted:
                    self._parts[id(parameter)].append(part)
        self._calls.clear()
        total_P = torch.zeros(patients)
        for parts in self._parts.values():
            total_P += _joined(parts).squared_norms(patients)
        return total_P.sqrt()

    def clipped(self, factor_P: Tensor) -> list[Tensor]:
        """Return, for each trained parameter, the sum over patients of factor x gradient, after `norms`."""
        sums = []
        for each in self.trained:
            parts = self._parts.get(id(each))
            sums.append(
                torch.zeros_like(each) if parts is None else _joined(parts).clipped_sum(factor_P).reshape(each.shape)
            )
        return sums


def _joined(parts: list[Any]) -> Any:
    """Return the rows of several calls of one layer as those of one."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    if isinstance(first, Sparse):
        ends = torch.tensor([0] + [len(part.row_N) for part in parts[:-1]]).cumsum(0)
        starts = [part.start_M[:-1] + end for part, end in zip(parts, ends, strict=True)]
        total = torch.tensor([sum(len(part.row_N) for part in parts)])
        return Sparse(
            torch.cat([*starts, total]), torch.cat([part.row_N for part in parts]),
            torch.cat([part.weight_N for part in parts]), torch.cat([part.grads_ME for part in parts]),
            torch.cat([part.owner_M for part in parts]), first.num_rows,
        )  # fmt: skip
    owner = torch.cat([part.owner_N for part in parts])
    if isinstance(first, Dense):
        inputs = torch.cat([part.inputs_ND for part in parts])
        return Dense(inputs, torch.cat([part.grads_NE for part in parts]), owner)
    return Plain(torch.cat([part.grads_NW for part in parts]), owner)
