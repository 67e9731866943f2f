"""De-identifies coded records: keyed subject ids, restricted ZIPs, texts by allow-list, rare codes back off to parents.

The first line of defence is not here: a source can only pass on the elements its mapping names, so a name or an address
has no way in. What is left are values that a hospital's own people typed into a permitted element (a record number as a
local code, a surname as a result), and these only pass if they stand on a list or if enough patients share them.
"""

from __future__ import annotations

import csv
import heapq
import hmac
import os
import secrets
from collections.abc import Mapping
from functools import cache
from importlib import resources

import polars as pl

from lifechart.codes import parents, systems
from lifechart.core.errors import SettingError
from lifechart.core.settings import Settings
from lifechart.core.timeline import BIRTH, DEATH, RECORD_END

MIN_PATIENTS = 5
"""A code, display or unit that fewer patients hold is not written: low enough to keep rare diseases in data sets of
some thousands of patients, higher than most families are large."""

STRUCTURAL = (BIRTH, DEATH, RECORD_END)
"""Codes that every record has; they never back off."""

LARGEST_LOCAL_NUMBER = 1e6
"""A whole number from here on, without a unit and under a local code, may be an identifier and is not written."""

_KEY_BYTES = 32


def load_key(settings: Settings) -> bytes:
    """Return the institution's de-identification key, made on first use (32 random bytes, readable by its owner alone).

    Whoever holds it can redo subject ids and date offsets; whoever loses it can never link new data to old.
    """
    path = settings.keys / "deidentify.key"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
            os.fsync(file.fileno())
    key = path.read_bytes()
    if len(key) != _KEY_BYTES:
        raise SettingError(str(path), f"{len(key)} bytes", f"a key of {_KEY_BYTES} bytes")
    return key


def subject_ids(key: bytes, patient_ids: pl.Series) -> pl.Series:
    """Return keyed 63-bit subject ids (HMAC-SHA256 of the patient's id, truncated)."""
    digests = (hmac.digest(key, b"subject\0" + str(id_).encode(), "sha256") for id_ in patient_ids)
    return pl.Series("subject_id", [int.from_bytes(digest[:8], "big") >> 1 for digest in digests], dtype=pl.Int64)


@cache
def _rows(table: str) -> tuple[dict[str, str], ...]:
    content = resources.files("lifechart.data.deidentify").joinpath(table).read_text(encoding="utf-8")
    return tuple(csv.DictReader(content.splitlines()))


def restricted_zips() -> dict[str, str]:
    """Return {"ZIP3//036": "ZIP3//000", …}: three-digit areas of 20,000 people or fewer."""
    return {f"ZIP3//{row['prefix']}": "ZIP3//000" for row in _rows("restricted_zips.csv")}


def widen_zips(code: pl.Expr) -> pl.Expr:
    """Return codes with the restricted three-digit ZIPs replaced by 000."""
    return code.replace(restricted_zips())


def may_be_identifier(code: pl.Expr, value: pl.Expr, unit: pl.Expr) -> pl.Expr:
    """Return whether a numeric value may be an identifier (LARGEST_LOCAL_NUMBER)."""
    local = code.str.starts_with(f"{systems.UNLISTED}//")
    return local & unit.is_null() & (value.abs() >= LARGEST_LOCAL_NUMBER) & (value == value.floor())


def back_off(holders: pl.DataFrame, num_holders: Mapping[str, int], min_patients: int) -> dict[str, str | None]:
    """Return what becomes of each rare code: the nearest ancestor that enough patients hold, or None (not written).

    `holders` has the columns `code` and `subject_id` for (at least) the codes that fewer than `min_patients` patients
    hold; `num_holders` counts the patients of every code. A parent's holders are its own and those of the codes that
    back off to it.
    """
    sets: dict[str, set[int]] = {}
    for code, subjects in holders.group_by("code").agg(pl.col("subject_id").unique()).iter_rows():
        if num_holders[code] < min_patients and code not in STRUCTURAL:
            sets[code] = set(subjects)
    rare = sorted(sets)
    # The deepest first, so that a parent is judged when all of its children have reached it.
    queue = [(-_depth(code), code) for code in rare]
    heapq.heapify(queue)
    step: dict[str, str | None] = {}
    while queue:
        _, code = heapq.heappop(queue)
        if code in step or len(sets[code]) >= min_patients:
            continue
        step[code] = parent = parents.parent(code)
        if parent is not None and num_holders.get(parent, 0) < min_patients:
            sets.setdefault(parent, set()).update(sets[code])
            heapq.heappush(queue, (-_depth(parent), parent))
    return {code: _follow(code, step) for code in rare}


def _depth(code: str) -> int:
    return len(parents.ancestors(code))


def _follow(code: str, step: Mapping[str, str | None]) -> str | None:
    at: str | None = code
    while at is not None and at in step:
        at = step[at]
    return at
