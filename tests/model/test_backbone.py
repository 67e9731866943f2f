"""The decoder: packing changes nothing, nothing looks ahead, and time enters as intervals alone."""

import pytest
import torch

from lifechart.model.backbone import Backbone, causal_within


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    torch.manual_seed(0)
    return Backbone(width=64, layers=2, heads=2, dropout=0.0).eval()


def inputs(length: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    days = torch.rand(1, length, generator=draw).mul(20_000).sort().values
    return torch.randn(1, length, 64, generator=draw), days, torch.arange(float(length)).unsqueeze(0)


def test_packing_patients_into_one_row_changes_nothing(backbone: Backbone) -> None:
    one, two = inputs(9, 1), inputs(14, 2)
    alone = [backbone(*each, torch.zeros(1, each[0].shape[1], dtype=torch.long)) for each in (one, two)]
    padding = torch.full((1, 3), -1)
    segment = torch.cat([torch.zeros(1, 9, dtype=torch.long), torch.ones(1, 14, dtype=torch.long), padding], dim=1)
    both = [torch.cat([a, b, torch.zeros(1, 3, *a.shape[2:])], dim=1) for a, b in zip(one, two, strict=True)]
    packed = backbone(*both, segment)
    torch.testing.assert_close(packed[:, :9], alone[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(packed[:, 9:23], alone[1], atol=1e-5, rtol=1e-4)


def test_later_events_change_nothing_earlier(backbone: Backbone) -> None:
    x, days, place = inputs(12, 3)
    segment = torch.zeros(1, 12, dtype=torch.long)
    before = backbone(x, days, place, segment)
    changed = x.clone()
    changed[:, 7:] += 1.0
    after = backbone(changed, days, place, segment)
    torch.testing.assert_close(before[:, :7], after[:, :7])
    assert (before[:, 7:] - after[:, 7:]).abs().max() > 0.01


def test_only_intervals_matter_not_the_age_itself(backbone: Backbone) -> None:
    x, days, place = inputs(12, 4)
    segment = torch.zeros(1, 12, dtype=torch.long)
    moved = backbone(x, days + 5000.0, place + 100.0, segment)
    torch.testing.assert_close(backbone(x, days, place, segment), moved, atol=2e-3, rtol=1e-2)


def test_the_mask_is_causal_within_a_patient_and_shut_between_patients() -> None:
    mask = causal_within(torch.tensor([[0, 0, 1, 1, -1]]))[0, 0]
    expected = [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 1]]
    assert mask.int().tolist() == expected
