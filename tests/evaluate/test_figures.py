"""Drawings stay inside their frame, say what they show, and the examples in the docstrings hold."""

import doctest
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifechart.core.forecast import Interval
from lifechart.core.report import Metric
from lifechart.evaluate import figures, page, subgroups
from lifechart.evaluate.calibration import Point


@pytest.mark.parametrize("module", [figures, page, subgroups])
def test_examples(module: object) -> None:
    assert doctest.testmod(module).failed == 0


def numbers(pattern: str, drawing: str) -> list[float]:
    return [float(found) for found in re.findall(pattern, drawing)]


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_a_row_stays_inside(value: float, one: float, other: float) -> None:
    interval = Interval(min(one, other), max(one, other))
    metric = Metric("auroc", value, interval, "net", "A//1", 365)
    drawing = figures.forest_row([("model", metric), ("trees", metric), ("best", metric)])
    places = numbers(r'cx="([\d.]+)"', drawing) + numbers(r"H([\d.]+)", drawing)
    assert all(0 <= place <= figures.WIDTH for place in places)
    assert 'aria-hidden="true"' in drawing


def test_a_square_says_what_it_shows_and_escapes_its_title() -> None:
    points = [Point(0.01, 0.012, Interval(0.004, 0.02)), Point(0.08, 0.06, Interval(0.03, 0.1))]
    drawing = figures.reliability_square('Heart "failure" <b>', points)
    assert "of those told about 1%, 1.2% had it; of those told about 8%, 6% had it" in drawing
    assert "<b>" not in drawing
    assert 'role="img"' in drawing
    assert all(0 <= place <= figures.SQUARE for place in numbers(r'c[xy]="([\d.]+)"', drawing))
