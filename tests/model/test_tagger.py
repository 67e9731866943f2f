"""Training of the tagger of identifiers: seeded, stated in the ledger, and able to learn what it is shown."""

import numpy as np
import orjson
import pytest

from lifechart.core.errors import InputError
from lifechart.data.deidentify.text import tagger as run
from lifechart.data.deidentify.text.corpora import Text
from lifechart.data.deidentify.text.words import tokens
from lifechart.model import tagger
from tests.data.samples import Log


@pytest.fixture
def small(monkeypatch):
    """A recipe of seconds, and a set of texts that needs no third party."""
    names = ["Ann", "Bob", "Cleo", "Dan", "Eve", "Fay", "Gus", "Hal"]
    texts = [
        Text(f"Seen by Dr. {a} {b} today.", "en", ((12, 13 + len(a) + len(b), "name"),), False)
        for a in names
        for b in names
    ]
    monkeypatch.setattr(tagger, "training_texts", lambda language, texts_, hospital: {"asq": texts})
    monkeypatch.setitem(tagger.RECIPES, "en", tagger.Recipe(60, {"asq": 1}))
    monkeypatch.setitem(tagger.EPOCHS, "en", 40)


def test_the_same_seed_gives_the_same_bytes_and_the_ledger_has_a_statement(small, tmp_path):
    log = Log()
    notes = [tagger.train_tagger("en", tmp_path, tmp_path / name, hospital=None, seed=5, log=log) for name in "ab"]
    assert notes[0] == notes[1]
    assert (tmp_path / "a/en.npz").read_bytes() == (tmp_path / "b/en.npz").read_bytes()
    statement = log.statements[0]
    assert (statement.kind, statement.subjects[0].digest) == ("train-tagger", notes[0]["weights"])
    assert statement.predicate["digests"] == notes[0]["digests"]
    assert orjson.loads((tmp_path / "a/en.json").read_bytes()) == notes[0]


def test_what_was_trained_finds_a_name_that_it_never_saw(small, tmp_path):
    tagger.train_tagger("en", tmp_path, tmp_path, hospital=None, seed=5, log=Log())
    found = run.Tagger(run.load(tmp_path / "en.npz"), 0.5)
    text = "Seen by Dr. Zed Quill today."
    (spans,) = found.find([text], [tokens(text)], frozenset({"name"}))
    assert [text[span.start : span.end] for span in spans] == ["Zed Quill"]


def test_torch_and_numpy_give_the_same_probabilities(small, tmp_path):
    import torch

    prepared = tagger._Prepared([Text("Seen by Ann Smith, MRN 12-9.", "en", ((8, 17, "name"),), False)])
    torch.manual_seed(1)
    network = tagger.Network(len(prepared.labels)).eval()
    weights = network.weights(prepared.labels)
    fast = run.Tagger(weights, 0.5)
    segment = prepared.segments[0]
    cut = tokens("Seen by Ann Smith, MRN 12-9.")
    place = np.array(fast._places([token for token, _ in cut]))
    rows = [row for number in segment.tokens for row in (prepared.rows[number][0], *prepared.rows[number][1])]
    lengths = [1 + len(prepared.rows[number][1]) for number in segment.tokens]
    starts = np.cumsum([0, *lengths[:-1]])
    logits = network(
        torch.tensor(rows),
        torch.tensor(starts),
        torch.ones(len(rows)),
        torch.arange(len(cut)).unsqueeze(0),
        torch.tensor([segment.gaps]),
    )
    expected = torch.softmax(logits[0], dim=-1).detach().numpy()
    np.testing.assert_allclose(fast.probabilities(place, np.array(segment.gaps)), expected, atol=1e-5)


def test_a_language_without_a_recipe_is_refused(tmp_path):
    with pytest.raises(InputError, match="LANGUAGE"):
        tagger.train_tagger("xx", tmp_path, tmp_path, hospital=None, seed=1, log=Log())
