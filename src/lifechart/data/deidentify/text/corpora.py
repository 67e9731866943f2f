"""Reads texts whose identifiers are marked: third-party sets read in place, and the simulated hospital's notes.

Every set is cut by a hash of the text into a part for training and tuning and a part that is only ever scored
(`held_out`). Of ASQ-PHI the queries that stand at the head of the file were read by the rules' authors and are never
held out. MEDDOCAN comes in parts of its own: `train` is trained on, half of `dev` is held out.
"""

from __future__ import annotations

import base64
import csv
import gzip
import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from lifechart.core.errors import InputError
from lifechart.data.deidentify.text.words import entries, fold

_HELD_OUT_PERCENT = 40
_ASQ_READ = 13
Gold = tuple[int, int, str]
"""Start, end (code points) and type (classes.toml) of an identifier."""


@dataclass(frozen=True, slots=True)
class Text:
    """A text with its identifiers marked."""

    text: str
    language: str
    spans: tuple[Gold, ...]
    held_out: bool
    part: str = ""


def held_out(text: str, percent: int = _HELD_OUT_PERCENT) -> bool:
    """Return whether a text is kept from all training and tuning: by its hash, the same for ever."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) % 100 < percent


ASQ_TYPES = {
    "NAME": "name",
    "GEOGRAPHIC_LOCATION": "place",
    "DATE": "date",
    "PHONE_NUMBER": "phone",
    "FAX_NUMBER": "fax",
    "EMAIL_ADDRESS": "email",
    "SOCIAL_SECURITY_NUMBER": "ssn",
    "MEDICAL_RECORD_NUMBER": "mrn",
    "HEALTH_PLAN_BENEFICIARY_NUMBER": "plan",
    "ACCOUNT_NUMBER": "account",
    "CERTIFICATE_LICENSE_NUMBER": "license",
    "VEHICLE_IDENTIFIER": "vehicle",
    "DEVICE_IDENTIFIER": "device",
    "URL": "url",
    "IP_ADDRESS": "ip",
    "BIOMETRIC_IDENTIFIER": "biometric",
}


def asq(path: Path) -> list[Text]:
    """Read ASQ-PHI: queries with the values of their identifiers, whose places are searched for."""
    texts = []
    for number, entry in enumerate(path.read_text(encoding="utf-8").split("===QUERY===")[1:]):
        query, _, tags = entry.partition("===PHI_TAGS===")
        query = query.strip()
        spans = []
        for line in tags.strip().splitlines():
            tag = json.loads(line)
            start = query.find(tag["value"])
            if start >= 0:
                type_ = ASQ_TYPES.get(tag["identifier_type"], "id")
                spans.append((start, start + len(tag["value"]), _place(tag["value"]) if type_ == "place" else type_))
        texts.append(Text(query, "en", tuple(sorted(spans)), number >= _ASQ_READ and held_out(query)))
    return texts


def _place(value: str) -> str:
    if value[0].isdigit():
        return "zip" if value.isdigit() else "street"
    return "place" if fold(value) in entries("place") | entries("state") else "facility"


PRESIDIO_TYPES = {
    "PERSON": "name",
    "STREET_ADDRESS": "street",
    "GPE": "place",
    "ORGANIZATION": "organisation",
    "CREDIT_CARD": "account",
    "DATE_TIME": "date",
    "PHONE_NUMBER": "phone",
    "EMAIL_ADDRESS": "email",
    "ZIP_CODE": "zip",
    "DOMAIN_NAME": "url",
    "IBAN_CODE": "account",
    "US_SSN": "ssn",
    "IP_ADDRESS": "ip",
    "US_DRIVER_LICENSE": "license",
}
"""Titles, ages, and nationalities are marked in that set too; none of them is an identifier."""


def presidio(path: Path) -> list[Text]:
    """Read presidio-research's generated sentences; a year alone is no identifier."""
    texts = []
    for entry in orjson.loads(gzip.decompress(path.read_bytes())):
        text = entry["full_text"]
        spans = sorted(
            (span["start_position"], span["end_position"], PRESIDIO_TYPES[span["entity_type"]])
            for span in entry["spans"]
            if span["entity_type"] in PRESIDIO_TYPES
            and not (
                span["entity_value"].isdigit() and len(span["entity_value"]) == 4 and span["entity_type"] == "DATE_TIME"
            )
        )
        texts.append(Text(text, "en", tuple(spans), held_out(text)))
    return texts


MEDDOCAN_TYPES = {
    "TERRITORIO": "place",
    "FECHAS": "date",
    "EDAD_SUJETO_ASISTENCIA": "age",
    "NOMBRE_SUJETO_ASISTENCIA": "name",
    "NOMBRE_PERSONAL_SANITARIO": "name",
    "SEXO_SUJETO_ASISTENCIA": "sex",
    "CALLE": "street",
    "PAIS": "country",
    "ID_SUJETO_ASISTENCIA": "mrn",
    "ID_TITULACION_PERSONAL_SANITARIO": "license",
    "ID_EMPLEO_PERSONAL_SANITARIO": "license",
    "ID_CONTACTO_ASISTENCIAL": "mrn",
    "ID_ASEGURAMIENTO": "plan",
    "CORREO_ELECTRONICO": "email",
    "HOSPITAL": "facility",
    "CENTRO_SALUD": "facility",
    "INSTITUCION": "organisation",
    "FAMILIARES_SUJETO_ASISTENCIA": "relative",
    "NUMERO_TELEFONO": "phone",
    "NUMERO_FAX": "fax",
    "PROFESION": "profession",
    "URL_WEB": "url",
}


