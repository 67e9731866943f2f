"""The source `ccda`: C-CDA documents (XML), one patient each; the statements that ccda_entries.toml names, by template.

A statement is stamped with the latest of its own time and its author's. Narrative is not read. XML with a document
type, and so with entities of its own, is refused.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError

import polars as pl
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import parse

from lifechart.core.timeline import BIRTH
from lifechart.data.sources import ENTRY_BITS, KEPT, QUARANTINED, ROWS, WITHDRAWN, Batch, Fault, Span, Unit, results
from lifechart.data.sources.naaccr import moment

PATIENT, STATEMENT = "document patient", "document statement"
MAX_BYTES = 64 << 20
"""A document is held in memory whole; a larger one is refused."""
_HL7 = "{urn:hl7-org:v3}"
_TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"
_TEMPLATE = "2.16.840.1.113883.10.20.22.4."
_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
_TIME = re.compile(r"(\d{4}(?:\d{2}){0,2})(\d{4}(?:\d{2})?)?(?:\.\d+)?(?:[+-]\d{4})?", re.ASCII)
_NEVER = ("cancelled", "nullified")
_PLACES = {"own": "code", "value": "value", "product": "consumable/manufacturedProduct/manufacturedMaterial/code"}
_PLACES["participant"] = "participant/participantRole/playingEntity/code"


class Ccda:
    """The source `ccda`."""

    name = "ccda"

    def detects(self, path: Path) -> bool:
        """Return whether there is a C-CDA document."""
        return any(_opens(file) for file in self.files(path)[:20])

    def files(self, path: Path, option: str = "") -> list[Path]:
        """Return the XML files, sorted."""
        found = [path] if path.is_file() else path.rglob("*.xml")
        return sorted(file for file in found if file.suffix == ".xml" and file.is_file())

    def units(self, path: Path, option: str = "") -> list[Unit]:
        """Return one unit a document."""
        return [Unit(self.name, (Span(str(file)),), 1 + file.stat().st_size // 8) for file in self.files(path)]

    def record_end(self, path: Path, option: str = "") -> str | None:
        """Return None: documents are written at many times."""
        return None

    def read(self, unit: Unit) -> Iterator[Batch]:
        """Read one document."""
        path = Path(unit.spans[0].path)
        try:
            root = parse(path, forbid_dtd=True).getroot() if path.stat().st_size <= MAX_BYTES else None
        except (ParseError, DefusedXmlException, OSError, LookupError, ValueError):
            root = None
        role = root.find(f"{_HL7}recordTarget/{_HL7}patientRole") if root is not None else None
        ids = role.findall(f"{_HL7}id") if role is not None else []
        patient = next((id_.get("extension") for id_ in ids if id_.get("extension")), None)
        if root is None or role is None or not patient:
            reason = "no patient" if root is not None else "not a document that can be read"
            counts = Counter({(PATIENT, QUARANTINED): 1})
            yield Batch(pl.DataFrame(schema=ROWS), counts, faults=[Fault(0, PATIENT, reason)], starts=[0], lines=1)
            return
        yield _document(root, role, patient)


def _document(root: Element, role: Element, patient: str) -> Batch:
    rows = [{**event, "position": 0, "type": PATIENT, "patient": patient} for event in _person(role)]
    counts: Counter[tuple[str, str]] = Counter({(PATIENT, KEPT): 1})
    withdrawn: Counter[tuple[str, str]] = Counter()
    faults: list[Fault] = []
    lines = 1
    for statement in root.iter():
        entry = _entry(statement)
        if entry is None:
            continue
        position = lines << ENTRY_BITS
        lines += 1
        status = _withdrawn(statement)
        if status:
            counts[STATEMENT, WITHDRAWN] += 1
            withdrawn[STATEMENT, status] += 1
            continue
        found = _events(statement, entry)
        if isinstance(found, str):
            faults.append(Fault(position, STATEMENT, found))
            counts[STATEMENT, QUARANTINED] += 1
        else:
            rows += [{**event, "position": position, "type": STATEMENT, "patient": patient} for event in found]
            counts[STATEMENT, KEPT] += 1
    return Batch(pl.DataFrame(rows, schema=ROWS), counts, withdrawn, faults, starts=[0], lines=lines)


def _entry(element: Element) -> dict[str, Any] | None:
    for template in element.findall(f"{_HL7}templateId"):
        root = template.get("root") or ""
        if root.startswith(_TEMPLATE) and root.removeprefix(_TEMPLATE) in _table()["entries"]:
            entry: dict[str, Any] = _table()["entries"][root.removeprefix(_TEMPLATE)]
            return entry
    return None


def _withdrawn(statement: Element) -> str:
    """Return the status under which a statement says that it did not happen; empty if it did."""
    status = _at(statement, "statusCode")
    stated = status.get("code") if status is not None else None
    return "negated" if statement.get("negationInd") == "true" else stated if stated in _NEVER else ""


def _person(role: Element) -> list[dict[str, Any]]:
    """Return a patient's gender and birth; the gender is always there, so that a document's patient has an event."""
    person = role.find(f"{_HL7}patient")
    coded = person.find(f"{_HL7}administrativeGenderCode") if person is not None else None
    gender = _table()["genders"].get(coded.get("code") if coded is not None else None, "unknown")
    found: list[dict[str, Any]] = [{"code": f"GENDER//{gender}", "name": gender.capitalize(), "kind": "demographic"}]
    birth = person.find(f"{_HL7}birthTime") if person is not None else None
    born = moment((birth.get("value") or "")[:8], start=True) if birth is not None else None
    if born:
        found.append({"code": BIRTH, "name": "Birth", "kind": "demographic", "time": born})
    return found


def _events(statement: Element, entry: dict[str, Any]) -> list[dict[str, Any]] | str:
    """Return a statement's events, or why there are none."""
    coded = _code(_at(statement, _PLACES[entry["code"]]))
    if coded is None:
        return "no code"
    effective = statement.find(f"{_HL7}effectiveTime")
    stated = [effective, _at(statement, "effectiveTime/low"), _at(statement, "author/time")]
    written = [text for element in stated if element is not None and (text := element.get("value"))]
    times = [_time(text) for text in written]
    if not times:
        return "no date"
    if None in times:
        return "date not valid"
    code, name = coded
    prefixed = f"{entry['prefix']}//{code}" if "prefix" in entry else code
    event = {"code": prefixed, "name": name, "kind": entry["kind"], "time": max(filter(None, times))}
    if entry.get("value"):
        event |= _value(statement.find(f"{_HL7}value"), code, name)
    found = [event]
    high = _at(statement, "effectiveTime/high")
    end = _time(high.get("value") or "") if high is not None and "end" in entry else None
    if end:
        ended = {"code": f"{entry['end']}//{code}", "name": f"End of: {name}" if name else None}
        found.append({**event, **ended, "time": end})
    return found


