"""An image as one vector: two layers of filters, how strongly each answers on the whole, one slot a kind of image.

Any image is made 64 x 64: its light, what is fine in its light, and its colour. The kind is DICOM's modality (OP, DX,
GM, ...). Filters begin as the main components of the patches that they look at (PCANet: Chan et al. 2015, arXiv
1404.3606) and then learn. Shapes: R x T items, N images, C channels, H x W pixels, F filters, S sorts, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.ndimage import zoom
from torch import Tensor, nn

from lifechart.data import images
from lifechart.model.encoders import Found, Pictures
from lifechart.model.vocabulary import Vocabulary

SIDE = 64
_FINE, _COARSE = 16, 32
"""Filters of the first layer (5 x 5) and of the second (3 x 3, on the first's answers at a quarter of the size)."""
_NEAR, _AROUND = 5, 3
_LOUD = (0.3, 0.5)
"""How strong an answer must be to count, in standard deviations, by layer."""
_FEWEST = 10
_TAUGHT_BY, _PATCHES = 256, 20_000
"""Images and patches that the filters of one kind begin from."""


class ImageEncoder(nn.Module):
    """Embeds images. Each kind has filters of its own: what tells in a retina is not what tells in a film."""

    modality = "image"
    most = 1

    def __init__(self, vocabulary: Vocabulary, width: int) -> None:
        super().__init__()
        self.sorts = len(vocabulary.modalities[self.modality]["sorts"])
        sorts, inside = self.sorts, _FINE + _COARSE
        self.fine = nn.Parameter(torch.randn(sorts, _FINE, 3, _NEAR, _NEAR) * 0.2)
        self.coarse = nn.Parameter(torch.randn(sorts, _COARSE, _FINE, _AROUND, _AROUND) * 0.1)
        self.middle = nn.Parameter(torch.zeros(sorts, inside))
        self.out = nn.Parameter(torch.randn(sorts, inside, width) * inside**-0.5)

    def forward(self, events: tuple[Tensor, ...]) -> Tensor:
        """Return vectors [R, T, D] of pixels [R, T, 2, H, W] (light and colour, bytes) and kinds [R, T]."""
        pixels, sort_RT = events
        x_NCHW, there_N1HW = _channels(pixels.flatten(0, 1))
        sort_N = sort_RT.flatten().long()
        vectors = x_NCHW.new_zeros(len(x_NCHW), self.out.shape[-1])
        for sort in range(self.sorts):
            mine = torch.nonzero(sort_N == sort).squeeze(1)
            if len(mine):
                seen_NF = self._seen(x_NCHW[mine], there_N1HW[mine], sort)
                vectors = vectors.index_copy(0, mine, (seen_NF - self.middle[sort]) @ self.out[sort])
        return vectors.view(*sort_RT.shape, -1)

    def _seen(self, x_NCHW: Tensor, there_N1HW: Tensor, sort: int) -> Tensor:
        """Return how strongly each filter answers [N, F], whatever its sign and wherever it does."""
        first, cells = self._first(x_NCHW, there_N1HW, sort)
        second = _rectified(nn.functional.conv2d(first, self.coarse[sort]), _LOUD[1])
        return torch.cat([_mean(second, cells[:, :, 1:-1, 1:-1]), _mean(first, cells)], dim=1)

    def _first(self, x_NCHW: Tensor, there_N1HW: Tensor, sort: int) -> tuple[Tensor, Tensor]:
        """Return the first layer's answers at a quarter of the size, and how much of each cell is there."""
        answers = nn.functional.conv2d(x_NCHW, self.fine[sort], padding=_NEAR // 2)
        cells = nn.functional.avg_pool2d(there_N1HW, 4)
        pooled = nn.functional.avg_pool2d(_rectified(answers, _LOUD[0]) * there_N1HW, 4) / cells.clamp(min=1e-6)
        # What is not there looks like the rest of its image on the mean: it has no edges.
        return torch.where(cells > 0, pooled, _mean(pooled, cells)[:, :, None, None]), cells

    @torch.no_grad()
    def begin(self, contents: tuple[NDArray[Any], ...], known_WM: sparse.csr_array) -> None:
        """Take filters from the images themselves, and as output the main components of what they answer."""
        pixels, sorts = contents
        for sort in range(self.sorts):
            mine = np.flatnonzero(sorts == sort)
            if len(mine) < _FEWEST:
                continue
            few, there = _channels(torch.from_numpy(pixels[mine[:: -(-len(mine) // _TAUGHT_BY)]]))
            self.fine[sort] = _components(few, there, _NEAR, 3, _FINE)
            self.coarse[sort] = _components(*self._first(few, there, sort), _AROUND, 1, _COARSE)
            seen = self._seen(few, there, sort)
            self.middle[sort] = seen.mean(0)
            spread = seen.std(0) + 1e-6
            _, size, turn = torch.linalg.svd((seen - seen.mean(0)) / spread, full_matrices=False)
            number = min(self.out.shape[-1], len(size))
            # Not each to a spread of 1: what shows most stays first, and is what products are tried with.
            scale = len(few) ** 0.5 / float(size[0].clamp(min=1e-6))
            self.out[sort] = 0.0
            self.out[sort][:, :number] = turn[:number].T * scale / spread[:, None]

    @staticmethod
    def learn(events: pl.DataFrame, pictures: Pictures | None) -> dict[str, Any] | None:
        """Return the kinds of image that at least ten people of the training split have; None if there are none."""
        if pictures is None:
            return None
        here = _theirs(pictures, events)
        people = here.group_by("modality").agg(pl.col("subject_id").n_unique().alias("people"))
        sorts = people.filter(pl.col("people") >= _FEWEST)["modality"].drop_nulls().sort().to_list()
        return {"sorts": sorts} if sorts else None

    @staticmethod
    def slots(learnt: dict[str, Any]) -> int:
        """Return one a kind of image."""
        return len(learnt["sorts"])

    @staticmethod
    def find(events: pl.DataFrame, learnt: dict[str, Any], pictures: Pictures | None) -> Found:
        """Return the images of known kinds, as bytes."""
        if pictures is None:
            rows = pl.DataFrame(schema={"subject_id": pl.Int64, "time": pl.Datetime("us"), "modality": pl.String})
            rows = rows.with_columns(image=pl.lit("", pl.String))
        else:
            rows = _theirs(pictures, events).filter(pl.col("modality").is_in(learnt["sorts"]))
        pixels = np.zeros((rows.height, 2, SIDE, SIDE), np.uint8)
        for number, image in enumerate(rows["image"]):
            assert pictures is not None
            pixels[number] = small(pictures.load(image))
        sort = np.array([learnt["sorts"].index(name) for name in rows["modality"]], np.int64)
        time = rows["time"].cast(pl.Int64).to_numpy()
        return Found(rows["subject_id"].to_numpy(), time, sort, (pixels, sort.astype(np.int32)))


@dataclass(frozen=True)
class DataSetPictures:
    """The images beside a data set (data.images)."""

    dataset: Path
    index: pl.DataFrame

    def load(self, image: str) -> NDArray[np.generic]:
        """Return an image's samples; raises IntegrityError if they are not those that its name states."""
        return images.load(self.dataset, image)


def pictures_of(dataset: Path) -> DataSetPictures | None:
    """Return the images of a data set, or None if it has none."""
    index = images.index(dataset)
    return DataSetPictures(dataset, index.select("subject_id", "time", "modality", "image")) if index.height else None


@dataclass(frozen=True)
class _Copies:
    """One patient's images under several numbers."""

    source: Pictures
    index: pl.DataFrame

    def load(self, image: str) -> NDArray[np.generic]:
        return self.source.load(image)


def copies(pictures: Pictures | None, subject_id: int, number: int) -> Pictures | None:
    """Return a patient's images as those of patients 0 to `number` - 1: for charts that differ in one event."""
    if pictures is None:
        return None
    theirs = pictures.index.filter(pl.col("subject_id") == subject_id).drop("subject_id")
    numbered = pl.DataFrame({"subject_id": np.arange(number, dtype=np.int64)}).join(theirs, how="cross")
    return _Copies(pictures, numbered.select("subject_id", "time", "modality", "image"))


def small(frames_FHWS: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Return light and colour [2, SIDE, SIDE] of an image's first frame, over the range that most of it has."""
    frame = frames_FHWS[0].astype(np.float32)
    light = frame.mean(axis=-1)
    colour = frame[..., 0] - frame[..., -1] if frame.shape[-1] >= 3 else np.zeros_like(light)
    low, high = (float(value) for value in np.percentile(light, (0.5, 99.5)))
    spread = max(high - low, 1e-6)
    planes = np.stack([(light - low) / spread, 0.5 + 0.5 * colour / spread])
    rows, columns = planes.shape[1:]
    if (rows, columns) != (SIDE, SIDE):
        planes = zoom(planes, (1, SIDE / rows, SIDE / columns), order=1, grid_mode=True, mode="nearest")
    return np.asarray(np.round(np.clip(planes, 0, 1) * 255).astype(np.uint8))


def _theirs(pictures: Pictures, events: pl.DataFrame) -> pl.DataFrame:
    return pictures.index.join(events.select("subject_id").unique(), on="subject_id", how="semi")


def _channels(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return [N, 3, H, W]: light about its mean, light about its neighbourhood by its spread, colour about grey.

    Beside it where something is there [N, 1, H, W]: a patch without any shade was blanked, or lies outside the field.
    """
    plain = pixels.float() / 255
    light, colour = plain[:, :1], plain[:, 1:] - 0.5
    there = _there(light)
    light = torch.where(there > 0, light, _mean(light, there)[:, :, None, None])
    around = {"kernel_size": 7, "stride": 1, "padding": 3, "count_include_pad": False}
    fine = light - nn.functional.avg_pool2d(light, **around)  # type: ignore[arg-type]
    centred = light - light.mean((2, 3), keepdim=True)
    return torch.cat([centred, fine * 8.0, colour], dim=1) * there, there


def _there(light_N1HW: Tensor) -> Tensor:
    """Return 1 where an image shows something, 0 within patches of one and the same grey."""
    most = nn.functional.max_pool2d(light_N1HW, _NEAR, 1, _NEAR // 2)
    least = -nn.functional.max_pool2d(-light_N1HW, _NEAR, 1, _NEAR // 2)
    # A patch's whole neighbourhood is empty, and a step further: filters there would see the edge.
    empty = nn.functional.max_pool2d((most == least).to(light_N1HW.dtype), _NEAR + 2, 1, _NEAR // 2 + 1)
    return 1.0 - empty


def _mean(x_NCHW: Tensor, weight_N1HW: Tensor) -> Tensor:
    """Return the weighted means over the places [N, C]; 0 where nothing has any weight."""
    return (x_NCHW * weight_N1HW).sum((2, 3)) / weight_N1HW.sum((2, 3)).clamp(min=1e-6)


def _rectified(answers: Tensor, loud: float) -> Tensor:
    return nn.functional.relu(answers.abs() - loud)


def _components(x_NCHW: Tensor, there_N1HW: Tensor, side: int, stride: int, number: int) -> Tensor:
    """Return the main components of patches as filters [number, C, side, side], each answering with a spread of 1."""
    patches = nn.functional.unfold(x_NCHW, side, stride=stride).transpose(1, 2).flatten(0, 1)
    whole = nn.functional.unfold(there_N1HW, side, stride=stride).amin(1).flatten() > 0
    patches = patches[whole] if int(whole.sum()) > patches.shape[1] else patches
    patches = patches[:: -(-len(patches) // _PATCHES)]
    patches = patches - patches.mean(0)
    _, size, turn = torch.linalg.svd(patches, full_matrices=False)
    found = x_NCHW.new_zeros(number, patches.shape[1])
    kept = min(number, len(size))
    scale = len(patches) ** 0.5 / size[:kept].clamp(min=1e-3 * float(size[0]) + 1e-6)
    found[:kept] = turn[:kept] * scale[:, None]
    return found.view(number, x_NCHW.shape[1], side, side)
