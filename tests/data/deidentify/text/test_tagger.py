"""The network in numpy, the shipped weights, and how quickly they are ready."""

import time
from importlib.resources import files

import numpy as np
import orjson
import pytest

from lifechart.core import durable
from lifechart.core.errors import InputError
from lifechart.data.deidentify.text import features, tagger
from lifechart.data.deidentify.text.spans import redacted, types
from lifechart.data.deidentify.text.words import tokens

WEIGHTS = files("lifechart.data.deidentify.text") / "weights"
LANGUAGES = ("en", "es")


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_shipped_weights_are_those_that_their_note_names(language):
    note = orjson.loads((WEIGHTS / f"{language}.json").read_bytes())
    assert durable.file_digest(WEIGHTS / f"{language}.npz") == note["weights"]
    assert note["command"].startswith(f"lifechart train-tagger {language} ")
    assert note["digests"].keys() == note["sources"].keys() == note["texts"].keys()
    assert set(tagger.load(WEIGHTS / f"{language}.npz").labels[1:]) <= set(types())


def test_they_are_small_and_load_in_less_than_a_second():
    assert sum((WEIGHTS / f"{language}.npz").stat().st_size for language in LANGUAGES) < 3_000_000
    began = time.process_time()
    tagger.load(WEIGHTS / "en.npz")
    assert time.process_time() - began < 1


def slow_probabilities(weights, place, gap, known):
    """The network once more, token by token, as its definition reads."""
    n = len(place)
    x = [known[place[t]] + weights.gap_GD[gap[t]] if place[t] else np.zeros(known.shape[1]) for t in range(n)]
    for (kernel, bias), dilation in zip(weights.convolutions, tagger.DILATIONS, strict=True):
        width = len(kernel)
        y = []
        for t in range(n):
            total = bias.copy()
            for number in range(width):
                at = t + (number - width // 2) * dilation
                if 0 <= at < n:
                    total = total + x[at] @ kernel[number]
            out = np.maximum(total, 0) + (x[t] if total.shape == x[t].shape else 0)
            y.append(out if place[t] else np.zeros_like(out))
        x = y
    logits = np.array([row @ weights.out_HL + weights.bias_L for row in x])
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def test_the_network_is_its_slow_twin():
    weights = tagger.load(WEIGHTS / "en.npz")
    fast = tagger.Tagger(weights, 0.5)
    cut = tokens("Seen by Dr. Ann Smith at Mayo Clinic on 3/4/2021.\nMRN 123-456")
    place = np.array([0] * 4 + fast._places([token for token, _ in cut]) + [0] * 4)
    gap = np.array(
        [0] * 4 + tagger.gaps("Seen by Dr. Ann Smith at Mayo Clinic on 3/4/2021.\nMRN 123-456", cut) + [0] * 4
    )
    slow = slow_probabilities(weights, place, gap, fast._known)
    np.testing.assert_allclose(fast.probabilities(place, gap), slow, atol=2e-5)


def test_a_text_is_judged_the_same_alone_and_among_others():
    texts = ["Seen by Dr. Ann Smith on 3/4/2021.", "", "Take one daily.", "Paul Brown, MRN 99812, called."] * 9
    one = tagger.load_tagger("en")
    wanted = redacted("hipaa")
    alone = [one.find([text], [tokens(text)], wanted)[0] for text in texts]
    assert one.find(texts, [tokens(text) for text in texts], wanted) == alone


def test_no_row_of_the_table_means_two_things():
    assert len(set(features._NUMBERS.values())) == len(features._NUMBERS)
    assert max(features._NUMBERS.values()) < features.RESERVED


def test_weights_of_another_kind_are_refused(tmp_path):
    (tmp_path / "en.npz").write_bytes(b"nothing of the sort")
    with pytest.raises(InputError, match="train-tagger"):
        tagger.load(tmp_path / "en.npz")


def test_weights_survive_being_saved(tmp_path):
    weights = tagger.load(WEIGHTS / "es.npz")
    tagger.save(weights, tmp_path / "again.npz")
    again = tagger.load(tmp_path / "again.npz")
    np.testing.assert_allclose(again.table_RD, weights.table_RD, atol=1e-6)
    assert again.labels == weights.labels
