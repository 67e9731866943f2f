"""Other systems that find identifiers in English text, where they are installed: `pip install .[bench-text] scrubadub`.

scrubadub is under Apache-2.0 but brings a library under the LGPL, so that no group of ours names it.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console

from lifechart.data.deidentify.text.corpora import Text

Found = Sequence[tuple[int, int]]
Peer = Callable[[Sequence[Text]], list[Found]]


def installed(console: Console) -> dict[str, Peer]:
    """Return those that can run; says which cannot."""
    peers: dict[str, Peer] = {}
    for name, module, make in (("presidio", "presidio_analyzer", _presidio), ("scrubadub", "scrubadub", _scrubadub)):
        if importlib.util.find_spec(module) is None:
            console.print(f"{name}: not installed, left out (pip install '.[bench-text]' scrubadub)")
        else:
            peers[name] = make(console)
    return peers


def _presidio(console: Console) -> Peer:
    """Presidio with every recogniser of its own, and a spaCy model if one is installed (PyPI carries none)."""
    for noisy in ("tldextract", "presidio-analyzer"):  # one wants the network, the other says what it did not load
        logging.getLogger(noisy).setLevel(logging.CRITICAL + 1)
    analyzer = importlib.import_module("presidio_analyzer")
    engines = importlib.import_module("presidio_analyzer.nlp_engine")
    spacy: Any = importlib.import_module("spacy")
    models = [name for name in ("en_core_web_lg", "en_core_web_md", "en_core_web_sm") if importlib.util.find_spec(name)]
    pipeline = spacy.load(models[0]) if models else spacy.blank("en")
    console.print(f"presidio: with {models[0] if models else 'its patterns and recognisers alone, no spaCy model'}")
    engine = engines.SpacyNlpEngine(models=[{"lang_code": "en", "model_name": "en"}])
    engine.nlp = {"en": pipeline}
    analyse = analyzer.AnalyzerEngine(nlp_engine=engine, supported_languages=["en"]).analyze

    def find(texts: Sequence[Text]) -> list[Found]:
        return [[(one.start, one.end) for one in analyse(text.text, language="en")] for text in texts]

    return find


def _scrubadub(console: Console) -> Peer:
    """Scrubadub with the detectors it has by default."""
    scrubber = importlib.import_module("scrubadub").Scrubber()

    def find(texts: Sequence[Text]) -> list[Found]:
        return [[(filth.beg, filth.end) for filth in scrubber.iter_filth(text.text)] for text in texts]

    return find
