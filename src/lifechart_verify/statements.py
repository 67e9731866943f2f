"""One entry of the log: an in-toto statement in a DSSE envelope, signed by the log's own key."""

from __future__ import annotations

import base64
import binascii
import json
import re
from datetime import datetime
from typing import Any

from lifechart_verify.notes import Key

_TYPE = "application/vnd.in-toto+json"
_KIND = re.compile(r"https://lifechart\.example/predicate/([a-z][a-z0-9-]*)/v\d+")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Forged(Exception):
    """An entry is not signed by the log's key."""


class Malformed(Exception):
    """An entry is signed, but is no statement."""


def read(entry: bytes, key: Key) -> tuple[str, dict[str, Any]]:
    """Return an entry's kind and its statement; raises Forged or Malformed."""
    try:
        envelope = json.loads(entry)
        payload = base64.b64decode(envelope["payload"], validate=True)
        kind, signatures = envelope["payloadType"].encode(), envelope["signatures"]
        made = [base64.b64decode(each["sig"], validate=True) for each in signatures if each["keyid"] == str(key)]
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error, RecursionError) as error:
        raise Forged("not a signed envelope") from error
    signed = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    if not made:
        raise Forged(f"not signed by {key}")
    if not all(key.signed(signed, signature) for signature in made):
        raise Forged(f"the signature of {key} does not fit")
    if kind.decode() != _TYPE:
        raise Malformed(f"a payload of type {kind.decode()!r}")
    return _form(payload)


def _form(payload: bytes) -> tuple[str, dict[str, Any]]:
    try:
        said = json.loads(payload)
        kind = _KIND.fullmatch(said["predicateType"])
        named = [(each["name"], each["digest"]["sha256"]) for each in said["subject"]]
        sound = said["_type"] == "https://in-toto.io/Statement/v1" and kind and named
        sound = sound and all(name and _DIGEST.fullmatch(digest) for name, digest in named)
        moment = datetime.fromisoformat(said["predicate"]["created"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Malformed("not an in-toto statement of this project") from error
    if not sound or kind is None or moment.tzinfo is None:
        raise Malformed("its type, its subjects or its time are not as a statement has them")
    return kind[1], said