def meddocan(path: Path) -> list[Text]:
    """Read MEDDOCAN's Spanish cases from the archive of its brat files; `part` is `train` or `dev`."""
    content: dict[str, str] = {}
    with tarfile.open(path) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            if file is not None:
                content[member.name] = io.TextIOWrapper(file, encoding="utf-8", newline="").read()
    texts = []
    for name in sorted(content):
        if not name.endswith(".txt"):
            continue
        text, part = content[name], "train" if "train/" in name else "dev"
        spans = sorted(_brat(content[name.removesuffix("txt") + "ann"]))
        texts.append(Text(text, "es", tuple(spans), part == "dev" and held_out(text, 50), part))
    return texts


def _brat(annotations: str) -> Iterator[Gold]:
    for line in annotations.splitlines():
        if line.startswith("T"):
            kind, start, end = line.split("\t")[1].split(" ")
            type_ = MEDDOCAN_TYPES.get(kind, "other")
            yield int(start), int(end), type_


SIMULATED_TYPES = {
    "PATIENT": "name",
    "RELATIVE": "name",
    "CLINICIAN": "name",
    "FACILITY": "facility",
    "DATE": "date",
    "AGE": "old_age",
    "PHONE": "phone",
    "EMAIL": "email",
    "URL": "url",
    "MRN": "mrn",
    "SSN": "ssn",
    "LICENSE": "license",
    "STREET": "street",
    "CITY": "place",
    "ZIP": "zip",
}


def simulated(hospital: Path, limit: int | None = None) -> list[Text]:
    """Read a simulated hospital's notes (`lifechart simulate`) with their gold spans, held out by the patient."""

    gold = {}
    path = hospital / "gold" / "spans.ndjson"
    if not path.exists():
        raise InputError("HOSPITAL", str(hospital), "a folder that `lifechart simulate` wrote")
    with open(path, "rb") as lines:
        for line in lines:
            entry = orjson.loads(line)
            gold[entry["document"]] = entry
    texts = []
    with open(hospital / "fhir" / "DocumentReference.ndjson", "rb") as lines:
        for line in lines:
            resource = orjson.loads(line)
            entry = gold[resource["id"]]
            text = base64.b64decode(resource["content"][0]["attachment"]["data"]).decode()
            spans = tuple((start, end, SIMULATED_TYPES[kind]) for start, end, kind, _ in entry["spans"])
            texts.append(Text(text, "en", spans, held_out(entry["patient"])))
            if limit is not None and len(texts) >= limit:
                break
    return texts


_SENTENCE = re.compile(r"(?<=[.?!])\s+(?=[A-Z])")
_PLACED = re.compile(r"(?<=[a-z,] )[A-Z][a-z]{3,}")
_DATED = re.compile(
    r"\b(?:19|20)\d\d\b|@|January|February|March|April|June|July|August|September|October|November|December"
)


def pubmedqa(path: Path, limit: int) -> list[Text]:
    """Read sentences of PubMedQA's abstracts that hold no identifier: no year, month, or place within a sentence."""
    named = entries("place") | entries("country") | entries("state")
    content = orjson.loads(gzip.decompress(path.read_bytes()))
    texts: list[Text] = []
    for _, entry in sorted(content.items()):
        for paragraph in (entry["QUESTION"], *entry["CONTEXTS"]):
            for sentence in _SENTENCE.split(paragraph):
                if _DATED.search(sentence) or any(fold(word) in named for word in _PLACED.findall(sentence)):
                    continue
                texts.append(Text(sentence, "en", (), held_out(sentence, 20)))
                if len(texts) >= limit:
                    return texts
    return texts


_MIDWAY = re.compile(r"(?<=[a-z,;:)] )[A-Z][a-z]")
_NUMBERED = re.compile(r"\d[/-]\d|\b(?:19|20)\d\d\b|\d{4}|\bDr\b|\bM[rs]s?\b")
_OF_DRUGS = ("MEDICATIONS", "ALLERGY")


def mts_dialog(path: Path, limit: int) -> list[Text]:
    """Read sentences of MTS-Dialog's notes that hold no identifier: none with a capital midway, a date or a title.

    In lists of drugs and allergies a capital is a drug's.
    """
    with tarfile.open(path) as archive:
        file = archive.extractfile("Main-Dataset/MTS-Dialog-TrainingSet.csv")
        if file is None:
            raise InputError("TEXTS", str(path), "MTS-Dialog's archive")
        rows = list(csv.DictReader(io.TextIOWrapper(file, encoding="utf-8", newline="")))
    texts: list[Text] = []
    for row in rows:
        for sentence in _SENTENCE.split(row["section_text"]):
            capital = _MIDWAY.search(sentence) and row["section_header"] not in _OF_DRUGS
            if not capital and not _NUMBERED.search(sentence):
                texts.append(Text(sentence, "en", (), held_out(sentence, 20)))
    return texts[:limit]
