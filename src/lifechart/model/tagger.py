"""Trains the tagger that finds identifiers in free text, and writes its weights with a note of what they come from.

The network is that of `lifechart.data.deidentify.text.tagger`, which runs it in numpy; here it is in torch. Shapes:
B segments of T tokens, D width of a token's row, H width of the network, L labels.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn import functional

from lifechart.core import durable
from lifechart.core.errors import InputError
from lifechart.data.deidentify.text import augment, corpora, features, tagger
from lifechart.data.deidentify.text.corpora import Text
from lifechart.data.deidentify.text.fill import Filler
from lifechart.data.deidentify.text.words import tokens
from lifechart.ledger.statement import Statement, Subject

DIM, HIDDEN = 32, 96
_SEGMENT = 256
_BATCH = 12
_WORD_DROPOUT = 0.25
"""How often a token is seen without its own row, by its parts alone, as an unknown name will be."""
_DROPOUT = 0.2
_LEARNING_RATE = 3e-3
EPOCHS = {"en": 4, "es": 6}
THRESHOLD = {"en": 0.2, "es": 0.2}
"""Chosen on the tuning parts (docs/guides/text.md)."""
OUTSIDE = "-"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How many texts of each kind."""

    templates: int
    copies: dict[str, int]
    """Set -> copies of each of its texts with other identifiers; the text itself is one more."""


RECIPES = {
    "en": Recipe(10_000, {"asq": 30, "presidio": 3, "simulated": 0}),
    "es": Recipe(2500, {"meddocan": 4}),
}


class Network(nn.Module):
    """The tagger as torch trains it."""

    def __init__(self, num_labels: int) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(features.ROWS, DIM, mode="sum")
        nn.init.normal_(self.table.weight, std=0.1)
        self.gap = nn.Embedding(features.GAPS, DIM)
        widths = [DIM, *[HIDDEN] * len(tagger.DILATIONS)]
        self.layers = nn.ModuleList(
            nn.Conv1d(widths[n], widths[n + 1], tagger.WIDTHS[n], dilation=dilation, padding="same")
            for n, dilation in enumerate(tagger.DILATIONS)
        )
        self.out = nn.Linear(HIDDEN, num_labels)
        self.dropout = nn.Dropout(_DROPOUT)

    def forward(self, rows: Tensor, starts: Tensor, weights: Tensor, place_BT: Tensor, gap_BT: Tensor) -> Tensor:
        """Return logits B x T x L. `rows`, `starts`, `weights`: the bags of the batch's distinct tokens; `place_BT`:
        which of them stands where, -1 for none.
        """
        known = self.table(rows, starts, per_sample_weights=weights)
        there_BT1 = (place_BT >= 0).unsqueeze(-1)
        x_BTD = (known[place_BT.clamp(min=0)] + self.gap(gap_BT)) * there_BT1
        x_BDT = self.dropout(x_BTD).transpose(1, 2)
        there_B1T = there_BT1.transpose(1, 2)
        for layer in self.layers:
            y_BHT = functional.relu(layer(x_BDT))
            x_BDT = (y_BHT + x_BDT if y_BHT.shape == x_BDT.shape else y_BHT) * there_B1T
            x_BDT = self.dropout(x_BDT)
        logits_BTL: Tensor = self.out(x_BDT.transpose(1, 2))
        return logits_BTL

    def weights(self, labels: Sequence[str]) -> tagger.Weights:
        """Return the weights as numpy wants them."""

        def array(tensor: Tensor | nn.Module) -> np.ndarray:
            assert isinstance(tensor, Tensor)
            return tensor.detach().numpy().astype(np.float32)

        return tagger.Weights(
            array(self.table.weight),
            array(self.gap.weight),
            tuple((array(layer.weight).transpose(2, 1, 0).copy(), array(layer.bias)) for layer in self.layers),
            array(self.out.weight).T.copy(),
            array(self.out.bias),
            tuple(labels),
        )


@dataclass(slots=True)
class _Segment:
    tokens: list[int]
    gaps: list[int]
    labels: list[int]


