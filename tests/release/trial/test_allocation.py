"""Lists that follow from the secret alone, balance in every block, and cannot be told beforehand."""

from collections import Counter
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifechart.core.errors import InputError
from lifechart.release.trial import allocation

SECRETS = st.binary(min_size=16, max_size=32)


@given(secret=SECRETS, stratum=st.text(max_size=8), sizes=st.lists(st.sampled_from([2, 4, 6, 8]), min_size=1))
def test_arms_never_drift_apart_by_more_than_half_a_block(secret: bytes, stratum: str, sizes: list[int]) -> None:
    arms = list(islice(allocation.blocks(secret, stratum, sizes), 200))
    assert set(arms) <= {0, 1}
    lead = 0
    for arm in arms:
        lead += 1 if arm else -1
        assert abs(lead) <= max(sizes) // 2
    assert arms[17] == allocation.arm_of(secret, stratum, sizes, 17)


def test_secrets_and_strata_give_lists_of_their_own() -> None:
    lists = {
        tuple(islice(allocation.blocks(secret, stratum, [4, 6]), 60)) for secret in (b"a", b"b") for stratum in "xy"
    }
    assert len(lists) == 4
    assert allocation.commitment(b"a") != allocation.commitment(b"b")


def test_each_arm_is_as_likely_at_every_place_of_a_block() -> None:
    num = 4000
    first = Counter(allocation.arm_of(str(number).encode(), "", [4], 0) for number in range(num))
    last = Counter(allocation.arm_of(str(number).encode(), "", [4], 3) for number in range(num))
    for found in (first, last):
        assert abs(found[1] - num / 2) < 4 * (num / 4) ** 0.5


@given(secret=SECRETS, number=st.integers(2, 20))
def test_half_of_the_clusters_of_each_stratum(secret: bytes, number: int) -> None:
    names = [f"ward {place}" for place in range(number)]
    strata = [str(place % 2) for place in range(number)]
    arms = allocation.clusters(secret, names, strata)
    for stratum in "01":
        own = [arms[name] for name, of in zip(names, strata, strict=True) if of == stratum]
        assert abs(2 * sum(own) - len(own)) <= 1


@given(secret=SECRETS, num_steps=st.integers(1, 5), each=st.integers(1, 4))
def test_equal_numbers_cross_over_at_each_step(secret: bytes, num_steps: int, each: int) -> None:
    names = [f"ward {place}" for place in range(max(2, num_steps * each))]
    if len(names) % num_steps:
        with pytest.raises(InputError, match="multiple"):
            allocation.steps(secret, names, num_steps)
        return
    steps = allocation.steps(secret, names, num_steps)
    assert Counter(steps.values()) == dict.fromkeys(range(1, num_steps + 1), len(names) // num_steps)


def test_what_cannot_be_allotted_is_refused() -> None:
    with pytest.raises(InputError, match="even"):
        next(allocation.blocks(b"x", "", [3]))
    with pytest.raises(InputError, match="once"):
        allocation.clusters(b"x", ["a", "a"])
    with pytest.raises(InputError, match="multiple"):
        allocation.steps(b"x", ["a", "b", "c"], 2)
