"""The tokenizer: the merges that a slow count would find, every text readable, rare words read as parts."""

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from lifechart.model.subwords import UNKNOWN, Subwords, learn, words

TEXTS = ["the patient sleeps badly", "the patient slept", "sleeping pills for the patient", "lower, lowest and low"] * 6


def slow_merges(texts: list[str], number: int) -> list[tuple[str, str]]:
    """Count every pair of every word anew for each merge."""
    holders: Counter[str] = Counter()
    for text in texts:
        holders.update(set(words(text)))
    parts = {word: [*word[:-1], word[-1] + "</w>"] for word in holders}
    merges = []
    for _ in range(number):
        pairs: Counter[tuple[str, str]] = Counter()
        for word, pieces in parts.items():
            for pair in pairwise(pieces):
                pairs[pair] += holders[word]
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        for word, pieces in parts.items():
            joined = []
            while pieces:
                size = 2 if tuple(pieces[:2]) == best else 1
                joined.append("".join(pieces[:size]))
                pieces = pieces[size:]
            parts[word] = joined
    return merges


def test_the_merges_are_those_of_a_slow_count() -> None:
    found = learn(TEXTS, 60, 2)
    assert len(found.merges) > 15
    assert list(found.merges) == slow_merges(TEXTS, len(found.merges))


def test_a_word_that_few_texts_hold_is_no_piece() -> None:
    found = learn([*TEXTS, "Zbigniewska came"], 500, 6)
    assert not any("zbig" in piece for piece in found.pieces)
    assert any(piece == "patient</w>" for piece in found.pieces)


@given(st.text(max_size=80))
def test_any_text_can_be_read(text: str) -> None:
    subwords = learn(TEXTS, 80, 2)
    ids = subwords.encode(text)
    assert all(UNKNOWN <= each < len(subwords) for each in ids)
    assert subwords == Subwords(subwords.pieces, subwords.merges)
    assert Subwords(subwords.pieces, subwords.merges).encode(text) == ids


def test_pieces_make_up_what_was_written() -> None:
    subwords = learn(TEXTS, 80, 2)
    ids = subwords.encode("The lowest patient slept.")
    written = "".join(subwords.pieces[each - 2] if each > UNKNOWN else "?" for each in ids)
    assert written.replace("</w>", " ").strip() == "the lowest patient slept ?"
