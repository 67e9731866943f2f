"""An adapter is differences alone: whole, small, for one model and no other."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lifechart.core.errors import InputError, LifechartError
from lifechart.model.adapt.adapter import Adapter
from lifechart.model.checkpoint import adapted, load_model

BASE = "b" * 64


def adapter(base: str = BASE) -> Adapter:
    rng = np.random.default_rng(0)
    return Adapter(
        {"base": base, "method": "head", "data_digest": "d" * 64, "seed": 0},
        {"hazards.out.bias": (np.array([0, 2]), rng.normal(size=2).astype(np.float32))},
        {"hazards.to_state.2.weight": (np.ones((16, 2), np.float32), np.ones((2, 32), np.float32))},
        {3: np.arange(9, dtype=np.float32)},
        {"slope": np.ones(4, np.float32)},
    )


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    written = adapter()
    written.save(tmp_path / "a.bin")
    read = Adapter.load(tmp_path / "a.bin")
    assert read.about == written.about
    for mine, theirs in ((read.added, written.added), (read.products, written.products)):
        assert mine.keys() == theirs.keys()
        assert all(np.array_equal(a, b) for key in mine for a, b in zip(mine[key], theirs[key], strict=True))
    assert np.array_equal(read.knots[3], written.knots[3])
    assert np.array_equal(read.calibration["slope"], np.ones(4))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10_000), change=st.integers(1, 255))
def test_a_changed_byte_is_refused(tmp_path: Path, place: int, change: int) -> None:
    path = tmp_path / "a.bin"
    adapter().save(path)
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= change
    path.write_bytes(content)
    with pytest.raises(LifechartError):
        Adapter.load(path)


def test_another_file_is_no_adapter(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"something else")
    with pytest.raises(LifechartError):
        Adapter.load(tmp_path / "a.bin")
    with pytest.raises(InputError, match="lifechart adapt"):
        Adapter.load(tmp_path / "none.bin")


def test_another_base_is_refused(model_folder: Path) -> None:
    base = load_model(model_folder)
    with pytest.raises(InputError, match=BASE):
        adapted(base, adapter(), "0" * 64)


def test_differences_that_do_not_fit_are_refused(model_folder: Path) -> None:
    base = load_model(model_folder)
    odd = Adapter({**adapter(base.digest).about}, {"hazards.none": (np.array([0]), np.ones(1, np.float32))}, {}, {}, {})
    with pytest.raises(InputError, match="fit the model"):
        adapted(base, odd, "0" * 64)
