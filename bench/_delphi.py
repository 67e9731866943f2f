"""A small decoder after Delphi-2M (Shmatko et al. 2025), in plain torch: codes without values, ages as a sine basis,
the next code and an exponential waiting time; the label is read off the state at the prompt and learnt with the rest.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bench._real_peers import Floats, Material
from lifechart.data.summaries import expanded
from lifechart.model.labelled.target import Baseline, Target

_CONTEXT, _WIDTH, _HEADS, _LAYERS = 48, 64, 2, 2
_CODES, _EPOCHS, _BATCH, _MOST_STEPS = 600, 6, 128, 400
_DAY = 86_400_000_000


class _Decoder(nn.Module):
    def __init__(self, codes: int) -> None:
        super().__init__()
        self.code = nn.Embedding(codes, _WIDTH, padding_idx=0)
        self.age = nn.Linear(16, _WIDTH, bias=False)
        layer = nn.TransformerEncoderLayer(
            _WIDTH, _HEADS, 4 * _WIDTH, 0.1, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, _LAYERS, enable_nested_tensor=False)
        self.norm, self.next, self.label = nn.LayerNorm(_WIDTH), nn.Linear(_WIDTH, codes), nn.Linear(_WIDTH, 1)

    def forward(self, code_BT: Tensor, years_BT: Tensor) -> Tensor:
        rate = torch.exp(torch.linspace(0, -6, 8))
        angles = years_BT.unsqueeze(-1) * rate
        x = self.code(code_BT) + self.age(torch.cat([angles.sin(), angles.cos()], dim=-1))
        mask = nn.Transformer.generate_square_subsequent_mask(code_BT.shape[1])
        found: Tensor = self.norm(self.layers(x, mask=mask, is_causal=True))
        return found


def delphi(material: Material) -> Floats:
    """Fit to the training rows and return the scores of the others."""
    torch.manual_seed(0)
    read = expanded(material.events).select("subject_id", "time", "code")
    code, years, target_code = _sequences(read, material.train, None)
    test_code, test_years, _ = _sequences(read, material.test, target_code)
    event = material.train["boolean_value"].to_numpy()
    target = Target(event)
    if "days" in material.train.columns:
        days = material.train["days"].to_numpy()
        target = Target(event, Baseline.of(days, event).exposure(days))
    model = _Decoder(len(target_code) + 2)
    nn.init.zeros_(model.label.weight)
    nn.init.constant_(model.label.bias, target.start)
    steps = min(_MOST_STEPS, max(_EPOCHS * len(code) // _BATCH, 100))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    code_PT, years_PT = torch.from_numpy(code), torch.from_numpy(years)
    event_P = torch.from_numpy(event.astype(np.float32))
    exposure = None if target.exposure is None else torch.from_numpy(target.exposure.astype(np.float32))
    for _ in range(steps):
        rows = torch.randint(len(code), (min(_BATCH, len(code)),))
        part = None if exposure is None else exposure[rows]
        loss = _loss(model, code_PT[rows], years_PT[rows], event_P[rows], part)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.eval()
    scores = []
    with torch.inference_mode():
        for low in range(0, len(test_code), 1024):
            some = slice(low, low + 1024)
            hidden = model(torch.from_numpy(test_code[some]), torch.from_numpy(test_years[some]))
            scores.append(model.label(hidden[:, -1]).squeeze(1).double().numpy())
    return np.concatenate(scores)


def _loss(model: _Decoder, code: Tensor, years: Tensor, event: Tensor, exposure: Tensor | None) -> Tensor:
    hidden = model(code, years)
    logits = model.next(hidden[:, :-1])
    real = (code[:, :-1] > 0) & (code[:, 1:] > 0)
    by_code = nn.functional.cross_entropy(logits[real], code[:, 1:][real]) if real.any() else logits.sum() * 0
    total = torch.logsumexp(logits, dim=-1)[real].clamp(-10, 10)
    wait = (years[:, 1:] - years[:, :-1])[real].clamp(min=1e-3)
    waiting = (total.exp() * wait - total).mean() if real.any() else by_code
    score = model.label(hidden[:, -1]).squeeze(1).clamp(-12, 12)
    if exposure is None:
        label = nn.functional.binary_cross_entropy_with_logits(score, event)
    else:
        label = (exposure * score.exp() - event * score).mean()
    return label + 0.1 * by_code + 0.05 * waiting


def _sequences(
    read: pl.DataFrame, labels: pl.DataFrame, known: dict[str, int] | None
) -> tuple[NDArray[np.int64], NDArray[np.float32], dict[str, int]]:
    """Return codes [P, T] (0 pads at the left, 1 ends at the prompt) and ages in years [P, T] of the last events."""
    asked = labels.select("subject_id", "prediction_time").with_row_index("row")
    past = (
        asked.join(read, on="subject_id")
        .filter(pl.col("time").is_null() | (pl.col("time") <= pl.col("prediction_time")))
        .with_columns(day=pl.col("time").dt.truncate("1h"))
        .unique(["row", "day", "code"], maintain_order=False)
    )
    if known is None:
        common = past.group_by("code").len().sort("len", "code", descending=[True, False])["code"].head(_CODES)
        known = {code: number + 2 for number, code in enumerate(common)}
    past = past.with_columns(number=pl.col("code").replace_strict(known, default=0, return_dtype=pl.Int64))
    past = past.filter(pl.col("number") > 0).sort("row", "time", "number", nulls_last=False)
    past = past.group_by("row", maintain_order=True).tail(_CONTEXT - 1)
    back = past.with_columns(place=_CONTEXT - 1 - pl.int_range(pl.len(), 0, -1).over("row"))
    birth = read.filter(pl.col("code") == "MEDS_BIRTH").group_by("subject_id").agg(born=pl.col("time").min())
    first = read.group_by("subject_id").agg(first=pl.col("time").min())
    origin = (
        asked.join(birth, on="subject_id", how="left", maintain_order="left")
        .join(first, on="subject_id", how="left", maintain_order="left")
        .select(pl.coalesce("born", "first", "prediction_time").cast(pl.Datetime("us")).cast(pl.Int64))
        .to_series()
        .to_numpy()
    )
    when = asked["prediction_time"].cast(pl.Int64).to_numpy()
    code = np.zeros((asked.height, _CONTEXT), dtype=np.int64)
    micros = np.repeat(origin[:, None], _CONTEXT, axis=1)
    row, place = back["row"].to_numpy(), back["place"].to_numpy()
    code[row, place] = back["number"].to_numpy()
    micros[row, place] = back["time"].cast(pl.Int64).fill_null(0).to_numpy()
    undated = back["time"].is_null().to_numpy()
    micros[row[undated], place[undated]] = origin[row[undated]]
    code[:, -1], micros[:, -1] = 1, when
    years = (micros - origin[:, None]) / (365.25 * _DAY)
    used = int(np.argmax((code > 0).any(axis=0)))
    return code[:, used:], years[:, used:].astype(np.float32), known
