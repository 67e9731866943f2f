"""The hand-written passes against their slow twins in 32 bits, and dropout by bytes."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lifechart.model import kernels
from lifechart.model.backbone import Backbone, Block, RotaryTime
from lifechart.model.kernels import Attend, Dropout, Gate, Normalise, drawing, turned, weighted_rows


def near(ours: Tensor, theirs: Tensor, within: float = 0.02) -> None:
    """Relative to its norm, so that rounding to 16 bits is allowed and a wrong term is not."""
    assert ((ours.float() - theirs).norm() / theirs.norm()).item() < within


def both(fast: Callable[..., Tensor], slow: Callable[..., Tensor], *inputs: Tensor) -> None:
    """Hold the value and every gradient of `fast` in 16 bits to those of `slow` in 32."""
    halves = [each.bfloat16().requires_grad_() for each in inputs]
    wholes = [each.detach().float().requires_grad_() for each in halves]
    ours, theirs = fast(*halves), slow(*wholes)
    near(ours, theirs)
    back = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(9))
    grads = torch.autograd.grad(ours, halves, back.bfloat16())
    for a, b in zip(grads, torch.autograd.grad(theirs, wholes, back), strict=True):
        near(a, b)


@pytest.mark.parametrize(("rows", "length", "heads", "width"), [(3, 24, 2, 64), (2, 48, 12, 120), (1, 40, 4, 128)])
@pytest.mark.parametrize("block", [256, 16])
def test_attention_is_that_of_torch(
    monkeypatch: pytest.MonkeyPatch, rows: int, length: int, heads: int, width: int, block: int
) -> None:
    monkeypatch.setattr(kernels, "_BLOCK", block)
    draw = torch.Generator().manual_seed(1)
    days = (torch.rand(rows, length, generator=draw) * 20_000).sort().values
    turn = RotaryTime(width // heads // 2)(days, torch.arange(float(length)).expand(rows, length))
    halved = tuple(each.bfloat16() for each in turn)

    def slow(qkv: Tensor) -> Tensor:
        q, k, v = (part.transpose(1, 2) for part in qkv.view(rows, length, 3, heads, -1).unbind(2))
        exact = [each.float() for each in halved]
        q, k = turned(q, *exact), turned(k, *exact)
        ahead = torch.ones(length, length, dtype=torch.bool).triu(1)
        score = (q @ k.transpose(2, 3) / (width // heads) ** 0.5).masked_fill(ahead, float("-inf"))
        return (score.softmax(-1) @ v).transpose(1, 2).reshape(rows, length, width)

    both(lambda qkv: Attend.apply(qkv, *halved, heads), slow, torch.randn(rows, length, 3 * width, generator=draw))


def test_the_gate_is_that_of_torch() -> None:
    def slow(x: Tensor) -> Tensor:
        gate, value = x.chunk(2, -1)
        return nn.functional.silu(gate) * value

    both(Gate.apply, slow, torch.randn(3, 5, 64, generator=torch.Generator().manual_seed(2)))


def test_the_norm_is_that_of_torch() -> None:
    draw = torch.Generator().manual_seed(3)
    x, weight = torch.randn(4, 6, 32, generator=draw), torch.rand(32, generator=draw) + 0.5
    both(lambda x, w: Normalise.apply(x, w, 1e-5), lambda x, w: nn.functional.rms_norm(x, (32,), w, 1e-5), x, weight)


@pytest.mark.parametrize("offsets", [[0, 2, 2, 5], [0, 0, 0, 1], [0, 6, 6, 6]])
def test_weighted_rows_are_those_of_an_embedding_bag(offsets: list[int]) -> None:
    draw = torch.Generator().manual_seed(4)
    table = torch.randn(9, 5, generator=draw, requires_grad=True)
    columns, weights = torch.tensor([3, 8, 3, 3, 0, 1]), torch.rand(6, generator=draw)
    back = torch.randn(4, 5, generator=draw)
    ours = weighted_rows(table, columns, weights, torch.tensor(offsets))
    theirs = nn.functional.embedding_bag(columns, table, torch.tensor(offsets), mode="sum", per_sample_weights=weights)
    assert torch.equal(ours, theirs)
    grads = [torch.autograd.grad(each, table, back)[0] for each in (ours, theirs)]
    torch.testing.assert_close(*grads)


def test_a_whole_backbone_learns_the_same_in_16_bits_and_in_32() -> None:
    torch.manual_seed(0)
    backbone = Backbone(width=64, layers=2, heads=2, dropout=0.0)
    x, back = torch.randn(2, 32, 64, requires_grad=True), torch.randn(2, 32, 64)
    days, place = torch.rand(2, 32).mul(9_000).sort().values, torch.arange(32.0).expand(2, 32)
    results = []
    for halved in (True, False):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=halved):
            hidden = backbone(x, days, place)
        results.append(torch.autograd.grad((hidden.float() * back).sum(), [x, *backbone.parameters()]))
    for ours, theirs in zip(*results, strict=True):
        near(ours, theirs, 0.03)


def test_dropout_keeps_the_mean_and_its_rate() -> None:
    dropout = Dropout(0.2).train()
    x = torch.ones(2000, 64)
    with drawing(7):
        out = dropout(x)
    assert (out == 0).float().mean().item() == pytest.approx(51 / 256, abs=0.005)
    assert out.mean().item() == pytest.approx(1.0, abs=0.01)
    assert out.unique().tolist() == pytest.approx([0.0, 256 / 205])
    assert torch.equal(dropout.eval()(x), x)


def test_dropout_is_decided_by_the_seed_alone() -> None:
    block = Block(32, 1, 0.3).train()
    x, turn = torch.randn(1, 8, 32), tuple(torch.ones(1, 1, 8, 32) for _ in range(2))

    def run(seed: int) -> Tensor:
        torch.rand(1)  # whatever else is drawn
        with drawing(seed):
            return block(x, turn)

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))
