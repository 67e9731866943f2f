"""Finds lettering burned into an image: thin strokes of one ink, in glyphs of one height, on one line.

A classical detector, without weights: strokes are what a morphological opening takes away; their connected pieces are
glyphs if they have a glyph's size; a run of glyphs is lettering if their tops or bottoms stand on a line, their
heights agree and their ink is the same. Anatomy has thin bright structures too, but not in rows of equal height. Runs
are looked for along rows and along columns, in bright ink and in dark, at three sizes. `python -m bench deid_dicom`
reports how much it misses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

MIN_CONTRAST = 0.10
"""Ink must differ from what is around it by this share of the image's range of grey."""
_OPENING = 9
"""Strokes are narrower than this, in pixels; larger letters are found in the image made smaller."""
_MIN_HEIGHT = 5
_MAX_HEIGHT = {1: 44, 2: 30, 4: 24}
"""The heights of glyphs, in pixels; the second for each scale, so that the largest letters found have 96 pixels."""
_TOUCHING = 16
"""Glyphs up to this height may run into each other, and a long piece of ink be a word."""
_MAX_PIECES = 6_000
_MARGIN = 3
_REACH, _FAINT = 6, 0.6
"""A line is made longer at most so many times, by a letter's height at either end, while there is ink, even fainter."""
_SMALL = 9
"""Of glyphs up to this height in the faintest ink, one more must stand in a row: the grain between fine vessels has
many specks of that size, and three of them in a row are soon found."""
_WINDOW, _TEXTURE = 81, 2.5
"""Ink must stand out this many times as far as thin structures do on average within a window of so many pixels."""


@dataclass(slots=True)
class _Pieces:
    """Connected pieces of ink, an array each: edges in pixels, ink as grey, how often a row crosses the piece."""

    top: NDArray[Any]
    bottom: NDArray[Any]
    left: NDArray[Any]
    right: NDArray[Any]
    ink: NDArray[Any]
    crossings: NDArray[Any]

    def __len__(self) -> int:
        return len(self.top)


def find(image_HW: Image, *, sure: bool = False) -> Mask:
    """Return where lettering stands (HW, True: blank it) in an image of grey from 0 to 1.

    `sure`: ask for more evidence, for images that carry lettering by exception only.
    """
    found = np.zeros(image_HW.shape, bool)
    for scale in (1, 2, 4):
        small = _smaller(image_HW, scale)
        if min(small.shape) < 2 * _MIN_HEIGHT:
            break
        for ink in (small, 1 - small):
            for turned in (False, True):
                page = np.ascontiguousarray(ink.T if turned else ink)
                for top, bottom, left, right in _lines(page, scale, sure=sure):
                    rows, columns = _around(top, bottom, left, right, scale)
                    found[(columns, rows) if turned else (rows, columns)] = True
    return found


