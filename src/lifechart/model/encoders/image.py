"""An image as one vector: patches of 8 x 8 through a small network, pooled by attention; one slot a kind of image.

Any image is made 64 x 64: its light, what is fine in its light, and its colour. The kind is DICOM's modality (OP, DX,
GM, ...). Shapes: R x T items, C channels, H x W pixels, P patches, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from scipy.ndimage import zoom
from torch import Tensor, nn

from lifechart.data import images
from lifechart.model.encoders import Found, Pictures
from lifechart.model.vocabulary import Vocabulary

SIDE = 64
_PATCH, _INSIDE, _VIEWS = 8, 48, 4
_FEWEST = 10


class ImageEncoder(nn.Module):
    """Embeds images. Patches are read alike wherever they lie; four views, which know the place, choose among them."""

    modality = "image"
    most = 1

    def __init__(self, vocabulary: Vocabulary, width: int) -> None:
        super().__init__()
        sorts = len(vocabulary.modalities[self.modality]["sorts"])
        places = (SIDE // _PATCH) ** 2
        self.patch = nn.Conv2d(3, _INSIDE, _PATCH, _PATCH)
        self.sort = nn.Embedding(sorts, _INSIDE)
        self.mix = nn.Sequential(nn.SiLU(), nn.Linear(_INSIDE, _INSIDE), nn.SiLU())
        self.place = nn.Parameter(torch.zeros(places, _VIEWS))
        self.looks = nn.Linear(_INSIDE, _VIEWS)
        self.out = nn.Linear(_VIEWS * _INSIDE, width)

    def forward(self, events: tuple[Tensor, ...]) -> Tensor:
        """Return vectors [R, T, D] of pixels [R, T, 2, H, W] (light and colour, bytes) and kinds [R, T]."""
        pixels, sort_RT = events
        x_NCHW = _channels(pixels.flatten(0, 1))
        x_NPE = self.patch(x_NCHW).flatten(2).transpose(1, 2)
        x_NPE = self.mix(x_NPE + self.sort(sort_RT.flatten().long()).unsqueeze(1))
        looks_NPV = (self.looks(x_NPE) + self.place).softmax(1)
        seen_NVE = torch.einsum("npv,npe->nve", looks_NPV, x_NPE)
        vectors: Tensor = self.out(seen_NVE.flatten(1)).view(*sort_RT.shape, -1)
        return vectors

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


def _channels(pixels: Tensor) -> Tensor:
    """Return [N, 3, H, W]: light about its mean, light about its neighbourhood by its spread, colour about grey."""
    plain = pixels.float() / 255
    light, colour = plain[:, :1], plain[:, 1:] - 0.5
    near = nn.functional.avg_pool2d(light, 7, 1, 3, count_include_pad=False)
    fine = light - near
    return torch.cat([light - light.mean((2, 3), keepdim=True), fine * 8.0, colour], dim=1)
