"""Futures, one event at a time: from a prompt on, until time is spent, death, or everything asked about has happened.

Every draw is a function of the seed, the prompt, the future and the step, so a future does not depend on which others
are generated beside it, nor on when those are done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lifechart.core.errors import InputError
from lifechart.core.predicate import Target
from lifechart.core.timeline import DEATH
from lifechart.model.batches import Collator, cut, question_features
from lifechart.model.decoding import Decoder
from lifechart.model.encoders.event import event_arrays
from lifechart.model.futures import DIED, LENGTH, MET, TIME, Futures
from lifechart.model.modalities import attach
from lifechart.model.network import Network
from lifechart.model.next_event import Anchor, interval
from lifechart.model.past import Past
from lifechart.model.questions import Questions, history, label
from lifechart.model.sampling import choose, draw_value, draws, wait
from lifechart.model.targets import Wanted, wanted
from lifechart.model.tokens import DAY_US, Tokens
from lifechart.model.vocabulary import QUANTILES

# Shapes: P prompts, N futures of a prompt, E = P x N rows, D width, V codes, A targets, U horizons, X kinds of value.

_ROWS = 640
"""Futures that are generated side by side."""
_CELLS = 1_000_000
"""Most cells of (futures, codes) that are held at a time."""
_RETIRE_BELOW = 0.75
"""Share of futures still open at which those that are done make room."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What to generate. A future ends after `days`, at death, or after `most_events`."""

    futures: int = 20
    days: float = 365.0
    seed: int = 0
    targets: tuple[Target, ...] = ()
    horizons: tuple[float, ...] = ()
    """Days within which targets are counted, rising; by default `days` alone."""
    gap: float = 0.0
    """Days after the prompt in which meeting a target does not count."""
    until_met: bool = False
    """End a future also once it has met every target."""
    without: bool = False
    """Keep the one target from happening and multiply up the chance that it does not: REACH. Its code alone decides."""
    most_events: int = 2000


class Reader(Protocol):
    """What generation asks of a decoder; the tests put an uncached one in its place."""

    def read(self, x_PTD: Tensor, days_PT: Tensor, place_PT: Tensor, lengths_P: Tensor, futures: int) -> Tensor:
        """Read prompts; return the hidden state of each one's last event [P, D]."""

    def step(self, x_PND: Tensor, days_PN: Tensor, place_PN: Tensor) -> Tensor:
        """Read one more event of each future; return its hidden state [P, N, D]."""

    def retire(self, prompts: Tensor, futures_PN: Tensor) -> None:
        """Keep these prompts, and of each these futures."""


