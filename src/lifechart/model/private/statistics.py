"""What a private fit must know before it learns, from noisy sums: codes and units, value scales, outcomes, base rates.

Three Gaussian sums over patients, in each of which one patient counts at most 1 (in the Euclidean norm):

- names   every code, with its unit where it has values, its ancestors, and whether it may be an outcome. A patient
          gives 1 / sqrt(k) to each of his k names. A name is told only if its noisy sum passes a threshold that one
          patient's own names pass with probability DELTA at most (Gopi et al., ICML 2020: set union).
- scales  a tree of counts over a fixed grid of values, for each code that has a unit.
- rates   patients, years of observation and onsets.

Everything after that is made from the noisy sums alone.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import norm

from lifechart.core.timeline import BIRTH, RECORD_END, believable
from lifechart.model.heads import NUM_BINS, BaseRates
from lifechart.model.private.lot import Lot
from lifechart.model.questions import ragged
from lifechart.model.tokens import DAY_US, Tokens
from lifechart.model.vocabulary import (
    QUANTILES,
    UNREAD_KINDS,
    Vocabulary,
    assemble,
    event_codes,
    is_onset,
    wider_codes,
)

MOST_NAMES = 512
"""Names of one patient that count; further ones (in the order of their hash) do not."""
LEVELS = 14
"""Levels of the tree of values, its root included: 2^13 leaves."""
_SMALLEST, _REACH = 1e-3, 24.0
"""Leaves are even in arcsinh(value / _SMALLEST), up to +-_REACH (thousandths to ten millions, half a per cent each)."""
_FEWEST_SCALE = 15.0
"""A scale is told if its root stands this many standard deviations of noise above none."""
_ONSET, _YEAR, _PATIENT = 0.2, 0.004, 0.3
"""What an onset, a year and a patient count in the sum of rates, before a patient's whole part is cut to 1."""
_AGAIN = 1.0
"""A recurrence's log hazard begins this much above the first onset's."""
_CONSTANT_RATE = 1e-3 / 365.25


@dataclass(frozen=True)
class Noises:
    """Noise of the three sums, in multiples of what one patient can change, and delta for the threshold of names."""

    names: float
    scales: float
    rates: float
    delta: float


def private_vocabulary(events: pl.DataFrame, noises: Noises, lot: Lot) -> Vocabulary:
    """Return the vocabulary that the noisy sums of names and scales tell."""
    rows = _named(events)
    names = _noisy_names(rows, noises, lot)
    weight: dict[str, float] = defaultdict(float)
    units: dict[str, tuple[float, str]] = {}
    onsets = []
    for token, scale, onset, noisy in names.iter_rows():
        weight[token] += noisy
        if scale is not None and noisy > units.get(token, (0.0, ""))[0]:
            units[token] = (noisy, scale)
        if onset:
            onsets.append(token)
    codes = ["UNKNOWN", "START", *sorted(weight)]
    unit_of, knots = _noisy_scales(rows, {token: unit for token, (_, unit) in units.items()}, codes, noises, lot)
    return assemble(codes, unit_of, knots, tuple(sorted(set(onsets), key=lambda code: (code[:5] != "MEDS_", code))))


def _named(events: pl.DataFrame) -> pl.DataFrame:
    """Return (subject_id, token, scale, onset, numeric_value) of what the model reads."""
    unread = pl.col("code").is_in([BIRTH, RECORD_END]) | pl.col("kind").is_in(UNREAD_KINDS)
    read = events.filter(~unread.fill_null(False)).with_columns(numeric_value=believable())
    valued = pl.col("numeric_value").is_finite().fill_null(False)
    return read.select(
        "subject_id",
        token=event_codes(),
        scale=pl.when(valued).then(pl.col("unit").fill_null("")),
        onset=is_onset().fill_null(False) & pl.col("time").is_not_null(),
        numeric_value=pl.when(valued).then(pl.col("numeric_value")),
    )


def _noisy_names(rows: pl.DataFrame, noises: Noises, lot: Lot) -> pl.DataFrame:
    name = ["token", "scale", "onset"]
    own = rows.select("subject_id", *name).unique()
    tokens = own["token"].unique()
    wider = pl.DataFrame(
        [(token, above) for token in tokens for above in wider_codes(token)],
        schema={"token": pl.String, "above": pl.String}, orient="row",
    )  # fmt: skip
    above = own.join(wider, on="token").select(
        "subject_id", token="above", scale=pl.lit(None, pl.String), onset=pl.lit(False)
    )
    every = pl.concat([own, above.unique()]).unique()
    every = every.filter(pl.struct(name).hash(seed=0).rank("ordinal").over("subject_id") <= MOST_NAMES)
    summed = (
        every.with_columns(part=1.0 / pl.len().over("subject_id").sqrt())
        .group_by(name)
        .agg(pl.col("part").sum())
        .sort(name, nulls_last=False)
    )
    noisy = summed["part"].to_numpy() + noises.names * lot.normal(summed.height)
    return summed.select(name).with_columns(noisy=noisy).filter(pl.Series(noisy >= threshold(noises)))


def threshold(noises: Noises) -> float:
    """Return what a name's noisy sum has to reach, so that names of one patient alone do with at most `delta`."""
    number = np.arange(1, MOST_NAMES + 1)
    return float((1.0 / np.sqrt(number) + noises.names * norm.isf(noises.delta / number)).max())


