"""Draws lettering into images of several kinds and measures how much of it the detector misses."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom.data import get_testdata_file
from pydicom.filereader import dcmread
from rich.console import Console
from rich.table import Table
from scipy import ndimage

from lifechart.data.deidentify.dicom import lettering

SIDE = 512
TEXTS = (
    "DOE^JOHN",
    "MRN 4471903",
    "1957-03-14",
    "Smith, Anna",
    "St. Mary Hosp",
    "07/04/2019 12:33",
    "ID:88213",
    "JANE ROE F 62Y",
)
SIZES = (10, 12, 14, 18, 24, 32, 48)
CONTRASTS = (0.2, 0.35, 0.6, 0.9)
WHOLE, HALF = 0.98, 0.5
"""Lettering counts as found if so much of its ink is covered, and as not found at all if less than half is."""

Grey = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Sample:
    """An image with one line of lettering in it."""

    background: str
    size: int
    contrast: float
    grey_HW: Grey
    ink_HW: NDArray[np.bool_]


def backgrounds(seed: int = 0) -> dict[str, Grey]:
    """Return images without lettering: two real slices, and made-up radiographs, ultrasound, noise and empty pages."""
    draw = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    sector = ((columns - 256) ** 2 + (rows + 40) ** 2 < 480**2) & (np.abs(columns - 256) < (rows + 40) * 0.8)
    speckle = _stretched(ndimage.gaussian_filter(draw.rayleigh(1, (SIDE, SIDE)), 1.2))
    shadow = ndimage.gaussian_filter(draw.standard_normal((SIDE, SIDE)), 30)
    shadow /= shadow.std()
    body = ((columns - 256) / 210) ** 2 + ((rows - 256) / 160) ** 2 < 1
    return {
        "CT slice": _slice("CT_small.dcm"),
        "MR slice": _slice("MR_small.dcm"),
        "radiograph": _stretched(shadow + 0.03 * draw.standard_normal((SIDE, SIDE))),
        "projection of a body": _stretched(body * (2 + shadow) + 0.05 * draw.standard_normal((SIDE, SIDE))),
        "ultrasound": (speckle * sector * (rows > 60) * 0.8).astype(np.float32),
        "black page": np.zeros((SIDE, SIDE), np.float32),
        "white page": np.ones((SIDE, SIDE), np.float32),
    }


def _slice(name: str) -> Grey:
    pixels = dcmread(str(get_testdata_file(name))).pixel_array
    zoomed: Grey = np.clip(ndimage.zoom(_stretched(pixels), SIDE / pixels.shape[0], order=1), 0, 1)
    return zoomed


def _stretched(pixels: NDArray[np.generic]) -> Grey:
    grey = pixels.astype(np.float32)
    low, high = np.percentile(grey, (0.1, 99.9))
    stretched: Grey = np.clip((grey - low) / (high - low), 0, 1).astype(np.float32)
    return stretched


def samples(num: int, seed: int) -> Iterator[Sample]:
    """Yield images with a line of lettering at a random place, in Pillow's own fonts."""
    draw = np.random.default_rng(seed)
    kinds = list(backgrounds(seed).items())
    for number in range(num):
        background, ground_HW = kinds[number % len(kinds)]
        text, size = str(draw.choice(TEXTS)), int(draw.choice(SIZES))
        font = (
            ImageFont.load_default_imagefont() if size == 10 and draw.random() < 0.5 else ImageFont.load_default(size)
        )
        page = Image.new("L", (SIDE, SIDE), 0)
        pen = ImageDraw.Draw(page)
        _, _, width, height = (int(edge) + 1 for edge in pen.textbbox((0, 0), text, font=font))
        left, top = int(draw.integers(2, SIDE - 2 - width)), int(draw.integers(2, SIDE - 2 - height))
        pen.text((left, top), text, fill=255, font=font)
        ink_HW = np.asarray(page, np.float32) / 255
        if draw.random() < 0.15:
            ink_HW = np.ascontiguousarray(ink_HW.T)
        contrast = float(draw.choice(CONTRASTS))
        around = float(np.median(ground_HW[ndimage.binary_dilation(ink_HW > 0, iterations=2)]))
        ink = around + contrast if around + contrast <= 1 else around - contrast
        ink = float(np.clip(ink, 0, 1))
        grey_HW = np.round((ground_HW * (1 - ink_HW) + ink * ink_HW) * 255) / 255
        yield Sample(background, size, contrast, grey_HW.astype(np.float32), ink_HW > 0.5)


def report(console: Console, num: int, seed: int = 20) -> float:
    """Measure, print a table of what is missed, and return the share of lines that are not wholly covered."""
    missed: dict[tuple[str, str], list[bool]] = defaultdict(list)
    seconds = 0.0
    for sample in samples(num, seed):
        started = time.perf_counter()
        found_HW = lettering.find(sample.grey_HW)
        seconds += time.perf_counter() - started
        covered = float(found_HW[sample.ink_HW].mean())
        miss = covered < WHOLE
        missed["not at all", ""].append(covered < HALF)
        if sample.background.endswith("slice"):
            careful = lettering.find(sample.grey_HW, sure=True)[sample.ink_HW].mean()
            missed["looked at as a slice", ""].append(bool(careful < WHOLE))
        keys = (
            ("all", ""),
            ("ground", sample.background),
            ("height", f"{sample.size:02} px"),
            ("contrast", f"{sample.contrast}"),
        )
        for key in keys:
            missed[key].append(miss)
    table = Table("lettering drawn into images", "", "lines", "missed", box=None, header_style="bold")
    for (kind, value), misses in sorted(missed.items()):
        table.add_row(kind, value, str(len(misses)), f"{np.mean(misses):.3f}")
    console.print(table)
    for name, ground_HW in backgrounds(seed).items():
        blanked = [float(lettering.find(ground_HW, sure=sure).mean()) for sure in (False, True)]
        console.print(f"{name} without lettering: {blanked[0]:.4f} blanked, {blanked[1]:.4f} when looked at as a slice")
    console.print(f"{seconds / num:.2f} s an image of {SIDE} by {SIDE}")
    return float(np.mean(missed["all", ""]))
