"""A genomic result as one vector: a variant by gene, consequence and zygosity; a polygenic score by its place.

A variant that few people carry is read by its parts, which others share; that a person with scores has none is known,
too. A score enters as a multiple of a vector of
its own, so that other modalities can bend it. Shapes: R x T items, P parts of a code, D width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from lifechart.model.encoders import UNDATED, Found, Pictures
from lifechart.model.vocabulary import Vocabulary

_PARTS = 3
_FEWEST = 10
_OVERLAP = "PGS_OVERLAP//"
"""How much of a score was called says nothing of the patient."""


class VariantEncoder(nn.Module):
    """Embeds genomic events of the kind `genomic`, as the source `vcf` makes them or any other."""

    modality = "variant"
    most = 24

    def __init__(self, vocabulary: Vocabulary, width: int) -> None:
        super().__init__()
        learnt = vocabulary.modalities[self.modality]
        self.part = nn.Embedding(1 + len(learnt["parts"]), width, padding_idx=0)
        self.score = nn.Embedding(1 + len(learnt["scores"]), width, padding_idx=0)
        nn.init.normal_(self.part.weight, std=0.3)
        nn.init.normal_(self.score.weight, std=0.3)
        with torch.no_grad():
            self.part.weight[0] = 0.0
            self.score.weight[0] = 0.0

    def forward(self, events: tuple[Tensor, ...]) -> Tensor:
        """Return vectors [R, T, D] of parts [R, T, P], scores [R, T] (0: none) and their standard deviations [R, T]."""
        parts_RTP, score_RT, level_RT = events
        vectors: Tensor = self.part(parts_RTP.long()).sum(2) + self.score(score_RT.long()) * level_RT.unsqueeze(-1)
        return vectors

    @staticmethod
    def learn(events: pl.DataFrame, pictures: Pictures | None) -> dict[str, Any] | None:
        """Return the parts that at least ten people's variants have, and each score's mean and spread."""
        rows = _genomic(events)
        scored = rows.filter(pl.col("numeric_value").is_finite())
        scales = (
            scored.group_by("code")
            .agg(
                pl.col("subject_id").n_unique().alias("people"),
                pl.col("numeric_value").mean().alias("mean"),
                pl.col("numeric_value").std().alias("spread"),
            )
            .filter((pl.col("people") >= _FEWEST) & (pl.col("spread") > 0))
            .sort("code")
        )
        parts = (
            _split(rows.filter(pl.col("numeric_value").is_null()))
            .explode("parts", empty_as_null=True, keep_nulls=True)
            .group_by("parts")
            .agg(pl.col("subject_id").n_unique().alias("people"))
            .filter((pl.col("people") >= _FEWEST) & pl.col("parts").is_not_null())
            .sort("parts")
        )
        if not scales.height and not parts.height:
            return None
        scores = [[code, float(mean), float(spread)] for code, _, mean, spread in scales.iter_rows()]
        return {"parts": parts["parts"].to_list(), "scores": scores}

    @staticmethod
    def slots(learnt: dict[str, Any]) -> int:
        """Return one for all variants, and one a score."""
        return 1 + len(learnt["scores"])

    @staticmethod
    def find(events: pl.DataFrame, learnt: dict[str, Any], pictures: Pictures | None) -> Found:
        """Return genomic events: what is neither a known part nor a known score is left out."""
        rows = _split(_genomic(events))
        number = {part: index + 1 for index, part in enumerate(learnt["parts"])}
        scores = {code: index + 1 for index, (code, _, _) in enumerate(learnt["scores"])}
        parts = np.zeros((rows.height, _PARTS), np.int32)
        for row, known in enumerate(rows["parts"].to_list()):
            parts[row, : len(known)] = [number.get(part, 0) for part in known]
        score = np.array([scores.get(code, 0) for code in rows["code"]], np.int32)
        value = rows["numeric_value"].cast(pl.Float64).to_numpy()
        scale = np.array([[0.0, 1.0], *([mean, spread] for _, mean, spread in learnt["scores"])])
        level = np.where(score > 0, (value - scale[score, 0]) / scale[score, 1], 0.0)
        score = np.where(np.isfinite(level), score, 0)
        parts[score > 0] = 0
        level = np.clip(np.nan_to_num(level), -6, 6).astype(np.float32)
        kept = (score > 0) | (parts > 0).any(1)
        time = rows["time"].cast(pl.Int64).fill_null(UNDATED).to_numpy()
        subject = rows["subject_id"].to_numpy()
        # Who was sequenced: that no variant was found in them is known too, and stands as an item without parts.
        scored = np.flatnonzero(score > 0)
        scored = scored[np.unique(np.stack([subject[scored], time[scored]]), axis=1, return_index=True)[1]]
        index = np.concatenate([np.flatnonzero(kept), scored])
        nothing = np.arange(len(index)) >= kept.sum()
        parts, score, level = parts[index], np.where(nothing, 0, score[index]), np.where(nothing, 0, level[index])
        parts[nothing] = 0
        return Found(
            subject[index], time[index], score.astype(np.int64),
            (parts, score.astype(np.int32), level.astype(np.float32)),
        )  # fmt: skip


def _genomic(events: pl.DataFrame) -> pl.DataFrame:
    return events.filter((pl.col("kind") == "genomic") & ~pl.col("code").str.starts_with(_OVERLAP))


def _split(rows: pl.DataFrame) -> pl.DataFrame:
    """Add `parts`: of VARIANT//GENE//consequence//zygosity what is stated behind the system; of another code itself."""
    parts = pl.col("code").str.split("//").list.slice(1, _PARTS)
    stepped = pl.col("code").str.starts_with("VARIANT//")
    return rows.with_columns(parts=pl.when(stepped).then(parts).otherwise(pl.concat_list("code")))
