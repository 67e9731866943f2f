"""The first stage's own arithmetic: the prior's slope by hand."""

import torch
from torch import nn

from lifechart.model.first_stage import add_prior_slope, log_prior


def test_the_priors_slope_is_that_of_autograd() -> None:
    weights = nn.Parameter(torch.randn(7, 3, generator=torch.Generator().manual_seed(1)) * 0.02)
    before = torch.randn(7, 3)
    (expected,) = torch.autograd.grad(log_prior(weights, 0.01, 0.25) * 1e-3, weights)
    weights.grad = before.clone()
    add_prior_slope(weights, 0.01, 0.25, 1e-3)
    torch.testing.assert_close(weights.grad, before + expected)
