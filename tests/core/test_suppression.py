"""Small cells stay hidden: nobody can work one out from the table with its margins, found by linear programming."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from lifechart.core.suppression import SMALLEST, shown, small, suppress, suppress_counts

TABLES = st.integers(1, 4).flatmap(
    lambda width: st.lists(
        st.lists(st.sampled_from([0, 1, 3, 8, 10, 11, 12, 40, 200]), min_size=width, max_size=width),
        min_size=1,
        max_size=4,
    )
)
Table = list[list[int]]


def with_margins(table: Table) -> Table:
    rows = [[*row, sum(row)] for row in table]
    return [*rows, [sum(column) for column in zip(*rows, strict=True)]]


def ranges(table: list[list[int | None]]) -> dict[tuple[int, int], tuple[float, float]]:
    """What an attacker who knows the table's shape can say of each hidden cell: its least and greatest value."""
    height, width = len(table), len(table[0])
    place = {(i, j): i * width + j for i in range(height) for j in range(width)}
    equations = []
    for i in range(height):
        equations.append([(i, j) for j in range(width)])
    for j in range(width):
        equations.append([(i, j) for i in range(height)])
    matrix = np.zeros((len(equations), len(place)))
    for number, line in enumerate(equations):
        for cell in line:
            matrix[number, place[cell]] = -1 if cell == line[-1] else 1
    bounds = [(v, v) if (v := table[i][j]) is not None else (0, None) for i, j in place]
    found = {}
    for cell, at in place.items():
        if table[cell[0]][cell[1]] is None:
            goal = np.zeros(len(place))
            goal[at] = 1
            low = linprog(goal, A_eq=matrix, b_eq=np.zeros(len(equations)), bounds=bounds)
            high = linprog(-goal, A_eq=matrix, b_eq=np.zeros(len(equations)), bounds=bounds)
            found[cell] = (low.fun, -high.fun if high.status == 0 else np.inf)
    return found


@given(TABLES)
@settings(max_examples=150, deadline=None)
def test_no_small_cell_can_be_worked_out(table: Table) -> None:
    whole, out = with_margins(table), suppress(table)
    told = ranges(out)
    for i, row in enumerate(whole):
        for j, count in enumerate(row):
            assert out[i][j] in (None, count)
            if small(count):
                low, high = told[i, j]
                assert high - low > 0.5, (i, j)


def test_the_attack_finds_what_primary_suppression_alone_gives_away() -> None:
    naive = [[None, 40, 43], [20, 30, 50], [23, 70, 93]]
    assert ranges(naive) == {(0, 0): (3.0, 3.0)}
    out = suppress([[3, 40], [20, 30]])
    assert sum(cell is None for row in out for cell in row) >= 4


@pytest.mark.parametrize(
    ("counts", "published"),
    [
        ({"a": 50, "b": 20}, {"a": 50, "b": 20}),
        ({"a": 50, "b": 3, "c": 20}, {"a": 50, "b": None, "c": None}),
        ({"a": 50, "b": 3, "c": 2, "d": 20}, {"a": 50, "b": None, "c": None, "d": None}),
        ({"a": 50, "b": 9, "c": 8, "d": 20}, {"a": 50, "b": None, "c": None, "d": 20}),
        ({"a": 50, "b": 0}, {"a": 50, "b": 0}),
        ({"a": 4, "b": 0}, {"a": None, "b": 0}),
        ({"a": 50, "b": 4}, {"a": None, "b": None}),
        ({}, {}),
    ],
)
def test_counts_beside_their_total(counts: dict[str, int], published: dict[str, int | None]) -> None:
    assert suppress_counts(counts) == published


def test_nothing_is_told_of_a_hidden_total() -> None:
    assert suppress_counts({"a": 50, "b": 70}, total_hidden=True) == {"a": None, "b": None}


@given(st.integers(0, 10_000))
def test_a_lone_count(count: int) -> None:
    assert shown(count) == ("<11" if 0 < count < SMALLEST else f"{count:,}")
