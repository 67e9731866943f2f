"""Small cells: counts of 1 to 10 people are not published, and nothing published lets one be worked out again.

The rule is that of the CMS cell size suppression policy (no cell of 1 to 10, nor anything from which one can be
derived; zero may be shown). A table is taken with its margins: cells that are too small are hidden first, then as many
others as it takes until no hidden one follows from a total, alone or together with others.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

SMALLEST = 11
"""The smallest count of people that is published."""

Key = TypeVar("Key", bound=Hashable)
Cell = tuple[int, int]


def small(count: int, smallest: int = SMALLEST) -> bool:
    """Return whether a count is too small to be published by itself."""
    return 0 < count < smallest


def shown(count: int, smallest: int = SMALLEST) -> str:
    """Return a count that stands alone, as it may be published.

    >>> shown(0), shown(3), shown(1234)
    ('0', '<11', '1,234')
    """
    return f"<{smallest}" if small(count, smallest) else f"{count:,}"


def suppress(
    table: Sequence[Sequence[int]], smallest: int = SMALLEST, *, column_totals: bool = True
) -> list[list[int | None]]:
    """Return a table of counts with its margins, None where a cell must not be published.

    `table`: rows of equal length, no count below 0. Returned are its rows, each with its total at the end, and a last
    row of the columns' totals; without `column_totals` only the rows' totals are published, and that last row is left
    out.

    Hidden are: every cell and total of 1 to smallest - 1; then the smallest others, until in every line (a row or
    column with its total) either nothing is hidden, or at least two cells are whose sum is not itself such a number, or
    the total is hidden too; and until no hidden cell is a bridge in the graph of hidden cells between rows and columns,
    since exactly those follow from the margins (Gusfield, SIAM J. Comput. 17, 1988).
    """
    cells = {(i, j): count for i, row in enumerate(table) for j, count in enumerate(row)}
    num_rows, num_columns = len(table), len(table[0]) if table else 0
    assert all(len(row) == num_columns for row in table), "a table has rows of one length"
    assert all(count >= 0 for count in cells.values()), "counts are not negative"
    for i in range(num_rows):
        cells[i, num_columns] = sum(table[i])
    if column_totals:
        for j in range(num_columns + 1):
            cells[num_rows, j] = sum(cells[i, j] for i in range(num_rows))
    hidden = {cell for cell, count in cells.items() if small(count, smallest)}
    lines = _lines(cells, num_rows, num_columns, column_totals)
    while (more := _wanting(cells, hidden, lines, smallest) or _bridge(cells, hidden, column_totals)) is not None:
        hidden.add(more)
    height = num_rows + 1 if column_totals else num_rows
    return [
        [None if (i, j) in hidden else cells[i, j] for j in range(num_columns + 1)]
        for i in range(height if cells else 0)
    ]


def suppress_counts(
    counts: Mapping[Key, int], smallest: int = SMALLEST, *, total_hidden: bool = False
) -> dict[Key, int | None]:
    """Return counts whose total is published elsewhere, None where one must not be.

    `total_hidden`: the total is not published, so that these must not give it back either: then all are hidden.
    """
    if total_hidden:
        return dict.fromkeys(counts, None)
    rows = suppress([list(counts.values())], smallest, column_totals=False)
    if rows and rows[0][-1] is None:
        # A total that is small itself, and known: only that there is nothing may still be said.
        return {key: 0 if count == 0 else None for key, count in counts.items()}
    return dict(zip(counts, rows[0] if rows else [], strict=False))


def _lines(cells: Mapping[Cell, int], num_rows: int, num_columns: int, columns: bool) -> list[tuple[list[Cell], Cell]]:
    """Return every line as (its cells, its total)."""
    height = num_rows + 1 if columns else num_rows
    rows = [([(i, j) for j in range(num_columns)], (i, num_columns)) for i in range(height)]
    downward = [([(i, j) for i in range(num_rows)], (num_rows, j)) for j in range(num_columns + 1)] if columns else []
    return rows + downward


def _wanting(
    cells: Mapping[Cell, int], hidden: set[Cell], lines: Sequence[tuple[list[Cell], Cell]], smallest: int
) -> Cell | None:
    """Return a cell to hide because some line would give a hidden one back, or nothing."""
    for line, total in lines:
        out = [cell for cell in line if cell in hidden]
        if not out and total not in hidden:
            continue
        if total in hidden and len(out) > 0:
            continue
        if len(out) > 1 and not small(sum(cells[cell] for cell in out), smallest):
            continue
        left = sorted(
            (cell for cell in line if cell not in hidden), key=lambda cell: (cells[cell] == 0, cells[cell], cell)
        )
        if left:
            return left[0]
        if total not in hidden:
            return total
    return None


def _bridge(cells: Mapping[Cell, int], hidden: set[Cell], columns: bool) -> Cell | None:
    """Return a cell to hide because a hidden one is a bridge between rows and columns, or nothing.

    A table whose columns' totals are not published has no lines downward, and so no such bridges.
    """
    if not columns:
        return None
    for cell in sorted(hidden):
        reached = _reached(cell, hidden)
        if ("column", cell[1]) in reached:
            continue
        # Any cell that leads from what the bridge's row side reaches back to the other side closes a cycle.
        rows = {number for side, number in reached if side == "row"}
        far = _reached((cell[0], cell[1]), hidden, from_row=False)
        others = {number for side, number in far if side == "column"}
        closing = [(i, j) for i, j in cells if (i, j) not in hidden and ((i in rows) and (j in others))]
        if not closing:
            closing = [at for at in cells if at not in hidden and (at[0] == cell[0] or at[1] == cell[1])]
        if closing:
            return min(closing, key=lambda at: (cells[at] == 0, cells[at], at))
    return None


def _reached(bridge: Cell, hidden: set[Cell], *, from_row: bool = True) -> set[tuple[str, int]]:
    """Return the rows and columns that hidden cells join to one end of `bridge`, without `bridge` itself."""
    start = ("row", bridge[0]) if from_row else ("column", bridge[1])
    found, waiting = {start}, [start]
    while waiting:
        side, number = waiting.pop()
        for i, j in hidden:
            if (i, j) == bridge:
                continue
            if side == "row" and i == number:
                following = ("column", j)
            elif side == "column" and j == number:
                following = ("row", i)
            else:
                continue
            if following not in found:
                found.add(following)
                waiting.append(following)
    return found