def _smaller(image: Image, scale: int) -> Image:
    if scale == 1:
        return image
    rows, columns = (size // scale * scale for size in image.shape)
    blocks = image[:rows, :columns].reshape(rows // scale, scale, columns // scale, scale)
    means: Image = blocks.mean((1, 3), dtype=np.float32)
    return means


def _around(top: int, bottom: int, left: int, right: int, scale: int) -> tuple[slice, slice]:
    """Return rows and columns to blank around a line: a letter more at either end, where the first may be missed."""
    height = bottom - top
    above, beside = _MARGIN + height // 4, _MARGIN + height
    rows = slice(max(0, (top - above) * scale), (bottom + above) * scale)
    return rows, slice(max(0, (left - beside) * scale), (right + beside) * scale)


def _lines(page: Image, scale: int, *, sure: bool) -> list[tuple[int, int, int, int]]:
    """Return (top, bottom, left, right) of each line of lettering in bright ink."""
    strokes = page - ndimage.grey_opening(page, size=(_OPENING, _OPENING))
    texture = _TEXTURE * ndimage.uniform_filter(strokes, _WINDOW)
    found = []
    for contrast in (0.5, 0.3, 0.18, MIN_CONTRAST):
        least = np.maximum(contrast, texture)
        ink = strokes > least
        pieces = _pieces(page, ink, scale)
        if 1 <= len(pieces) <= _MAX_PIECES:
            faint = contrast == MIN_CONTRAST
            boxes = (box for run in _runs(pieces) if (box := _box(pieces, run, sure, faint)) is not None)
            found += [_reach(strokes > _FAINT * least, *box) for box in boxes]
    return found


def _reach(ink: Mask, top: int, bottom: int, left: int, right: int) -> tuple[int, int, int, int]:
    """Return a line's box made longer to where its ink ends: a glyph that did not fit the run belongs to the word."""
    height = bottom - top
    taken: Mask = np.any(ink[top:bottom], axis=0)
    for _ in range(_REACH):
        before = taken[max(0, left - height) : left]
        after = taken[right : right + height]
        if not before.any() and not after.any():
            break
        left = left - len(before) + int(before.argmax()) if before.any() else left
        right = right + len(after) - int(after[::-1].argmax()) if after.any() else right
    return top, bottom, left, right


def _pieces(page: Image, ink: Mask, scale: int) -> _Pieces:
    """Return the connected pieces of ink that have the size of a glyph or of a word whose glyphs touch."""
    labels, _ = ndimage.label(ink, np.ones((3, 3)))
    rows: list[tuple[float, ...]] = []
    for number, place in enumerate(ndimage.find_objects(labels), start=1):
        height, width = (span.stop - span.start for span in place)
        touching = scale == 1 and height <= _TOUCHING
        if not (_MIN_HEIGHT <= height <= _MAX_HEIGHT[scale] and width <= (30 if touching else 3) * height):
            continue
        inside = labels[place] == number
        area = int(inside.sum())
        if area < height or not 0.08 <= area / (height * width) <= 1.0:
            continue
        starts = inside[:, 1:] & ~inside[:, :-1]
        crossings = float((starts.sum() + inside[:, 0].sum()) / height)
        ink_value = float(np.percentile(page[place][inside], 85))
        rows.append((place[0].start, place[0].stop, place[1].start, place[1].stop, ink_value, crossings))
    columns = np.array(rows, float).reshape(-1, 6).T
    return _Pieces(*(edge.astype(int) for edge in columns[:4]), *columns[4:])


def _runs(pieces: _Pieces) -> list[list[int]]:
    """Return runs of pieces that follow each other on a line, with heights and ink alike, from left to right."""
    order = np.argsort(pieces.left, kind="stable")
    height = pieces.bottom - pieces.top
    ends: list[list[int]] = []
    open_runs: list[list[int]] = []
    for index in order:
        best: list[int] | None = None
        nearest = np.inf
        still = []
        for run in open_runs:
            last = run[-1]
            gap = pieces.left[index] - pieces.right[last]
            tall = max(height[index], height[last])
            if gap > 2.2 * tall:
                ends.append(run)
                continue
            still.append(run)
            if gap < -0.3 * tall or gap > nearest:
                continue
            alike = height[index] <= 1.9 * height[last] and height[last] <= 1.9 * height[index]
            slack = max(1, round(0.12 * tall))
            on_line = (
                abs(pieces.bottom[index] - pieces.bottom[last]) <= slack
                or abs(pieces.top[index] - pieces.top[last]) <= slack
            )
            same_ink = abs(pieces.ink[index] - pieces.ink[last]) <= 0.12
            if alike and on_line and same_ink:
                best, nearest = run, gap
        if best is None:
            best = []
            still.append(best)
        best.append(int(index))
        open_runs = still
    return ends + open_runs


def _box(pieces: _Pieces, run: list[int], sure: bool, faint: bool) -> tuple[int, int, int, int] | None:
    """Return the box around a run if it is lettering, or None."""
    top, bottom = pieces.top[run], pieces.bottom[run]
    left, right = int(pieces.left[run].min()), int(pieces.right[run].max())
    height = float(np.median(bottom - top))
    glyphs = float(np.maximum(1, pieces.crossings[run] / 2).sum())
    fewest = 4 if sure or (faint and height <= _SMALL) else 3
    if glyphs < fewest or right - left < 1.2 * height:
        return None
    slack = max(1.0, 0.12 * height)
    on_line = max(np.mean(np.abs(bottom - np.median(bottom)) <= slack), np.mean(np.abs(top - np.median(top)) <= slack))
    spread = float(np.std(pieces.ink[run]))
    heights = float(np.std(bottom - top)) / height
    # A few glyphs may stand in a row by chance; many do not.
    strict = glyphs < 6 or sure
    if on_line < (0.9 if strict else 0.7) or spread > (0.04 if strict else 0.07) or heights > (0.22 if strict else 0.3):
        return None
    return int(top.min()), int(bottom.max()), left, right
