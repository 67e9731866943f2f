"""How often a model was asked and what people made of its answers, counted once and kept up with the ledger.

A page about a million answers that reads them all again each time takes minutes. A `Tally` that is kept reads each
`answer` and `feedback` statement once; asked again, it costs what is new.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field

import orjson

from lifechart.ledger.log import Entry, Log


@dataclass(frozen=True, slots=True)
class Judged:
    """One user's last word on one outcome of one answer."""

    entry: int
    action: str
    reason: str


@dataclass(slots=True)
class Use:
    """What the ledger says of one model in one capability."""

    answers: int = 0
    users: set[str] = field(default_factory=set)
    outlets: set[str] = field(default_factory=set)
    dispositions: Counter[str] = field(default_factory=Counter)
    first: int = 0
    last: int = 0
    """Ledger entries of the first and last answer."""
    judged: dict[tuple[str, str, str], Judged] = field(default_factory=dict)
    """By answer, user and outcome."""


class Tally:
    """The use of every model of one log. Safe for threads; what `of` returns is to be read, not changed."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._answers = self._feedback = 0
        self._uses: dict[tuple[str, str], Use] = {}
        self._lock = threading.Lock()

    def of(self, model: str, capability: str) -> Use:
        """Return what is known of a model now."""
        with self._lock:
            self._log.refresh()
            answers, feedback = self._log.numbers(kind="answer"), self._log.numbers(kind="feedback")
            for entry in self._log.read(answers[self._answers :].tolist()):
                self._answer(entry)
            for entry in self._log.read(feedback[self._feedback :].tolist()):
                self._judge(entry)
            self._answers, self._feedback = len(answers), len(feedback)
            return self._uses.get((model, capability), Use())

    def _answer(self, entry: Entry) -> None:
        said = orjson.loads(entry.payload)["predicate"]
        use = self._uses.setdefault((said["model"], said["capability"]), Use(first=entry.index))
        use.answers, use.last = use.answers + 1, entry.index
        use.users.add(said["user"])
        use.outlets.add(said["outlet"])
        use.dispositions[said["disposition"]] += 1

    def _judge(self, entry: Entry) -> None:
        content = orjson.loads(entry.payload)
        said = content["predicate"]
        for subject in content["subject"]:
            digest = subject["digest"]["sha256"]
            # An answer can name a digest without being known by it: its patient's, its model's.
            for given in self._log.find(kind="answer", digest=digest):
                about = given.statement
                whole, cards = about.subjects[0].digest, about.predicate.get("cards", {}).values()
                use = self._uses.get((about.predicate["model"], said["capability"]))
                if use is not None and (digest == whole or digest in cards):
                    key = whole, str(said["user"]), str(said["outcome"])
                    use.judged[key] = Judged(entry.index, said["action"], said["reason"])
                    return
