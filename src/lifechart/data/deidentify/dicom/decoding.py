"""Pixels out of any transfer syntax as plain arrays, and back into a data set as plain little-endian bytes.

Everything is decoded and written anew: what hides behind, between or above the samples (trailing bytes, comments in a
compressed stream, overlays in unused bits) has no way through. What cannot be decoded is not written.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pack_bits

MAX_BYTES = 1 << 30
"""Decoded size from which an image is held back: its frames are in memory together."""
_COLOURS = {1: ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"), 3: ("RGB",)}


class NotDecoded(Exception):
    """The pixels cannot be decoded; the reason holds nothing of the file."""


@dataclass(slots=True)
class Pixels:
    """The samples of an image: frames_FHWS, with frame, row, column and sample; what their numbers mean beside."""

    frames_FHWS: NDArray[np.generic]
    photometric: str
    bits_stored: int
    """Meaningful bits of a sample; 1: a bitmap, 0: floating point."""
    signed: bool


def decode(source: Dataset) -> Pixels:
    """Return the pixels of a data set whose file_meta names its transfer syntax; raises NotDecoded."""
    try:
        rows, columns = int(source.Rows), int(source.Columns)
        samples, frames = int(source.get("SamplesPerPixel", 1)), int(source.get("NumberOfFrames", 1) or 1)
        allocated = int(source.get("BitsAllocated", 32))
    except (AttributeError, TypeError, ValueError):
        raise NotDecoded("the image's size is not stated") from None
    if min(rows, columns, samples, frames) < 1 or samples not in _COLOURS:
        raise NotDecoded("the image's size is not stated")
    if rows * columns * samples * frames * max(1, allocated // 8) > MAX_BYTES:
        raise NotDecoded("the image is too large")
    try:
        decoder = get_decoder(source.file_meta.TransferSyntaxUID)
        # The pixels' own bytes name their length; an array of more frames than stated is not what the header describes.
        arrays, photometric = [], ""
        for array, meta in decoder.iter_array(source, raw=False):
            arrays.append(array)
            photometric = str(meta["photometric_interpretation"])
    except MemoryError:
        raise NotDecoded("the image is too large") from None
    except Exception:
        raise NotDecoded("the pixels cannot be decoded") from None
    if len(arrays) != frames or arrays[0].shape[:2] != (rows, columns) or photometric not in _COLOURS[samples]:
        raise NotDecoded("the pixels are not as the header says")
    frames_FHWS = np.stack(arrays).reshape(frames, rows, columns, samples)
    if frames_FHWS.dtype.kind == "f":
        return Pixels(frames_FHWS, photometric, 0, signed=True)
    stored, signed = int(source.get("BitsStored", allocated)), bool(source.get("PixelRepresentation", 0))
    if not 1 <= stored <= frames_FHWS.dtype.itemsize * 8 or (allocated > 1 and source.get("HighBit") != stored - 1):
        raise NotDecoded("the sample's bits are not as usual")
    return Pixels(_meant_bits(frames_FHWS, stored, signed), photometric, 1 if allocated == 1 else stored, signed)


def _meant_bits(array: NDArray[np.generic], stored: int, signed: bool) -> NDArray[np.generic]:
    """Return the samples with the bits above `stored` cleared, or filled with the sign: overlays once stood there."""
    spare = array.dtype.itemsize * 8 - stored
    if spare == 0:
        return array
    if signed:
        width = np.dtype(f"i{array.dtype.itemsize}")
        filled: NDArray[np.generic] = np.right_shift(np.left_shift(array.astype(width), spare), spare)
        return filled
    cleared: NDArray[np.generic] = np.bitwise_and(array, array.dtype.type((1 << stored) - 1))
    return cleared


def encode(pixels: Pixels, out: Dataset) -> None:
    """Write pixels and what describes them into `out`, for the transfer syntax Explicit VR Little Endian."""
    array = np.ascontiguousarray(pixels.frames_FHWS)
    _, out.Rows, out.Columns, out.SamplesPerPixel = array.shape
    out.PhotometricInterpretation = pixels.photometric
    for name in ("PlanarConfiguration", "BitsStored", "HighBit", "PixelRepresentation"):
        if name in out:
            delattr(out, name)
    if out.SamplesPerPixel > 1:
        out.PlanarConfiguration = 0
    if array.dtype.kind == "f":
        out.BitsAllocated = array.dtype.itemsize * 8
        content = array.astype(array.dtype.newbyteorder("<")).tobytes()
        if array.dtype.itemsize == 8:
            out.DoubleFloatPixelData = content
        else:
            out.FloatPixelData = content
        return
    out.BitsStored, out.PixelRepresentation = pixels.bits_stored, int(pixels.signed)
    out.HighBit = pixels.bits_stored - 1
    out.BitsAllocated = 1 if pixels.bits_stored == 1 else array.dtype.itemsize * 8
    if pixels.bits_stored == 1:
        content = pack_bits(array.astype(np.uint8).ravel(), pad=True)
    else:
        content = array.astype(array.dtype.newbyteorder("<")).tobytes()
        content += b"\0" * (len(content) % 2)
    out.add_new(0x7FE0_0010, "OW" if out.BitsAllocated > 8 else "OB", content)
