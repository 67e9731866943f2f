"""Why a risk is what it is: the chart's events whose absence would change it most.

A shortlist comes from the history's own weights and from gradients; each event on it is then left out of the record in
truth, and everything is computed anew: tokens, history, network. One pass answers for all outcomes and horizons.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from lifechart.core.forecast import Driver
from lifechart.core.timeline import Timeline
from lifechart.model.batches import Collator, cut
from lifechart.model.checkpoint import Model
from lifechart.model.heads import WIDTHS
from lifechart.model.inference import Told, tell
from lifechart.model.questions import Questions, ask, history
from lifechart.model.tokens import Tokens, tokenise
from lifechart.model.vocabulary import QUANTILES

NUM_LEFT_OUT = 5
"""Events left out in turn."""
_LEAST_EFFECT = 0.03
_LEADING = 6


def drivers_of(
    model: Model, collator: Collator, known: Timeline, tokens: Tokens, questions: Questions, told: Told
) -> list[list[tuple[Driver, ...]]]:
    """Return the drivers of one question's risks, by outcome and horizon, strongest first."""
    chosen = shortlist(model, collator, tokens, questions, told)
    outcomes = told.log_hazard.shape[1]
    if not len(chosen):
        return [[()] * len(WIDTHS)] * outcomes
    without = _without_each(known, tokens.row[chosen])
    variants = tokenise(without, model.vocabulary)
    # A chart's first event may be the one left out: ages then still count from the chart's own origin.
    micros = np.repeat(questions.micros + tokens.origin, variants.num_subjects) - variants.origin
    changed = tell(model.network, collator, variants, ask(variants, np.arange(variants.num_subjects), micros))
    with_all = _log_cumulative(model, told)
    effects = with_all - _log_cumulative(model, changed)
    codes = known.events["code"].gather(tokens.row[chosen]).to_list()
    orders, strong = np.argsort(-np.abs(effects), axis=0), np.abs(effects) >= _LEAST_EFFECT
    rows = tokens.row[chosen].tolist()
    return [
        [
            tuple(Driver(rows[i], codes[i], float(effects[i, o, h])) for i in orders[:, o, h] if strong[i, o, h])
            for h in range(len(WIDTHS))
        ]
        for o in range(outcomes)
    ]


def shortlist(model: Model, collator: Collator, tokens: Tokens, questions: Questions, told: Told) -> NDArray[np.int64]:
    """Return up to NUM_LEFT_OUT rows of Tokens that matter most for the outcomes that stand out.

    An outcome stands out by how far its hazard lies from the usual. For those, an event's weight is what its code's
    entries of the history add to the log hazard, the wide part directly and the deep part to first order.
    """
    calibration = model.calibration
    unusual = np.abs(told.log_hazard[0].mean(axis=1) - calibration.centre)
    leading = np.argsort(-unusual)[:_LEADING]
    windows = cut(tokens, questions, collator.context)
    batch, _ = collator.batch(tokens, questions, windows, np.arange(1))
    past = history(tokens, questions, model.vocabulary.valued, len(QUANTILES))
    head = model.network.hazards
    with torch.enable_grad():
        x_RTD = model.network.encoder(batch.events).detach().requires_grad_(True)
        code_QZ, wide_QO = head.read_history(batch.history)
        code_QZ = code_QZ.detach().requires_grad_(True)
        hidden_RTD = model.network.backbone(x_RTD, batch.days_RT, batch.place_RT)
        hidden_QD = hidden_RTD.flatten(0, 1)[batch.cell_Q]
        log_hazard, _ = head.forecast(hidden_QD, code_QZ, wide_QO.detach(), batch.features_QF, batch.had_QO)
        total = log_hazard[0, torch.from_numpy(leading)].mean(dim=1).sum()
        by_event, by_code = torch.autograd.grad(total, [x_RTD, code_QZ])
    weights = head.history.weight.detach()[batch.history[0]] * batch.history[1].unsqueeze(1)
    deep = weights[:, : head.rank] @ by_code[0]
    wide = weights[:, head.rank :][:, torch.from_numpy(leading)].abs().sum(dim=1)
    score = np.zeros(len(tokens))
    np.add.at(score, past.token, (deep.abs() + wide).cpu().numpy())
    window_rows = np.arange(windows.first[0] - windows.lead[0], windows.last[0])
    window_rows[: windows.lead[0]] = np.arange(windows.lead[0])
    score[window_rows] += (by_event * x_RTD).sum(-1).abs().detach().flatten().cpu().numpy()[: len(window_rows)]
    score[tokens.row < 0] = 0.0
    best = np.argsort(-score)[:NUM_LEFT_OUT]
    return best[score[best] > 0]


def _without_each(known: Timeline, rows: NDArray[np.int64]) -> pl.DataFrame:
    """Return the chart once for each row, that row left out, told apart by subject_id 0, 1, 2 …"""
    size = len(known)
    keep = np.concatenate([np.delete(np.arange(size), row) for row in rows])
    copy = np.repeat(np.arange(len(rows)), size - 1)
    return known.events[keep].with_columns(subject_id=pl.Series(copy, dtype=pl.Int64))


def _log_cumulative(model: Model, told: Told) -> NDArray[np.float64]:
    hazard = np.exp(model.calibration.hazards(told.log_hazard).astype(np.float64)) * np.array(WIDTHS)
    log_cumulative: NDArray[np.float64] = np.log(np.cumsum(hazard, axis=2))
    return log_cumulative
