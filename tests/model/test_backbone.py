"""The decoder: padding changes nothing, nothing looks ahead, and time enters as intervals alone."""

import pytest
import torch

from lifechart.model.backbone import Backbone


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    torch.manual_seed(0)
    return Backbone(width=64, layers=2, heads=2, dropout=0.0).eval()


def inputs(length: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    days = torch.rand(1, length, generator=draw).mul(20_000).sort().values
    return torch.randn(1, length, 64, generator=draw), days, torch.arange(float(length)).unsqueeze(0)


def test_padding_a_row_changes_nothing_before_it(backbone: Backbone) -> None:
    one = inputs(9, 1)
    padded = [torch.cat([each, torch.ones(1, 3, *each.shape[2:])], dim=1) for each in one]
    torch.testing.assert_close(backbone(*padded)[:, :9], backbone(*one), atol=1e-5, rtol=1e-4)


def test_later_events_change_nothing_earlier(backbone: Backbone) -> None:
    x, days, place = inputs(12, 3)
    before = backbone(x, days, place)
    changed = x.clone()
    changed[:, 7:] += 1.0
    after = backbone(changed, days, place)
    torch.testing.assert_close(before[:, :7], after[:, :7])
    assert (before[:, 7:] - after[:, 7:]).abs().max() > 0.01


def test_only_intervals_matter_not_the_age_itself(backbone: Backbone) -> None:
    x, days, place = inputs(12, 4)
    moved = backbone(x, days + 5000.0, place + 100.0)
    torch.testing.assert_close(backbone(x, days, place), moved, atol=2e-3, rtol=1e-2)
