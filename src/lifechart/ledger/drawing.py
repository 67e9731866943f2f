"""Where the boxes and lines of a trace go: layers from what rests on everything down to what rests on nothing."""

from __future__ import annotations

from dataclasses import dataclass

from lifechart.ledger.graph import Graph

BOX_WIDTH, BOX_HEIGHT = 196, 54
_GAP_X, _GAP_Y, _MARGIN = 20, 46, 8
_MOST_BARE = 3
"""Of the things below one thing that no statement is about, so many get a box; the rest share one."""
_LETTERS = 25
_SWEEPS = 4


@dataclass(frozen=True, slots=True)
class Box:
    """A thing: two lines of text at a place. `digest` is empty where there is no single thing behind it."""

    x: float
    y: float
    title: str
    detail: str
    digest: str
    kind: str
    is_start: bool


@dataclass(frozen=True, slots=True)
class Drawing:
    """Boxes, and lines as SVG path data, in a space of `width` by `height`."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    lines: tuple[str, ...]


@dataclass(slots=True)
class _Item:
    title: str
    detail: str
    digest: str = ""
    kind: str = ""


def draw(graph: Graph) -> Drawing:
    """Lay a graph out, upper things above; crossings are lessened by placing each thing at the mean of its neighbours.

    After Sugiyama, Tagawa and Toda 1981: layers by longest path, order by barycentres.
    """
    items, edges = _items(graph)
    edges = _direct(edges)
    layers = _layers(items, edges)
    rows = _ordered(layers, edges)
    widest = max(len(row) for row in rows)
    width = widest * (BOX_WIDTH + _GAP_X) - _GAP_X + 2 * _MARGIN
    places: dict[str, tuple[float, float]] = {}
    for number, row in enumerate(rows):
        left = (width - (len(row) * (BOX_WIDTH + _GAP_X) - _GAP_X)) / 2
        for place, key in enumerate(row):
            places[key] = (left + place * (BOX_WIDTH + _GAP_X), _MARGIN + number * (BOX_HEIGHT + _GAP_Y))
    boxes = [
        Box(*places[key], _cut(item.title), item.detail, item.digest, item.kind or "bare", key == graph.start)
        for key, item in items.items()
    ]
    height = len(rows) * (BOX_HEIGHT + _GAP_Y) - _GAP_Y + 2 * _MARGIN
    return Drawing(width, height, tuple(boxes), tuple(_line(places[upper], places[lower]) for upper, lower in edges))


def _items(graph: Graph) -> tuple[dict[str, _Item], list[tuple[str, str]]]:
    """Return what gets a box, and (upper, lower) of what gets a line."""
    items: dict[str, _Item] = {}
    for digest, node in graph.nodes.items():
        detail = f"{node.kind}, entry {node.entry.index}" if node.entry else digest[:12]
        items[digest] = _Item(node.name, detail, digest, node.kind)
    edges = list(dict.fromkeys((edge.upper, edge.lower) for edge in (*graph.edges, *graph.above)))
    for use in graph.uses:
        key = f"use {use.manifest}"
        items[key] = _Item(f"{use.capability}: {use.phase}", f"{use.answers:,} answers", use.manifest, "use")
        edges.append((key, use.manifest))
    uppers: dict[str, set[str]] = {}
    for upper, lower in edges:
        uppers.setdefault(lower, set()).add(upper)
    bare: dict[str, list[str]] = {}
    resting = {upper for upper, _ in edges}
    for digest, above in uppers.items():
        is_leaf = digest not in resting and graph.nodes[digest].entry is None
        if len(above) == 1 and digest != graph.start and is_leaf:
            bare.setdefault(next(iter(above)), []).append(digest)
    for upper, lowers in bare.items():
        if len(lowers) > _MOST_BARE:
            hidden = set(lowers[_MOST_BARE - 1 :])
            items = {key: item for key, item in items.items() if key not in hidden}
            edges = [edge for edge in edges if edge[1] not in hidden]
            items[f"more {upper}"] = _Item(f"{len(hidden):,} more", "listed in the table", kind="more")
            edges.append((upper, f"more {upper}"))
    return items, edges


def _direct(edges: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Leave out a line where others lead the same way by more steps: the table has it, the picture is clearer."""
    lowers: dict[str, list[str]] = {}
    for upper, lower in edges:
        lowers.setdefault(upper, []).append(lower)

    def reaches(start: str, end: str) -> bool:
        waiting, seen = [each for each in lowers.get(start, []) if each != end], {start}
        while waiting:
            key = waiting.pop()
            if key == end:
                return True
            if key not in seen:
                seen.add(key)
                waiting += lowers.get(key, [])
        return False

    return [(upper, lower) for upper, lower in edges if not reaches(upper, lower)]


def _layers(items: dict[str, _Item], edges: list[tuple[str, str]]) -> dict[str, int]:
    """Return each thing's layer, 0 at the top: one below the lowest thing that rests on it."""
    uppers: dict[str, list[str]] = {key: [] for key in items}
    for upper, lower in edges:
        uppers[lower].append(upper)
    layers: dict[str, int] = {}

    def layer(key: str, path: frozenset[str]) -> int:
        if key not in layers:
            above = [layer(upper, path | {key}) for upper in uppers[key] if upper not in path]
            layers[key] = 1 + max(above, default=-1)
        return layers[key]

    for key in items:
        layer(key, frozenset({key}))
    return layers


def _ordered(layers: dict[str, int], edges: list[tuple[str, str]]) -> list[list[str]]:
    rows: list[list[str]] = [[] for _ in range(1 + max(layers.values()))]
    for key, layer in layers.items():
        rows[layer].append(key)
    beside: dict[str, list[str]] = {key: [] for key in layers}
    for upper, lower in edges:
        beside[upper].append(lower)
        beside[lower].append(upper)
    for _ in range(_SWEEPS):
        place = {key: (number + 0.5) / len(row) for row in rows for number, key in enumerate(row)}
        for row in rows:
            middle = {key: sum(place[each] for each in beside[key]) / max(1, len(beside[key])) for key in row}
            row.sort(key=lambda key: (middle[key], place[key]))
            place |= {key: (number + 0.5) / len(row) for number, key in enumerate(row)}
    return rows


def _line(upper: tuple[float, float], lower: tuple[float, float]) -> str:
    x1, y1 = upper[0] + BOX_WIDTH / 2, upper[1] + BOX_HEIGHT
    x2, y2 = lower[0] + BOX_WIDTH / 2, lower[1]
    bend = (y2 - y1) / 2
    return f"M{x1:.1f} {y1:.1f} C{x1:.1f} {y1 + bend:.1f} {x2:.1f} {y2 - bend:.1f} {x2:.1f} {y2:.1f}"


def _cut(text: str) -> str:
    return text if len(text) <= _LETTERS else f"{text[: _LETTERS - 1]}…"