@torch.inference_mode()
def generate(
    network: Network,
    collator: Collator,
    tokens: Tokens,
    questions: Questions,
    ask: Ask,
    advance: Callable[[float], None] = lambda share: None,
    reader: Callable[[Any], Reader] = Decoder,
) -> Futures:
    """Generate `ask.futures` futures of each question. `advance` is told what share of them is done.

    Raises InputError for a target that no learnt code can meet, and for one to keep out that a value decides.
    """
    if collator.device.type != "cpu":
        raise InputError("device", str(collator.device), "cpu: futures are generated there")
    if not network.next_event.learnt:
        raise InputError("model", "a next-event head that learnt nothing", "a model trained without --private")
    found = wanted(ask.targets, collator.vocabulary)
    if ask.without and not (len(ask.targets) == 1 and found.by_code_alone.all()):
        names = [each.name for each in ask.targets]
        raise InputError("targets to keep out", names, "one target that its code alone decides")
    size = max(1, min(_ROWS, _CELLS // len(collator.vocabulary)) // ask.futures)
    parts = []
    # Prompts of like length side by side: the shorter ones are padded to the longest.
    order = np.argsort(questions.stop - tokens.starts[questions.subject], kind="stable")
    for start in range(0, len(questions), size):
        chosen = order[start : start + size]
        run = _Run(network, collator, tokens, questions.take(chosen), chosen, ask, found, reader(network.backbone))
        parts.append(run.all())
        advance(min(start + size, len(questions)) / len(questions))
    return _collected(parts, order, len(questions), ask, len(found.names), questions)


class _Run:
    """One batch of prompts with their futures."""

    def __init__(
        self,
        network: Network,
        collator: Collator,
        tokens: Tokens,
        questions: Questions,
        numbers: NDArray[np.int64],
        ask: Ask,
        found: Wanted,
        reader: Reader,
    ) -> None:
        self.network, self.collator, self.ask, self.found, self.reader = network, collator, ask, found, reader
        self.head, self.vocabulary = network.next_event, collator.vocabulary
        P, N = len(questions), ask.futures
        self.numbers = torch.from_numpy(numbers)
        self.who_PN = torch.arange(P).unsqueeze(1) * N + torch.arange(N)
        self.death = self.vocabulary.rows.get(DEATH, -1)
        self.valued = torch.from_numpy(self.vocabulary.valued)
        self.knots = torch.from_numpy(self.vocabulary.knots).double()
        self.whole_AV = torch.from_numpy(found.whole)
        self.shares_AWX = torch.from_numpy(found.shares)
        self.horizons = torch.tensor(ask.horizons or (ask.days,), dtype=torch.float64)
        shape = (P * N, len(found.names), len(self.horizons))
        self.hits, self.expected = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        self.ended = np.full(P * N, LENGTH, dtype=np.int8)
        self.events: list[tuple[NDArray[Any], ...]] = []
        self._read(tokens, questions, N)

    def _read(self, tokens: Tokens, questions: Questions, N: int) -> None:
        """Read the prompts: their last hidden states, forecasts, and what each code did before."""
        rows, lengths = prompt_rows(tokens, questions, self.collator.context)
        held = np.maximum(rows, 0)
        events = event_arrays(tokens, rows, self.vocabulary.valued, self.collator.device)
        start = tokens.starts[questions.subject]
        x_PTD = self.network.encoder(events)
        modal = self.network.modal
        attached = None
        if modal is not None:
            attached = modal.there(attach(tokens.items, questions.subject, questions.micros, rows))
        if modal is not None and attached is not None:
            x_PTD = modal.at_events(attached, x_PTD)
        days = torch.from_numpy((tokens.micros[held] / DAY_US).astype(np.float32))
        place = torch.from_numpy((held - start[:, None]).astype(np.float32))
        hidden_PD = self.reader.read(x_PTD, days, place, torch.from_numpy(lengths), N)
        past = self.collator.history(history(tokens, questions, self.vocabulary.valued, len(QUANTILES)))
        had = torch.from_numpy(label(tokens, questions, len(self.vocabulary.outcomes)).had)
        features = torch.from_numpy(question_features(tokens, questions))
        log_hazard, state_PZ = self.network.hazards(hidden_PD, features, past, had)
        if modal is not None and attached is not None:
            log_hazard = log_hazard + modal(attached, had).unsqueeze(-1)
        each = torch.arange(len(questions)).repeat_interleave(N)
        self.state_EZ = state_PZ.float()[each]
        self.relative_EOB = (log_hazard.float() - self.network.hazards.base_OB)[each]
        self.past = Past.at(tokens, questions, len(self.vocabulary)).take(each)
        self.hidden_ED = hidden_PD[each]
        last = questions.stop - 1
        self.asked_E = torch.from_numpy(questions.micros)[each]
        self.micros_E = torch.from_numpy(tokens.micros[last])[each]
        self.code_E = torch.from_numpy(tokens.code[last])[each]
        self.place_E = torch.from_numpy(questions.stop - start)[each]
        self.open_E = torch.ones(len(each), dtype=torch.bool)
        self.met_EA = torch.zeros(len(each), len(self.found.names), dtype=torch.bool)
        self.unmet_EAU = torch.ones(len(each), len(self.found.names), len(self.horizons))

    def all(self) -> tuple[Any, ...]:
        """Generate until every future is done."""
        for step in range(self.ask.most_events):
            self._step(step)
            if not self.open_E.any():
                break
            if self.open_E.float().mean() < _RETIRE_BELOW:
                self._retire()
            self._feed()
        rows = [np.concatenate(each) for each in zip(*self.events, strict=True)] if self.events else [np.zeros(0)] * 4
        return rows, self.ended, self.hits, self.expected

    def _step(self, step: int) -> None:
        age = (self.micros_E - self.asked_E).clamp(min=0).double() / DAY_US
        days = age.float()
        # Row by row: the interval of the forecast that speaks of now.
        relative_EO = self.relative_EOB.gather(
            2, interval(days).view(-1, 1, 1).expand(-1, self.relative_EOB.shape[1], 1)
        ).squeeze(2)
        state_ED = self.head.state(self.hidden_ED, Anchor(self.state_EZ, relative_EO, days))
        odds, log_hazard_EB = self.head.waiting(state_ED)
        lot = draws(self.ask.seed, self.numbers, self.who_PN, self.ask.futures, step)
        since = (self.asked_E - self.micros_E).clamp(min=0).double() / DAY_US if step == 0 else torch.zeros_like(age)
        same = (lot[0] < torch.sigmoid(odds).double()) & (step > 0)
        gap_days = wait(log_hazard_EB.double(), since, lot[1])
        # A microsecond at least, so that what is later is later on the calendar too.
        later = torch.clamp((gap_days * DAY_US).long(), min=1)
        when = torch.where(same, self.micros_E, self.micros_E + later)
        if step == 0:
            when = torch.maximum(when, self.asked_E + 1)
        ahead = (when - self.asked_E).double() / DAY_US
        over = self.open_E & (ahead > self.ask.days)
        self._close(over, TIME)
        until = ((when - self.micros_E).double() / DAY_US).float()
        logits = self.head.code_logits(state_ED, same, until, self.code_E, relative_EO)
        probability_EV = torch.softmax(logits, dim=1)
        self._expect(state_ED, probability_EV, ahead)
        if self.ask.without:
            probability_EV = probability_EV * (1.0 - self.whole_AV[0])
        code = choose(probability_EV, lot[2])
        levels = self.past.levels(code)
        kind = choose(torch.softmax(self.head.value_logits(state_ED, code, levels), dim=1), lot[3])
        level, tail, value = draw_value(kind, lot[4], self.knots[code], self.valued[code] >= 0)
        self.gap_E = (when - self.micros_E).double() / DAY_US
        self.micros_E, self.code_E = when, code
        self.level_E, self.tail_E = level, tail
        self._record(value, ahead)

    def _expect(self, state_ED: Tensor, probability_EV: Tensor, ahead: Tensor) -> None:
        """Add up the chance that this event meets each target (or multiply up that it does not)."""
        if not self.found.names:
            return
        chance_EA = probability_EV @ self.whole_AV.T
        for place, row in enumerate(self.found.codes.tolist()):
            code = torch.full((len(probability_EV),), row)
            kinds = torch.softmax(self.head.value_logits(state_ED, code, self.past.levels(code)), dim=1)
            chance_EA = chance_EA + probability_EV[:, row : row + 1] * (kinds @ self.shares_AWX[:, place].T)
        counts = self.open_E & (ahead > self.ask.gap)
        within_EU = counts.unsqueeze(1) & (ahead.unsqueeze(1) <= self.horizons)
        step_EAU = chance_EA.clamp(max=1.0).unsqueeze(2) * (~self.met_EA).unsqueeze(2) * within_EU.unsqueeze(1)
        who = self.who_PN.reshape(-1).numpy()
        self.expected[who] += np.where(
            self.open_E.numpy()[:, None, None], self._increment(step_EAU).numpy(), np.float32(0.0)
        )

    def _increment(self, step_EAU: Tensor) -> Tensor:
        """SCOPE adds the chance; REACH adds it times the chance that nothing happened before."""
        if not self.ask.without:
            return step_EAU
        increment = step_EAU * self.unmet_EAU
        self.unmet_EAU = self.unmet_EAU - increment
        return increment

    def _record(self, value: Tensor, ahead: Tensor) -> None:
        """Note the event, count what it meets, and close the futures that it ends."""
        open_ = self.open_E.nonzero().squeeze(1)
        who = self.who_PN.reshape(-1)[open_].numpy()
        kept = (who, self.micros_E[open_].numpy(), self.code_E[open_].numpy(), value[open_].float().numpy())
        self.events.append(kept)
        if self.found.names:
            meets = self._meets(value) & (self.open_E & (ahead > self.ask.gap)).unsqueeze(1)
            first = meets & ~self.met_EA
            within_EU = ahead.unsqueeze(1) <= self.horizons
            self.hits[who] += (first.unsqueeze(2) & within_EU.unsqueeze(1))[open_].float().numpy()
            self.met_EA |= meets
        self._close(self.open_E & (self.code_E == self.death), DIED)
        if self.ask.until_met and self.found.names:
            self._close(self.open_E & self.met_EA.all(1), MET)

    def _meets(self, value: Tensor) -> Tensor:
        """Say which targets the event just drawn meets [E, A], by the definition itself where a value decides."""
        meets = self.whole_AV[:, self.code_E].T > 0
        for row in self.found.codes.tolist():
            mine = (self.code_E == row).nonzero().squeeze(1).tolist()
            code = self.vocabulary.codes[row].partition("=")[0]
            for place in mine:
                number = float(np.float32(float(value[place])))
                for target, each in enumerate(self.found.targets):
                    meets[place, target] |= any(one.counts(code, number) for one in each.any_of)
        return meets

    def _close(self, done: Tensor, why: int) -> None:
        self.ended[self.who_PN.reshape(-1)[done].numpy()] = why
        self.open_E = self.open_E & ~done

    def _retire(self) -> None:
        """Make room: open futures first, as many columns as the fullest prompt needs, prompts without any dropped."""
        P, N = self.who_PN.shape
        open_PN = self.open_E.view(P, N)
        prompts = open_PN.any(1).nonzero().squeeze(1)
        most = int(open_PN.sum(1).max())
        if most * len(prompts) > _RETIRE_BELOW * P * N:
            return
        futures = torch.argsort(~open_PN[prompts], dim=1, stable=True)[:, :most]
        self.reader.retire(prompts, futures)
        rows = (prompts.unsqueeze(1) * N + futures).reshape(-1)
        self.who_PN = self.who_PN[prompts.unsqueeze(1), futures]
        self.numbers = self.numbers[prompts]
        self.past = self.past.take(rows)
        for name in (
            "state_EZ", "relative_EOB", "asked_E", "micros_E", "code_E", "place_E", "open_E", "met_EA", "unmet_EAU",
            "level_E", "tail_E", "gap_E",
        ):  # fmt: skip
            setattr(self, name, getattr(self, name)[rows])

    def _feed(self) -> None:
        """Read the events just drawn."""
        days = self.micros_E.double() / DAY_US
        events = self.past.add(days, self.gap_E, self.code_E, self.level_E, self.tail_E, self.valued)
        shape = self.who_PN.shape
        x_PND = self.network.encoder(events).view(*shape, -1)
        hidden = self.reader.step(x_PND, days.float().view(shape), self.place_E.float().view(shape))
        self.hidden_ED = hidden.reshape(len(days), -1)
        self.place_E = self.place_E + 1


def prompt_rows(tokens: Tokens, questions: Questions, context: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of Tokens that each question's window shows [P, T], -1 beyond its length [P]."""
    windows = cut(tokens, questions, context)
    mine = windows.of_question
    first, lead = windows.first[mine], windows.lead[mine]
    lengths = lead + questions.stop - first
    places = np.arange(int(lengths.max()))
    start = tokens.starts[questions.subject]
    rows = np.where(places < lead[:, None], start[:, None] + places, (first - lead)[:, None] + places)
    return np.where(places < lengths[:, None], rows, -1), lengths


def _collected(
    parts: Sequence[tuple[Any, ...]], order: NDArray[np.int64], P: int, ask: Ask, targets: int, questions: Questions
) -> Futures:
    """Join the batches and put everything in the order in which it was asked."""
    N, U = ask.futures, len(ask.horizons or (ask.days,))
    ended = np.empty((P, N), np.int8)
    hits, expected = (np.empty((P, N, targets, U), np.float32) for _ in range(2))
    columns: list[list[NDArray[Any]]] = [[], [], [], []]
    at = 0
    for rows, part_ended, part_hits, part_expected in parts:
        mine = order[at : at + len(part_ended) // N]
        at += len(mine)
        ended[mine] = part_ended.reshape(len(mine), N)
        hits[mine], expected[mine] = (each.reshape(len(mine), N, targets, U) for each in (part_hits, part_expected))
        who = rows[0].astype(np.int64)
        columns[0].append(mine[who // N] * N + who % N)
        for place in (1, 2, 3):
            columns[place].append(rows[place])
    who, micros, code, value = (np.concatenate(each) if each else np.zeros(0, np.int64) for each in columns)
    sorted_ = np.argsort(who, kind="stable")
    return Futures(
        prompt=who[sorted_] // N, future=who[sorted_] % N, micros=micros[sorted_].astype(np.int64),
        code=code[sorted_].astype(np.int64), value=value[sorted_].astype(np.float32), ended=ended,
        stop_micros=questions.micros + int(ask.days * DAY_US), hits=hits, expected=expected,
    )  # fmt: skip
