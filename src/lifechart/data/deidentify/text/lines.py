"""Lines of JSON in, lines of JSON out: what `lifechart deidentify-text` does with each.

In: {"text": …}, and perhaps "language", "patient", "known" ({type of classes.toml: [values]}). Out: "text" is the
de-identified text; "spans" are in order and disjoint, and "start" and "end" count code points of the text that came in.
A line that cannot be used ends the run with an error that gives its number and none of its content.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from lifechart.core.errors import RecordError
from lifechart.data.deidentify.text import language as languages
from lifechart.data.deidentify.text.known import Known, known
from lifechart.data.deidentify.text.redact import Request, redact
from lifechart.data.deidentify.text.spans import types
from lifechart.data.deidentify.text.surrogates import Surrogates


def deidentified(
    lines: Sequence[tuple[int, bytes]],
    *,
    policy: str | None = None,
    language: str | None = None,
    key: bytes | None = None,
) -> Iterator[bytes]:
    """Yield the line of output of each numbered line, blank ones left out; raises RecordError.

    `key`: the institution's; with it, lines that name a patient get surrogates instead of tags.
    """
    if language is not None:
        languages.policy_of(language)
    requests = [_request(number, line, language, key) for number, line in lines if line.strip()]
    for result in redact(requests, policy):
        yield orjson.dumps(result.to_json()) + b"\n"


def _request(number: int, line: bytes, language: str | None, key: bytes | None) -> Request:
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise RecordError(f"line {number}", None, "JSON in UTF-8") from None
    text = entry.get("text") if isinstance(entry, dict) else None
    if not isinstance(text, str):
        raise RecordError(f"line {number}", text, 'an object with "text": a string')
    own = entry.get("language") or language
    if own is not None:
        _of_language(number, own)
    patient = entry.get("patient")
    if patient is not None and not isinstance(patient, str):
        raise RecordError(f'line {number}, "patient"', patient, "a string")
    surrogates = Surrogates(key, patient) if key is not None and patient else None
    return Request(text, own, _known(number, entry.get("known")), surrogates)


def _of_language(number: int, tag: Any) -> None:
    if not isinstance(tag, str) or tag not in languages.known():
        raise RecordError(f'line {number}, "language"', tag, f"one of {sorted(languages.known())}")


def _known(number: int, identifiers: Any) -> Known | None:
    if identifiers is None:
        return None
    expected = '{type: ["value", …]} with types of classes.toml'
    if not isinstance(identifiers, dict) or not identifiers.keys() <= types().keys():
        raise RecordError(f'line {number}, "known"', None, expected)
    if not all(
        isinstance(values, list) and all(isinstance(one, str) for one in values) for values in identifiers.values()
    ):
        raise RecordError(f'line {number}, "known"', None, expected)
    return known(identifiers)