class _Prepared:
    """Texts as numbers: distinct tokens with their rows, and segments that refer to them."""

    def __init__(self, texts: Sequence[Text]) -> None:
        self.labels = (OUTSIDE, *sorted({type_ for text in texts for _, _, type_ in text.spans}))
        self._label = {label: number for number, label in enumerate(self.labels)}
        self._token: dict[str, int] = {}
        self.segments = [segment for text in texts for segment in self._segments(text)]
        self.rows = [features.rows(token) for token in self._token]

    def _segments(self, text: Text) -> list[_Segment]:
        cut = tokens(text.text)
        numbers = [self._token.setdefault(token, len(self._token)) for token, _ in cut]
        gaps = tagger.gaps(text.text, cut)
        labels = [0] * len(cut)
        at = 0
        for start, end, type_ in sorted(text.spans):
            while at < len(cut) and cut[at][1] + len(cut[at][0]) <= start:
                at += 1
            inside = at
            while inside < len(cut) and cut[inside][1] < end:
                labels[inside] = self._label[type_]
                inside += 1
        starts = range(0, len(cut), _SEGMENT)
        return [_Segment(numbers[n : n + _SEGMENT], gaps[n : n + _SEGMENT], labels[n : n + _SEGMENT]) for n in starts]


class Ledger(Protocol):
    """Where the statement goes."""

    def append(self, statement: Statement) -> object:
        """Write it durably, or raise AuditError."""


def train_tagger(
    language: str, texts: Path, out: Path, *, hospital: Path | None, seed: int, log: Ledger
) -> dict[str, Any]:
    """Train on the sets under `texts` (see corpora) and a simulated `hospital`; write `out/LANGUAGE.npz` and `.json`.

    The same arguments, versions and thread count give the same bytes. Returns the note; `log` gets it as a statement.
    Raises InputError for a language that has no recipe, or where a set is absent.
    """
    if language not in RECIPES:
        raise InputError("LANGUAGE", language, f"one of {sorted(RECIPES)}")
    gold = training_texts(language, texts, hospital)
    made = augmented(language, gold, seed)
    prepared = _Prepared(made)
    torch.manual_seed(seed)
    network = Network(len(prepared.labels))
    _fit(network, prepared, EPOCHS[language], seed)
    out.mkdir(parents=True, exist_ok=True)
    with durable.replacing(out / f"{language}.npz") as aside:
        tagger.save(network.weights(prepared.labels), aside)
    digest = durable.file_digest(out / f"{language}.npz")
    with_notes = "" if hospital is None else " --hospital SIM"
    note: dict[str, Any] = {
        "language": language,
        "threshold": THRESHOLD[language],
        "weights": digest,
        "seed": seed,
        "epochs": EPOCHS[language],
        "texts": {name: len(found) for name, found in gold.items()},
        "digests": {name: _digest(found) for name, found in gold.items()},
        "examples": len(made),
        "sources": {name: SOURCES[name] for name in gold},
        "command": f"lifechart train-tagger {language} --texts TEXTS{with_notes} --seed {seed} --out OUT",
    }
    durable.write_json(out / f"{language}.json", note)
    log.append(Statement("train-tagger", (Subject(f"{language}.npz", digest),), note))
    return note


SOURCES = {
    "asq": "ASQ-PHI development queries, MIT (JamesWeatherhead/synthetic-clinical-queries); the part not held out",
    "presidio": "presidio-research synthetic sentences v2, MIT (Microsoft); the part not held out",
    "pubmedqa": "PubMedQA abstracts, MIT; sentences without places or dates, as texts without identifiers",
    "mts-dialog": "MTS-Dialog notes, CC BY 4.0 (Ben Abacha et al., 2023); sentences that name nobody",
    "simulated": "this project's simulated hospital",
    "meddocan": "MEDDOCAN training cases, CC BY 4.0 (Marimon et al., 2019)",
}


