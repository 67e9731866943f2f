"""Cleans an image's pixels (option 113101): lettering is blanked, what lies outside an ultrasound's regions as well.

What kind of image it is decides how hard is looked (`sop_classes.csv`): captures, projections, ultrasound and cameras
carry lettering as a matter of course; slices straight from the scanner only by exception. An image that says it has
burned-in annotation while none is found, one that is mostly lettering (a scanned page), and a photograph of a slide's
label are held back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut

from lifechart.data.deidentify.dicom import lettering
from lifechart.data.deidentify.dicom.decoding import NotDecoded, Pixels

MOSTLY = 0.30
"""The share of an image that may be lettering; of more, what it shows besides is not worth the doubt."""
_GROUPS = 32
"""Frames are looked at in at most so many groups; of a group, the brightest and the darkest of each place."""
_OUTLYING = 3.0
_PHOTOGRAPHED = ("LABEL", "OVERVIEW")


class HeldBack(Exception):
    """The image cannot be made safe; the reason holds nothing of the file."""


@dataclass(slots=True)
class Blanked:
    """What was blanked: shares of the image's area, from 0 to 1."""

    lettering: float
    outside: float


def clean(pixels: Pixels, source: Dataset, kind: str) -> Blanked:
    """Blank lettering in place; raises HeldBack. `kind`: the detail of the SOP class in sop_classes.csv."""
    types = [str(item).upper() for item in _values(source, "ImageType")]
    if any(item in types for item in _PHOTOGRAPHED):
        raise HeldBack("a photograph of a slide may show its label")
    outside_HW = _outside_regions(source, pixels) if kind == "ultrasound" else None
    if outside_HW is not None:
        _blank(pixels, slice(None), outside_HW)
    share = 0.0
    if kind != "mask":
        sure = kind == "slices" and types[:2] == ["ORIGINAL", "PRIMARY"]
        share = _blank_lettering(pixels, source, sure=sure, moving=kind in ("slices", "camera"))
    if share > MOSTLY:
        raise HeldBack("the image is mostly lettering")
    stated = str(source.get("BurnedInAnnotation", "")).strip().upper() == "YES"
    if stated and share == 0 and outside_HW is None:
        raise HeldBack("burned-in annotation is stated and was not found")
    return Blanked(share, 0.0 if outside_HW is None else float(outside_HW.mean()))


def _values(source: Dataset, name: str) -> list[object]:
    value = source.get(name)
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def _outside_regions(source: Dataset, pixels: Pixels) -> NDArray[np.bool_] | None:
    """Return what lies outside the regions that an ultrasound machine says its picture is in (C.8.5.5), if it says."""
    _, rows, columns, _ = pixels.frames_FHWS.shape
    outside_HW = np.ones((rows, columns), bool)
    try:
        for region in source.get("SequenceOfUltrasoundRegions") or []:
            left, top = int(region.RegionLocationMinX0), int(region.RegionLocationMinY0)
            right, bottom = int(region.RegionLocationMaxX1), int(region.RegionLocationMaxY1)
            if 0 <= left < right and 0 <= top < bottom:
                outside_HW[top : bottom + 1, left : right + 1] = False
    except (AttributeError, TypeError, ValueError):
        return None
    return None if outside_HW.all() else outside_HW


def _blank_lettering(pixels: Pixels, source: Dataset, *, sure: bool, moving: bool) -> float:
    """Blank lettering and return its share. `moving`: frames show different places, so a find counts where it was."""
    num_frames = len(pixels.frames_FHWS)
    size = -(-num_frames // _GROUPS)
    everywhere_HW = np.zeros(pixels.frames_FHWS.shape[1:3], bool)
    shares = []
    for start in range(0, num_frames, size):
        group = slice(start, start + size)
        found_HW = _find(pixels.frames_FHWS[group], pixels.photometric, source, sure=sure)
        shares.append(found_HW.mean())
        everywhere_HW |= found_HW
        if moving and found_HW.any():
            _blank(pixels, group, found_HW)
    if not moving and everywhere_HW.any():
        _blank(pixels, slice(None), everywhere_HW)
        return float(everywhere_HW.mean())
    return float(max(shares))


def _find(frames_FHWS: NDArray[np.generic], photometric: str, source: Dataset, *, sure: bool) -> NDArray[np.bool_]:
    shown = _shown(frames_FHWS, photometric, source)
    found_HW = np.zeros(frames_FHWS.shape[1:3], bool)
    looks = [shown.max(axis=0)] if len(shown) == 1 else [shown.max(axis=0), shown.min(axis=0)]
    for look_HWS in looks:
        for grey_HW in _greys(look_HWS.mean(axis=-1)):
            found_HW |= lettering.find(grey_HW, sure=sure)
        if look_HWS.shape[-1] == 3:
            # Coloured ink on a ground as bright as itself. Not stretched: grey that was compressed has faint tints.
            full = 255.0 if look_HWS.dtype.itemsize == 1 else max(1.0, float(look_HWS.max()))
            colour_HW = (look_HWS.max(axis=-1).astype(np.float32) - look_HWS.min(axis=-1)) / full
            if colour_HW.max() > lettering.MIN_CONTRAST:
                found_HW |= lettering.find(colour_HW, sure=sure)
    return found_HW


def _shown(frames_FHWS: NDArray[np.generic], photometric: str, source: Dataset) -> NDArray[np.generic]:
    if photometric != "PALETTE COLOR":
        return frames_FHWS
    try:
        return np.stack([apply_color_lut(frame_HW, source) for frame_HW in frames_FHWS[..., 0]])
    except Exception:
        raise NotDecoded("the palette cannot be read") from None


def _greys(plane_HW: NDArray[np.generic]) -> list[lettering.Image]:
    """Return the plane as grey from 0 to 1 over its whole range and, if single places stretch that, over most of it."""
    plane = np.nan_to_num(plane_HW.astype(np.float32), posinf=0, neginf=0)
    low, high = float(plane.min()), float(plane.max())
    if high <= low:
        return []
    found = [(plane - low) / (high - low)]
    bottom, top = (float(value) for value in np.percentile(plane, (1, 99)))
    if top > bottom and high - low > _OUTLYING * (top - bottom):
        found.append(np.clip((plane - bottom) / (top - bottom), 0, 1))
    return found


def _blank(pixels: Pixels, frames: slice, where_HW: NDArray[np.bool_]) -> None:
    """Give what is to be blanked the grey of an empty background: the darkest shown."""
    part_FHWS = pixels.frames_FHWS[frames]
    empty = part_FHWS.max() if pixels.photometric == "MONOCHROME1" else part_FHWS.min()
    part_FHWS[:, where_HW] = 0 if pixels.photometric == "RGB" else empty
