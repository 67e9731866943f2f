"""Why a risk is what it is: the chart's events whose absence would change it most.

A shortlist comes from the history's own weights and from gradients; each event on it is then left out of the record in
truth, and everything is computed anew: tokens, history, network. One pass answers for all outcomes and horizons.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from lifechart.core.timeline import Timeline
from lifechart.model.batches import Collator, cut
from lifechart.model.checkpoint import Model
from lifechart.model.encoders import Pictures
from lifechart.model.encoders.image import copies
from lifechart.model.heads import WIDTHS
from lifechart.model.inference import Told, tell
from lifechart.model.questions import Questions, ask, history
from lifechart.model.tokens import Entries, Tokens, tokens_of, with_items
from lifechart.model.vocabulary import QUANTILES

NUM_LEFT_OUT = 6
"""Events left out in turn."""
_LEAST_EFFECT = 0.03
_LEADING = 6


@dataclass(frozen=True)
class Look:
    """What the network told of one question, and which events of the chart that rests on."""

    told: Told
    chosen: NDArray[np.int64]
    """Rows of Tokens, those that matter most first."""


def drivers_of(
    model: Model,
    collator: Collator,
    read: Entries,
    tokens: Tokens,
    questions: Questions,
    look: Look,
    known: Timeline,
    pictures: Pictures | None = None,
) -> list[list[tuple[tuple[int, float], ...]]]:
    """Return the drivers of one question's risks by outcome and horizon: (row of the chart, effect), strongest first.

    `read`: the entries of the chart `known`, which `tokens` were made of. `pictures`: where its images are.
    """
    outcomes = look.told.log_hazard.shape[1]
    found: list[list[tuple[tuple[int, float], ...]]] = [[()] * len(WIDTHS) for _ in range(outcomes)]
    if not len(look.chosen):
        return found
    rows = tokens.row[look.chosen]
    variants = tokens_of(read.without_each(rows), model.vocabulary)
    if tokens.items is not None:
        images = copies(pictures, known.subject_id, len(rows))
        variants = with_items(variants, _without_each(known, rows), model.vocabulary, images)
    # A chart's first event may be the one left out: ages then still count from the chart's own origin.
    micros = np.repeat(questions.micros + tokens.origin, variants.num_subjects) - variants.origin
    changed = tell(model.network, collator, variants, ask(variants, np.arange(variants.num_subjects), micros))
    effects = _log_cumulative(model, look.told) - _log_cumulative(model, changed)
    strongest = np.argsort(-np.abs(effects), axis=0)
    for place, o, h in np.argwhere(np.abs(np.take_along_axis(effects, strongest, axis=0)) >= _LEAST_EFFECT).tolist():
        i = strongest[place, o, h]
        found[o][h] += ((int(rows[i]), float(effects[i, o, h])),)
    return found


def look(
    model: Model, collator: Collator, tokens: Tokens, questions: Questions, about: NDArray[np.int64] | None = None
) -> Look:
    """Answer one question as `tell` does, and choose up to NUM_LEFT_OUT rows that matter for what stands out.

    `about`: outcomes to choose for, in the place of those that stand out.

    An outcome stands out by how far its hazard lies above the usual. For each of the leading ones, an event's weight is
    what its code's entries of the history add to the log hazard, the wide part directly and the deep part to first
    order, and what its place in the backbone adds to all of them. Each outcome in turn names its next strongest.
    """
    windows = cut(tokens, questions, collator.context)
    batch, _ = collator.batch(tokens, questions, windows, np.arange(1))
    head = model.network.hazards
    with torch.enable_grad():
        x_RTD = model.network.encoder(batch.events)
        modal = model.network.modal if batch.modal is not None else None
        if modal is not None and batch.modal is not None:
            x_RTD = modal.at_events(batch.modal, x_RTD)
        x_RTD = x_RTD.detach().requires_grad_(True)
        code_QZ, wide_QO = head.read_history(batch.history)
        code_QZ = code_QZ.detach().requires_grad_(True)
        hidden_RTD = model.network.backbone(x_RTD, batch.days_RT, batch.place_RT)
        hidden_QD = hidden_RTD.flatten(0, 1)[batch.cell_Q]
        log_hazard, state = head.forecast(hidden_QD, code_QZ, wide_QO.detach(), batch.features_QF, batch.had_QO)
        if modal is not None and batch.modal is not None:
            log_hazard = log_hazard + modal(batch.modal, batch.had_QO).unsqueeze(-1)
        log_hazard_QOB, state_QZ = (part.detach().float().cpu().numpy() for part in (log_hazard, state))
        told = Told(log_hazard_QOB, state_QZ, batch.had_QO.cpu().numpy())
        leading = torch.from_numpy(_leading(model, told) if about is None else about)
        height_L = log_hazard[0, leading].mean(dim=1)
        by_code_LZ = torch.cat([torch.autograd.grad(each, code_QZ, retain_graph=True)[0] for each in height_L])
        (by_event,) = torch.autograd.grad(height_L.sum(), x_RTD)
    weights = head.history.weight.detach()[batch.history[0]] * batch.history[1].unsqueeze(1)
    added_L = weights[:, : head.rank] @ by_code_LZ.T + weights[:, head.rank :][:, leading]
    score_L = np.zeros((len(tokens), len(leading)))
    past = history(tokens, questions, model.vocabulary.valued, len(QUANTILES))
    np.add.at(score_L, past.token, added_L.cpu().numpy())
    window_rows = np.arange(windows.first[0] - windows.lead[0], windows.last[0])
    window_rows[: windows.lead[0]] = np.arange(windows.lead[0])
    here = (by_event * x_RTD).sum(-1).detach().flatten().cpu().numpy()[: len(window_rows)]
    score_L[window_rows] += here[:, None] / len(leading)
    return Look(told, _in_turn(np.where(tokens.row[:, None] < 0, 0.0, np.abs(score_L))))


def _in_turn(score: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return up to NUM_LEFT_OUT rows: each column's strongest in the columns' order, then each one's next.

    score: [N, columns].
    """
    best = np.argsort(-score, axis=0, kind="stable")[:NUM_LEFT_OUT]
    named = [row for place in best for row, own in zip(place, score[place, range(score.shape[1])], strict=True) if own]
    return np.array(list(dict.fromkeys(named))[:NUM_LEFT_OUT], dtype=np.int64)