def leaf_of(value: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return each value's leaf of the tree."""
    share = (np.arcsinh(value / _SMALLEST) + _REACH) / (2 * _REACH)
    leaves = 2 ** (LEVELS - 1)
    leaf: NDArray[np.int64] = np.clip((share * leaves).astype(np.int64), 0, leaves - 1)
    return leaf


def _value_at(place: float) -> float:
    """Return the value at a place among the leaves, from 0 to 1."""
    return float(np.sinh(place * 2 * _REACH - _REACH) * _SMALLEST)


def _noisy_scales(
    rows: pl.DataFrame, units: dict[str, str], codes: list[str], noises: Noises, lot: Lot
) -> tuple[list[str | None], NDArray[np.float32]]:
    """Return units and knots by code. Each patient gives each of his m codes a histogram of weight 1 / sqrt(m)."""
    row_of = {code: row for row, code in enumerate(codes)}
    unit_of: list[str | None] = [None] * len(codes)
    knots = np.full((len(codes), len(QUANTILES)), np.nan, dtype=np.float32)
    if not units:
        return unit_of, knots
    tokens = sorted(units)
    wanted = pl.DataFrame({"token": tokens, "scale": [units[each] for each in tokens], "tree": range(len(tokens))})
    values = rows.join(wanted, on=["token", "scale"]).select(
        "subject_id",
        "tree",
        value=pl.col("numeric_value").cast(pl.Float64),
        part=1.0 / pl.len().over("subject_id", "tree") / pl.col("tree").n_unique().over("subject_id").sqrt(),
    )
    leaves = 2 ** (LEVELS - 1)
    flat = values["tree"].to_numpy() * leaves + leaf_of(values["value"].to_numpy())
    counts = np.bincount(flat, weights=values["part"].to_numpy(), minlength=len(tokens) * leaves)
    levels = [counts.reshape(len(tokens), -1)]
    while levels[-1].shape[1] > 1:
        levels.append(levels[-1].reshape(len(tokens), -1, 2).sum(axis=2))
    noise = noises.scales * np.sqrt(LEVELS)
    tree = [level + noise * lot.normal(level.size).reshape(level.shape) for level in reversed(levels)]
    for number, token in enumerate(tokens):
        if tree[0][number, 0] >= _FEWEST_SCALE * noise:
            unit_of[row_of[token]] = units[token] or None
            found = [_quantile([level[number] for level in tree], share, noise) for share in QUANTILES]
            knots[row_of[token]] = _within_reason(np.array(found))
    return unit_of, knots


def _within_reason(found: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return quantiles that rise; the outermost are extended from their neighbours, for few values lie there.

    What noise has thrown far out is drawn back to three times where a normal distribution of this middle would have it.
    """
    place = norm.ppf(QUANTILES)
    middle = len(QUANTILES) // 2
    found = np.maximum.accumulate(found)
    spread = (found[middle + 1] - found[middle - 1]) / (place[middle + 1] - place[middle - 1])
    found = np.clip(found, found[middle] - 3 * spread * np.abs(place), found[middle] + 3 * spread * np.abs(place))
    for outer, inner in ((0, 1), (-1, -2)):
        found[outer] = found[inner] + (found[inner] - found[middle]) * (place[outer] / place[inner] - 1)
    return found


def _quantile(tree: list[NDArray[np.float64]], share: float, noise: float) -> float:
    """Walk down a noisy tree to a quantile; a node that holds little beside the noise is taken as even."""
    node = 0
    for depth, level in enumerate(tree[1:], start=1):
        left, right = (max(float(level[2 * node + side]), 0.0) for side in (0, 1))
        if left + right < 4 * noise:
            return _value_at((node + share) / 2.0 ** (depth - 1))
        part = left / (left + right)
        if share < part:
            node, share = 2 * node, share / part
        else:
            node, share = 2 * node + 1, (share - part) / max(1 - part, 1e-12)
    return _value_at((node + share) / 2.0 ** (len(tree) - 1))


@dataclass(frozen=True)
class NoisyRates:
    """What the noisy sum of rates tells: patients (at least 1), and where the hazards begin."""

    patients: float
    base: BaseRates


def private_rates(tokens: Tokens, num_outcomes: int, noises: Noises, lot: Lot) -> NoisyRates:
    """Return the noisy number of patients, and each outcome's hazards, constant in time."""
    part = rate_parts(tokens, num_outcomes)
    total = part.sum(axis=0) + noises.rates * lot.normal(part.shape[1])
    patients, years = max(total[0] / _PATIENT, 1.0), max(total[1] / _YEAR, 1.0)
    # Half a standard deviation of the noise is the least that an outcome is taken to have.
    onsets = np.maximum(total[2:], 0.5 * noises.rates) / _ONSET
    rate = np.maximum(onsets / (years * 365.25), _CONSTANT_RATE / 10)
    first = np.repeat(np.log(rate)[:, None], NUM_BINS, axis=1).astype(np.float32)
    return NoisyRates(patients, BaseRates(first, first + np.float32(_AGAIN)))


def rate_parts(tokens: Tokens, num_outcomes: int) -> NDArray[np.float64]:
    """Return each patient's part of the sum of rates [S, 2 + O], its norm at most 1."""
    part = np.zeros((tokens.num_subjects, 2 + num_outcomes))
    part[:, 0] = _PATIENT
    first = np.minimum(tokens.starts[:-1] + tokens.num_static, len(tokens) - 1)
    part[:, 1] = np.maximum(tokens.end - tokens.micros[first], 0) / DAY_US / 365.25 * _YEAR
    owner, row = ragged(tokens.starts[:-1], tokens.starts[1:])
    marked = tokens.outcome[row] >= 0
    part[owner[marked], 2 + tokens.outcome[row[marked]]] = _ONSET
    cut: NDArray[np.float64] = part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1.0)
    return cut
