"""A clinical note for each encounter, with the exact place of every identifier in it.

A note says only what the structured record says by the end of that encounter, so the record oracle stays the best that
any reader could do; what it adds is wording and identifiers. Spans count characters of the decoded text.
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import orjson
import polars as pl

from lifechart.simulate.directory import assign, places
from lifechart.simulate.fragments import Scope, measurements, piece
from lifechart.simulate.identities import clinicians, hex_ids, scramble, table
from lifechart.simulate.tables import rows
from lifechart.simulate.visit import SLOTS, Person, Slot, Visit
from lifechart.simulate.voices import Voices

CLASSES = (
    "PATIENT",
    "RELATIVE",
    "CLINICIAN",
    "FACILITY",
    "DATE",
    "AGE",
    "PHONE",
    "EMAIL",
    "URL",
    "MRN",
    "SSN",
    "LICENSE",
    "STREET",
    "CITY",
    "ZIP",
)
"""Every class of a gold span. An age is an identifier over 89, so only those are marked."""

Span = tuple[int, int, str, str]
"""Start, end, class, text."""
_LOINC_TYPES = {
    "ambulatory": ("11506-3", "Progress note"),
    "emergency": ("34111-5", "Emergency department Note"),
    "inpatient": ("18842-5", "Discharge summary"),
}
_STRIDE = 1 << 24


@dataclass(frozen=True, slots=True)
class _Section:
    needs: Slot | None
    percent: int
    phrases: tuple[tuple[tuple[str, Slot | None, str], ...], ...]
    """Per phrase: runs of (literal text, what follows it, the class of that)."""


def notes(
    events: pl.DataFrame, people: pl.DataFrame, who: list[dict[str, Any]], scope: Scope, voices: Voices | None = None
) -> tuple[list[bytes], list[bytes], int]:
    """Return the DocumentReference lines, the gold lines and the number of spans of a chunk of lives.

    A gold line is {"document": id, "patient": id, "spans": [[start, end, class, text], …]}.
    """
    visits = _visits(events, scope)
    lives = visits.get_column("life").to_numpy().astype(np.int64)
    numbers = lives * _STRIDE + visits.get_column("encounter").to_numpy()
    ids = hex_ids(scope.seed, numbers, "document")
    draws = scramble(scope.seed, numbers, "phrases").tolist()
    persons = _persons(people, who, scope.seed)
    team = clinicians(scope.seed)
    documents, gold, total = [], [], 0
    for row, document, draw in zip(visits.iter_rows(named=True), ids, draws, strict=True):
        visit = Visit(persons[row["life"]], row, team[row["doctor_number"]])
        text, spans = render(visit, draw)
        if voices is not None:
            text += voices.sentence(row["life"], row["encounter"], visit.years)
        visit.finish()
        documents.append(_document(row, document, text, scope))
        gold.append(orjson.dumps({"document": document, "patient": row["patient"], "spans": spans}) + b"\n")
        total += len(spans)
    return documents, gold, total


def _persons(people: pl.DataFrame, who: list[dict[str, Any]], seed: int) -> dict[int, Person]:
    team, sites = clinicians(seed), places()
    staff = assign(seed, people, who).iter_rows()
    rows_of_people = people.select("life", "sex", "birth").iter_rows(named=True)
    return {
        life: Person(person, one, team[gp], sites[clinic]["name"])
        for person, one, (life, gp, clinic) in zip(rows_of_people, who, staff, strict=True)
    }


def render(visit: Visit, draw: int) -> tuple[str, list[Span]]:
    """Return a note of a visit and its spans in order; `draw` (64 random bits) decides every choice of wording."""
    draw |= (draw * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF) << 64
    parts: list[str] = []
    spans: list[Span] = []
    at = 0
    draw, which = divmod(draw, len(table("note_phrases")["advice"]["phrases"]))
    visit.advice = table("note_phrases")["advice"]["phrases"][which]
    for section in _sections():
        if section.needs is not None and not section.needs(visit):
            continue
        if section.percent < 100:
            draw, chance = divmod(draw, 100)
            if chance >= section.percent:
                continue
        draw, which = divmod(draw, len(section.phrases))
        for literal, slot, kind in section.phrases[which]:
            parts.append(literal)
            at += len(literal)
            if slot is None:
                continue
            value = slot(visit)
            parts.append(value)
            if kind and (kind != "AGE" or visit.years > 89):
                spans.append((at, at + len(value), kind, value))
            at += len(value)
    return "".join(parts), spans


@cache
def _sections() -> tuple[_Section, ...]:
    found = table("note_phrases")["sections"]
    return tuple(
        _Section(
            SLOTS[section["needs"]] if "needs" in section else None,
            round(100 * section.get("rare", 1)),
            tuple(_compiled(phrase) for phrase in section["phrases"]),
        )
        for section in found
    )


def _compiled(phrase: str) -> tuple[tuple[str, Slot | None, str], ...]:
    runs: list[tuple[str, Slot | None, str]] = []
    literals = re.split(r"\{[^}]*\}", phrase)
    for literal, slot in zip(literals, re.findall(r"\{([^}]*)\}", phrase), strict=False):
        name, _, kind = slot.partition(":")
        assert not kind or kind in CLASSES, f"note_phrases.toml: {kind} is not a class of span"
        runs.append((literal, SLOTS[name], kind))
    return (*runs, (literals[-1], None, ""))


def _visits(events: pl.DataFrame, scope: Scope) -> pl.DataFrame:
    """Return the encounters, with what happened at each of them as words (null: nothing of that sort)."""
    visits = events.filter(pl.col("kind") == "encounter").select(
        "life",
        "encounter",
        "time",
        "end",
        "patient",
        "visit",
        "doctor",
        "doctor_number",
        "place_number",
        "organization",
        "death",
        setting="key",
        over=pl.col("end") <= scope.now,
        reason=pl.col("detail").replace_strict(_reasons()),
    )
    for name, said in _said(events).items():
        # Someone can have one complaint twice in a visit's list, but says it once.
        listed = said.unique(["life", "encounter", "said"], keep="first", maintain_order=True)
        together = listed.group_by("life", "encounter", maintain_order=True).agg(pl.col("said").alias(name))
        visits = visits.join(together, on=["life", "encounter"], how="left", maintain_order="left")
    return visits


def _said(events: pl.DataFrame) -> dict[str, pl.DataFrame]:
    lists = {
        "symptoms": ("symptom", "symptoms"),
        "diagnoses": ("condition", "conditions"),
        "started": ("medication", "medications"),
        "stopped": ("medication_stop", "medications"),
        "procedures": ("procedure", "procedures"),
        "vaccines": ("immunization", "immunizations"),
        "new_allergies": ("allergy", "allergies"),
    }
    inside = events.filter(pl.col("encounter") >= 0)
    found = {
        name: inside.filter(pl.col("kind") == kind).select(
            "life", "encounter", said=pl.col("key").replace(_words(names))
        )
        for name, (kind, names) in lists.items()
    }
    lasting = [_words("medications")[row["key"]] for row in rows("medications") if row["chronic"] == "1"]
    # A course that ends by itself is prescribed, but is not on the list of what someone takes a year later.
    found["lasting"] = found["started"].filter(pl.col("said").is_in(lasting))
    measured = inside.filter(pl.col("kind") == "observation").join(_measured_words(), on="key", maintain_order="left")
    low, high = pl.col("value") < pl.col("low"), pl.col("value") > pl.col("high")
    flag = pl.when(high).then(pl.lit(" (high)")).when(low).then(pl.lit(" (low)")).otherwise(pl.lit(""))
    number = pl.col("value").cast(pl.String).str.strip_suffix(".0")
    answer = pl.col("answers").list.get(pl.col("value").cast(pl.Int32), null_on_oob=True)
    said = pl.concat_str([pl.col("name"), pl.lit(" "), number, pl.col("in_units"), flag])
    said = pl.when(pl.col("answers").is_null()).then(said).otherwise(answer)
    measured = measured.select("life", "encounter", "category", said=said)
    found["vitals"] = measured.filter(pl.col("category") != "laboratory").drop("category")
    found["labs"] = measured.filter(pl.col("category") == "laboratory").drop("category")
    return found


@cache
def _words(name: str) -> dict[str, str]:
    """Return key to words for a row of a table, as they stand within a sentence."""
    if name == "immunizations":
        return {row["key"]: row["display"] for row in rows(name)}
    found = {row["key"]: _mid_sentence(row["display"]) for row in rows(name)}
    if name == "allergies":
        return {key: words.removeprefix("allergy to ").removesuffix(" allergy") for key, words in found.items()}
    return found


@cache
def _reasons() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in ("allergies", "procedures", "symptoms", "conditions"):
        found |= _words(name)
    found |= table("note_phrases")["reasons"]
    return found


@cache
def _measured_words() -> pl.DataFrame:
    phrases = table("note_phrases")
    listed = rows("observations")
    units = [phrases["units"].get(row["unit"], row["unit"]) for row in listed]
    answers = [
        [_mid_sentence(answer.split("=")[2]) for answer in row["values"].split(";")] if row["values"] else None
        for row in listed
    ]
    return (
        measurements()
        .select("key", "category", "low", "high")
        .with_columns(
            name=pl.Series([phrases["short"].get(row["key"], row["key"].replace("_", " ")) for row in listed]),
            in_units=pl.Series([unit if unit in ("", "%") else f" {unit}" for unit in units]),
            answers=pl.Series(answers, dtype=pl.List(pl.String)),
        )
    )


def _mid_sentence(display: str) -> str:
    first = display.split(" ")[0]
    is_name = first.endswith("'s") or first[1:] != first[1:].lower()
    return display if is_name else display[0].lower() + display[1:]


def _document(row: dict[str, Any], document: str, text: str, scope: Scope) -> bytes:
    head, author, custodian, content, context = _document_parts(row["setting"])
    data = binascii.b2a_base64(text.encode(), newline=False)
    moment = row["end"] if row["over"] else row["time"]
    date = f"{moment.isoformat(timespec='seconds')}{scope.offset}"
    return b"".join(
        (
            b'{"resourceType":"DocumentReference","id":"',
            document.encode(),
            head,
            f'"subject":{{"reference":"Patient/{row["patient"]}"}},"date":"{date}'.encode(),
            author,
            row["doctor"].encode(),
            custodian,
            row["organization"].encode(),
            content,
            data,
            context,
            row["visit"].encode(),
            b'"}]}}\n',
        )
    )


@cache
def _document_parts(setting: str) -> tuple[bytes, bytes, bytes, bytes, bytes]:
    code, display = _LOINC_TYPES[setting]
    kind = {"coding": [{"system": "http://loinc.org", "code": code, "display": display}], "text": display}
    system = "http://hl7.org/fhir/us/core/CodeSystem/us-core-documentreference-category"
    category = [{"coding": [{"system": system, "code": "clinical-note", "display": "Clinical Note"}]}]
    head = piece({"status": "current", "docStatus": "final", "type": kind, "category": category})
    return (
        f'",{head},'.encode(),
        b'","author":[{"reference":"Practitioner/',
        b'"}],"custodian":{"reference":"Organization/',
        b'"},"content":[{"attachment":{"contentType":"text/plain; charset=utf-8","data":"',
        b'"}}],"context":{"encounter":[{"reference":"Encounter/',
    )