def _without_each(known: Timeline, rows: NDArray[np.int64]) -> pl.DataFrame:
    """Return the chart once for each row, that row left out, told apart by subject_id 0, 1, 2 …"""
    size = len(known)
    keep = np.concatenate([np.delete(np.arange(size), row) for row in rows])
    copy = np.repeat(np.arange(len(rows)), size - 1)
    return known.events[keep].with_columns(subject_id=pl.Series(copy, dtype=pl.Int64))


def _leading(model: Model, told: Told) -> NDArray[np.int64]:
    """Return the outcomes that stand out most above the usual hazard, by relative entropy, as an answer ranks them."""
    hazard = model.calibration.hazards(told.log_hazard)[0].mean(axis=1).astype(np.float64)
    above = hazard - model.calibration.centre
    rate, usual = np.exp(hazard), np.exp(model.calibration.centre.astype(np.float64))
    excess = np.where(above > 0, rate * above - (rate - usual), -1.0)
    # What is in the record already is no risk ahead; where little else stands out, what lies least below comes next.
    order = np.lexsort((-above, -np.maximum(excess, 0.0), told.had[0]))
    return order[:_LEADING]


def _log_cumulative(model: Model, told: Told) -> NDArray[np.float64]:
    hazard = np.exp(model.calibration.hazards(told.log_hazard).astype(np.float64)) * np.array(WIDTHS)
    log_cumulative: NDArray[np.float64] = np.log(np.cumsum(hazard, axis=2))
    return log_cumulative
