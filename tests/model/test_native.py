"""The compiled block against its slow twin in 32 bits, and what becomes of it where it cannot be had."""

import subprocess
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from lifechart.core.errors import InputError
from lifechart.model import native
from lifechart.model.backbone import Block, RotaryTime
from lifechart.model.kernels import drawing
from lifechart.model.native.block import BlockPass, Lent, kept_bytes, serves

compiled = pytest.mark.skipif(native.library() is None, reason="no C compiler here, or no processor with AVX512-BF16")


def near(ours: Tensor, theirs: Tensor, within: float = 0.02) -> None:
    """Relative to its norm, so that rounding to 16 bits is allowed and a wrong term is not."""
    assert ((ours.float() - theirs).norm() / theirs.norm()).item() < within


def a_block(width: int, heads: int, seed: int = 0) -> Block:
    torch.manual_seed(seed)
    block = Block(width, heads, 0.0).train()
    with torch.no_grad():
        for norm in (block.before_attention, block.before_gate):
            norm.weight.uniform_(0.5, 1.5)
        for linear in (block.attended, block.down):
            linear.weight.normal_(std=0.1)
    return block


def a_turn(rows: int, places: int, dims: int) -> tuple[Tensor, Tensor]:
    days = (torch.rand(rows, places) * 20_000).sort().values
    cos, sin = RotaryTime(dims // 2)(days, torch.arange(float(places)).expand(rows, places))
    return cos.bfloat16(), sin.bfloat16()


# Rows, places, width, heads, elements dropped of 256: whole groups and not, one head and twelve of ten dimensions.
SHAPES = [(3, 32, 64, 2, 0), (5, 48, 120, 12, 0), (2, 512, 128, 4, 0), (1, 272, 96, 3, 77), (7, 16, 40, 1, 77)]


@compiled
@pytest.mark.parametrize(("rows", "places", "width", "heads", "dropped"), SHAPES)
def test_a_block_and_its_gradients_are_those_of_torch(
    monkeypatch: pytest.MonkeyPatch, rows: int, places: int, width: int, heads: int, dropped: int
) -> None:
    block, seed = a_block(width, heads), 123_456_789
    turn = a_turn(rows, places, width // heads)
    x = torch.randn(rows, places, width).bfloat16().requires_grad_()
    whole = x.detach().float().requires_grad_()
    if dropped:
        kept = [kept_bytes(seed, site, rows * places, width) >= dropped for site in (0, 1)]
        masks = iter(each.view(rows, places, width) * (256 / (256 - dropped)) for each in kept)
        monkeypatch.setattr(block.dropout, "onto", lambda stream, x: stream + x * next(masks))
    ours = BlockPass.apply(x, *turn, heads, dropped, seed, *block._weights())
    theirs = block(whole, tuple(each.float() for each in turn))
    # What the block adds, and not what went in, is what could be wrong.
    near(ours.float() - x.float(), theirs - whole)
    back = torch.randn(theirs.shape)
    grads = torch.autograd.grad(ours, [x, *block._weights()], back.bfloat16())
    for a, b in zip(grads, torch.autograd.grad(theirs, [whole, *block._weights()], back), strict=True):
        near(a, b)


@compiled
def test_no_place_looks_ahead() -> None:
    block, turn, x = a_block(64, 2), a_turn(1, 64, 32), torch.randn(1, 64, 64).bfloat16()
    other = x.clone()
    other[:, 40:] += 1.0
    one, two = (BlockPass.apply(each, *turn, 2, 0, 0, *block._weights()) for each in (x, other))
    assert torch.equal(one[:, :40], two[:, :40])
    assert not torch.equal(one[:, 40], two[:, 40])


@compiled
def test_extreme_scores_give_no_nonsense() -> None:
    block, turn = a_block(64, 2), a_turn(2, 32, 32)
    x = (torch.randn(2, 32, 64) * 3e4).bfloat16().requires_grad_()
    with torch.no_grad():
        block.qkv.weight.mul_(100.0)
    out = BlockPass.apply(x, *turn, 2, 0, 0, *block._weights())
    grads = torch.autograd.grad(out.float().sum(), [x, *block._weights()])
    assert all(each.isfinite().all() for each in (out, *grads))


@compiled
def test_the_bytes_that_drop_are_even_and_independent() -> None:
    drawn = torch.stack([kept_bytes(seed, site, 64, 128) for seed in (1, 2) for site in (0, 1)]).double()
    assert drawn.mean().item() == pytest.approx(127.5, abs=1.0)
    assert drawn.std().item() == pytest.approx((256**2 / 12) ** 0.5, abs=0.5)
    assert torch.corrcoef(drawn.flatten(1)).fill_diagonal_(0).abs().max() < 0.05
    rows = torch.corrcoef(drawn[0]).fill_diagonal_(0).abs().max()
    assert rows < 0.5


@compiled
def test_dropout_is_decided_by_the_threads_own_generator() -> None:
    block = Block(32, 1, 0.3).train()
    x, turn = torch.randn(1, 16, 32).bfloat16().requires_grad_(), a_turn(1, 16, 32)

    def run(seed: int) -> Tensor:
        with drawing(seed), torch.autocast("cpu", dtype=torch.bfloat16):
            return block(x, turn)

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


@compiled
def test_memory_goes_from_pass_to_pass() -> None:
    Lent.forget()
    first = Lent(1000)
    at = first.memory.data_ptr()
    second = Lent(1000)
    assert second.memory.data_ptr() != at
    del first
    third = Lent(900)
    assert third.memory.data_ptr() == at
    del second, third
    assert Lent(5000).memory.numel() == 5000
    Lent.forget()
    assert not Lent._free


@compiled
def test_what_does_not_fit_is_left_to_torch() -> None:
    weights = a_block(64, 2)._weights()
    assert serves(torch.zeros(1, 32, 64), 2, weights)
    assert not serves(torch.zeros(1, 24, 64), 2, weights)
    assert not serves(torch.zeros(1, 32, 64), 2, (*weights[:5], weights[5].double()))


@compiled
def test_a_layer_that_somebody_listens_to_is_called() -> None:
    block, x = a_block(64, 2), torch.randn(1, 32, 64).bfloat16().requires_grad_()
    turn, heard = a_turn(1, 32, 32), []
    with torch.autocast("cpu", dtype=torch.bfloat16):
        quick = block(x, turn)
        hook = block.gate_and_value.register_forward_hook(lambda *_: heard.append(1))
        plain = block(x, turn)
        hook.remove()
    assert heard == [1]
    near(quick.float() - x.float(), plain.float() - x.float())


@pytest.fixture
def afresh() -> Iterator[None]:
    native.library.cache_clear()
    yield
    native.library.cache_clear()


def test_without_a_compiler_there_is_none(monkeypatch: pytest.MonkeyPatch, afresh: object) -> None:
    monkeypatch.setattr(native.shutil, "which", lambda name: None)
    assert native.library() is None


@compiled
def test_a_compiler_that_fails_costs_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object, caplog: pytest.LogCaptureFixture, afresh: object
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def fails(*_: object) -> None:
        raise subprocess.CalledProcessError(1, "cc")

    monkeypatch.setattr(native, "_compile", fails)
    assert native.library() is None
    assert "torch's passes serve" in caplog.text


@compiled
def test_it_is_compiled_once_into_a_folder_of_ones_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object, afresh: object
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert native.library() is not None
    native.library.cache_clear()
    monkeypatch.setattr(native, "_compile", lambda *_: pytest.fail("compiled twice"))
    assert native.library() is not None
    (kept,) = (tmp_path / "lifechart").iterdir()
    assert kept.suffix == ".so"
    # A folder that others may write to is not trusted.
    (tmp_path / "lifechart").chmod(0o777)
    assert native._folder() != tmp_path / "lifechart"


def test_it_can_be_switched_off(monkeypatch: pytest.MonkeyPatch, afresh: object) -> None:
    monkeypatch.setenv(native.SWITCH, "off")
    assert native.library() is None
    native.library.cache_clear()
    monkeypatch.setenv(native.SWITCH, "no")
    with pytest.raises(InputError, match="auto or off"):
        native.library()
