"""What every test shares: a test that passed passes again, on a busy machine and whichever tests ran before it.

Property tests try the same examples in every run. To look for new ones: pytest --hypothesis-profile=search
"""

import random

import numpy as np
import pytest
import torch
from hypothesis import settings

settings.register_profile("lifechart", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=1000)
settings.load_profile("lifechart")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Seed every shared generator before a test and its fixtures are set up: workers run tests in any order."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