def _value(element: Element | None, code: str, name: str | None) -> dict[str, Any]:
    """Return a result: a quantity, a coded answer that becomes part of the code, or words."""
    kind = (element.get(_TYPE) or "").rpartition(":")[2] if element is not None else ""
    if element is None:
        return {}
    if kind in ("PQ", "INT", "REAL"):
        number = element.get("value") or ""
        known = re.fullmatch(r"-?\d{1,12}(\.\d{1,12})?", number, re.ASCII)
        return {"numeric_value": float(number) if known else None, "unit": element.get("unit") or None}
    if kind in ("CD", "CE", "CO"):
        answer = _code(element)
        if answer is None:
            return {}
        return {"code": f"{code}//{answer[0]}", "name": f"{name}: {answer[1]}" if name and answer[1] else None}
    return {"text_value": results.as_written(element.text.strip())} if kind == "ST" and element.text else {}


def _code(element: Element | None) -> tuple[str, str | None] | None:
    """Return (SYSTEM//CODE, name) of a coded element or the first of its translations that has a listed system."""
    if element is None:
        return None
    each = [one for one in (element, *element.findall(f"{_HL7}translation")) if _CODE.fullmatch(one.get("code") or "")]
    systems = _table()["systems"]
    chosen = next((one for one in each if one.get("codeSystem") in systems), each[0] if each else None)
    if chosen is None:
        return None
    system = systems.get(chosen.get("codeSystem"), "OTHER")
    return f"{system}//{chosen.get('code')}", chosen.get("displayName")


def _time(text: str) -> datetime | None:
    """Return the wall-clock time of an HL7 timestamp (`20150601100000-0500`); a day alone counts at its end."""
    parts = _TIME.fullmatch(text.strip())
    day = moment(parts[1]) if parts else None
    if parts is None or day is None or parts[2] is None:
        return day
    try:
        return datetime.strptime(f"{parts[1]}{parts[2]:0<6}", "%Y%m%d%H%M%S")  # noqa: DTZ007 -- naive wall clock
    except ValueError:
        return None


def _at(element: Element, path: str) -> Element | None:
    return element.find("/".join(f"{_HL7}{step}" for step in path.split("/")))


def _opens(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return b"<ClinicalDocument" in file.read(4096)
    except OSError:
        return False


@cache
def _table() -> dict[str, Any]:
    content = resources.files("lifechart.data.sources").joinpath("ccda_entries.toml").read_text(encoding="utf-8")
    return tomllib.loads(content)


source = Ccda()
