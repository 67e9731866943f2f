"""Identifiers in free text: strict recall, character precision and speed, ours beside Presidio and scrubadub.

The sets are read from ../shared/data; what is reported is the part of each that no training or tuning saw
(lifechart.data.deidentify.text.corpora). The peers run where they are installed, which is one command:
`pip install .[bench-text] scrubadub`.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from bench import _deid_text_peers as peers
from lifechart.data.deidentify.text import corpora
from lifechart.data.deidentify.text.corpora import Text
from lifechart.data.deidentify.text.redact import Request, redact
from lifechart.data.deidentify.text.spans import types
from lifechart.simulate import hospital

SHARED = Path(os.environ.get("LIFECHART_SHARED", Path(__file__).parents[2] / "shared")) / "data"
Found = Sequence[tuple[int, int]]


@dataclass(slots=True)
class Score:
    """How one system did on one set."""

    gold: Counter[str] = field(default_factory=Counter)
    """Class -> gold spans."""
    whole: Counter[str] = field(default_factory=Counter)
    """Class -> gold spans of which every character was taken out."""
    taken: int = 0
    rightly: int = 0
    """Characters taken out, and those of them that stand in a gold span."""
    bytes: int = 0
    seconds: float = 0.0

    @property
    def recall(self) -> float:
        """Strict recall: spans wholly covered."""
        return self.whole.total() / max(self.gold.total(), 1)

    @property
    def precision(self) -> float:
        """Of the characters taken out, the share that are gold."""
        return self.rightly / max(self.taken, 1)

    @property
    def speed(self) -> float:
        """MB/s of processor time."""
        return self.bytes / 1e6 / max(self.seconds, 1e-9)


def main(quick: bool) -> dict[str, float | None]:
    """Score every system on every set that is there, and print the tables."""
    console = Console(width=150)
    sets = _sets(quick)
    ours = {name: score(texts, _ours) for name, texts in sets.items()}
    _print_sets(console, "Lifechart", ours)
    _print_classes(console, ours)
    others: dict[str, dict[str, Score]] = {}
    for name, peer in peers.installed(console).items():
        english = {key: texts for key, texts in sets.items() if texts and texts[0].language == "en"}
        others[name] = {key: score(texts[: 100 if quick else None], peer) for key, texts in english.items()}
        _print_sets(console, name, others[name])
    size, seconds = (sum(getattr(one, what) for one in ours.values()) for what in ("bytes", "seconds"))
    presidio = others.get("presidio", {}).get("asq")
    asq, meddocan = ours.get("asq"), ours.get("meddocan")
    return {
        "asq_strict_recall": None if asq is None else round(asq.recall, 4),
        "asq_char_precision": None if asq is None else round(asq.precision, 4),
        "meddocan_strict_recall": None if meddocan is None else round(meddocan.recall, 4),
        "meddocan_char_precision": None if meddocan is None else round(meddocan.precision, 4),
        "mb_per_s": round(size / 1e6 / seconds, 3),
        "presidio_strict_recall": None if presidio is None else round(presidio.recall, 4),
    }


def score(texts: Sequence[Text], find: Callable[[Sequence[Text]], list[Found]]) -> Score:
    """Run a system over texts and score it; the processor's time of one core is taken."""
    result = Score(bytes=sum(len(text.text.encode()) for text in texts))
    with threadpool_limits(1):
        find(texts[:20])
        began = time.process_time()
        found = find(texts)
        result.seconds = time.process_time() - began
    for text, spans in zip(texts, found, strict=True):
        covered, gold = (bytearray(len(text.text)) for _ in range(2))
        for start, end in spans:
            covered[start:end] = b"\1" * (end - start)
        for start, end, type_ in text.spans:
            gold[start:end] = b"\1" * (end - start)
            class_ = types()[type_]["class"]
            result.gold[class_] += 1
            result.whole[class_] += all(covered[start:end])
        result.taken += sum(covered)
        result.rightly += sum(one & other for one, other in zip(covered, gold, strict=True))
    return result


def _ours(texts: Sequence[Text]) -> list[Found]:
    found: list[Found] = []
    for start in range(0, len(texts), 64):
        results = redact([Request(text.text, text.language) for text in texts[start : start + 64]])
        found += [[(span.start, span.end) for span in result.spans] for result in results]
    return found


def _sets(quick: bool) -> dict[str, list[Text]]:
    readers: dict[str, Callable[[], list[Text]]] = {
        "asq": lambda: corpora.asq(SHARED / "asq-phi-dev.txt"),
        "presidio-synth": lambda: corpora.presidio(SHARED / "presidio-synth-v2.json.gz"),
        "meddocan": lambda: corpora.meddocan(SHARED / "meddocan-train-dev.tar.gz"),
        "simulated": lambda: _simulated(20 if quick else 100),
    }
    sets = {}
    for name, read in readers.items():
        try:
            sets[name] = [text for text in read() if text.held_out]
        except FileNotFoundError:
            print(f"{name}: not beside the repository, left out")
    return sets


def _simulated(lives: int) -> list[Text]:
    with tempfile.TemporaryDirectory() as folder:
        # Another seed than the tagger was trained on: another hospital, other people.
        hospital.simulate(Path(folder), lives, 90_001, date(2026, 1, 1), progress=False)
        return corpora.simulated(Path(folder), 2000)


def _print_sets(console: Console, title: str, scores: dict[str, Score]) -> None:
    table = Table("held-out part of", "texts' bytes", "spans", "strict recall", "char precision", "MB/s", title=title)
    for name, one in scores.items():
        figures = (f"{one.recall:.4f}", f"{one.precision:.4f}", f"{one.speed:.3f}")
        table.add_row(name, f"{one.bytes:,}", f"{one.gold.total():,}", *figures)
    console.print(table)


def _print_classes(console: Console, scores: dict[str, Score]) -> None:
    table = Table("class", *scores, title="Strict recall by class (spans)")
    for class_ in dict.fromkeys(entry["class"] for entry in types().values()):
        if any(one.gold[class_] for one in scores.values()):
            table.add_row(
                class_,
                *(f"{one.whole[class_] / n:.3f} ({n})" if (n := one.gold[class_]) else "" for one in scores.values()),
            )
    console.print(table)