def training_texts(language: str, texts: Path, hospital: Path | None) -> dict[str, list[Text]]:
    """Return the marked texts of a language by set, without any that is held out."""
    if language == "es":
        found = {
            "meddocan": [text for text in corpora.meddocan(texts / "meddocan-train-dev.tar.gz") if text.part == "train"]
        }
    else:
        found = {
            "asq": corpora.asq(texts / "asq-phi-dev.txt"),
            "presidio": corpora.presidio(texts / "presidio-synth-v2.json.gz"),
            "mts-dialog": corpora.mts_dialog(texts / "mts-dialog.tar.gz", 6000),
            "pubmedqa": corpora.pubmedqa(texts / "pubmedqa-pqal.json.gz", 5000),
        }
        if hospital is not None:
            found["simulated"] = corpora.simulated(hospital, 2500)
    return {name: [text for text in listed if not text.held_out] for name, listed in found.items()}


def augmented(language: str, gold: dict[str, list[Text]], seed: int) -> list[Text]:
    """Return what is trained on: the texts, copies of them with other identifiers, and filled templates."""
    recipe = RECIPES[language]
    chance = random.Random(seed)
    pool = augment.pools(text for listed in gold.values() for text in listed)
    filler = Filler(language, seed, pool)
    made = list(augment.from_templates(language, recipe.templates, filler, chance))
    for name, listed in gold.items():
        for text in listed:
            made.append(text)
            made += [augment.swapped(text, filler, chance, 0.7) for _ in range(recipe.copies.get(name, 0))]
    return [augment.roughened(text, chance) for text in made]


def _digest(texts: Sequence[Text]) -> str:
    return durable.digest_of([[text.text, [list(span) for span in text.spans]] for text in texts])


def _fit(network: Network, prepared: _Prepared, epochs: int, seed: int) -> None:
    chance = np.random.default_rng(seed)
    optimiser = torch.optim.AdamW(network.parameters(), lr=_LEARNING_RATE, weight_decay=1e-4)
    # Segments of like length together, so that little of a batch is room.
    order = sorted(range(len(prepared.segments)), key=lambda n: len(prepared.segments[n].tokens))
    batches = _batches(prepared, order)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, _LEARNING_RATE, total_steps=epochs * len(batches), pct_start=0.1
    )
    network.train()
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("Training", total=epochs * len(batches))
        for _ in range(epochs):
            for number in chance.permutation(len(batches)):
                loss = _loss(network, prepared, batches[number], chance)
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
                bar.advance(task)
    network.eval()


def _batches(prepared: _Prepared, order: list[int]) -> list[list[_Segment]]:
    batches: list[list[_Segment]] = [[]]
    size = 0
    for number in order:
        segment = prepared.segments[number]
        if size + len(segment.tokens) > _BATCH * _SEGMENT:
            batches.append([])
            size = 0
        batches[-1].append(segment)
        size += len(segment.tokens)
    return [batch for batch in batches if batch]


def _loss(network: Network, prepared: _Prepared, batch: list[_Segment], chance: np.random.Generator) -> Tensor:
    length = max(len(segment.tokens) for segment in batch)
    place = np.full((len(batch), length), -1)
    gap, label = np.zeros((len(batch), length), np.int64), np.full((len(batch), length), -1)
    for row, segment in enumerate(batch):
        size = len(segment.tokens)
        place[row, :size], gap[row, :size], label[row, :size] = segment.tokens, segment.gaps, segment.labels
    distinct, local = np.unique(place, return_inverse=True)
    local = local.reshape(place.shape)
    if distinct[0] == -1:
        distinct, local = distinct[1:], local - 1
    rows: list[int] = []
    starts: list[int] = []
    kept: list[float] = []
    dropped = chance.random(len(distinct)) < _WORD_DROPOUT
    for number, drop in zip(distinct.tolist(), dropped.tolist(), strict=True):
        word, others = prepared.rows[number]
        starts.append(len(rows))
        rows += [word, *others]
        kept += [0.0 if drop else 1.0, *[1.0] * len(others)]
    tensors = (torch.tensor(rows), torch.tensor(starts), torch.tensor(kept))
    logits_BTL = network(*tensors, torch.from_numpy(local), torch.from_numpy(gap))
    return functional.cross_entropy(logits_BTL.flatten(0, 1), torch.from_numpy(label).flatten(), ignore_index=-1)
