"""The walk over a data set: a new one is built of what may stay, so that whatever is not looked at is not there.

At every depth the same lists count. A sequence stays only if it is listed; its items are walked like the data set
itself. An attribute whose VR is not the standard's, or whose value cannot be read, does not stay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from pydicom.datadict import dictionary_keyword, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from lifechart.data.deidentify.dicom import tables, values
from lifechart.data.deidentify.dicom.subject import Subject, keyed_uid
from lifechart.data.deidentify.dicom.tables import Kept, Listed

PATIENT_ID = 0x0010_0020
PIXEL_GROUP = 0x7FE0
_LOWEST_GROUP = 0x0008
"""Command, file meta and directory groups are never copied."""
_CODE = range(0x0008_0100, 0x0008_0125)
_CODE_VALUES = (0x0008_0100, 0x0008_0119, 0x0008_0120)
_SCHEME, _MEANING = 0x0008_0102, 0x0008_0104
_LUT_OF = {0x0028_1201: 0x0028_1101, 0x0028_1202: 0x0028_1102, 0x0028_1203: 0x0028_1103, 0x0028_3006: 0x0028_3002}
"""Look-up table -> its descriptor, which says how long it is."""
_DUMMIES: dict[str, Any] = {
    **dict.fromkeys(("LO", "SH", "ST", "LT", "UT", "UC", "CS", "AE", "PN"), "REMOVED"),
    "DA": "19000101",
    "TM": "000000",
    "DT": "19000101000000",
    "AS": "000Y",
    "DS": "0",
    "IS": "0",
    "UR": "urn:removed",
    "OB": b"\0\0",
}
"""What stands for a value that the standard wants replaced (action D)."""


class Walk:
    """Builds de-identified data sets of one file; `counts` says how often what was done."""

    def __init__(self, key: bytes, subject: Subject, source: Dataset) -> None:
        self._key, self._subject = key, subject
        self._names = frozenset(_people(source))
        self.counts: Counter[str] = Counter()

    def clean(self, source: Dataset) -> Dataset:
        """Return what may stay of a data set, without its pixels (group 7FE0)."""
        out = Dataset()
        self._code(source, out)
        moved = self._dates(source)
        for number in [int(tag) for tag in source.keys()]:  # noqa: SIM118 -- a Dataset iterates over its elements
            group = number >> 16
            if group < _LOWEST_GROUP or group == PIXEL_GROUP or number & 0xFFFF == 0 or number in _CODE:
                continue
            if group & 1:
                self._private(source, number, out)
                continue
            try:
                made = self._element(source, number, moved)
            except Exception:
                # Whatever pydicom stumbles over, in whatever way, does not stay; the value must not be told.
                self.counts["unreadable"] += 1
                continue
            if made is not None:
                out.add(made)
        return out

    def _element(self, source: Dataset, tag: int, moved: dict[int, str]) -> DataElement | None:
        listed = tables.annex_e().get(tag)
        if listed is not None:
            return self._listed(source[tag], listed, moved)
        kept = tables.keep_list().get(tag)
        if kept is None:
            self.counts["not listed"] += 1
            return None
        vr, value = self._kept(source, source[tag], kept)
        self.counts["kept" if value is not None else "value not allowed"] += 1
        return None if value is None else DataElement(tag, vr, value)

    def _listed(self, element: DataElement, listed: Listed, moved: dict[int, str]) -> DataElement | None:
        """Apply a row of Table E.1-1: what its options keep, else what the basic profile wants."""
        tag, vr = int(element.tag), listed.vr
        if tag == PATIENT_ID:
            self.counts["replaced"] += 1
            return DataElement(tag, "LO", str(self._subject.id))
        if tag in moved:
            self.counts["moved"] += 1
            return DataElement(tag, vr, moved[tag])
        if vr == element.VR == "SQ" and (listed.cleans or "U" in listed.basic):
            items = self._items(element)
            if items is not None:
                self.counts["cleaned"] += 1
                return DataElement(tag, "SQ", items)
        elif listed.cleans and vr in values.TEXT_VRS and element.VR in values.TEXT_VRS:
            text = values.words(element.value, self._names)
            if text is not None:
                self.counts["cleaned"] += 1
                return DataElement(tag, vr, text[:16] if vr == "SH" else text)
        elif vr == element.VR == "UI" and "U" in listed.basic:
            self.counts["UID replaced"] += 1
            return DataElement(tag, "UI", values.uids(element.value, self._key))
        return self._basic(element, vr, listed.basic)

    def _basic(self, element: DataElement, vr: str, basic: str) -> DataElement | None:
        """Remove, empty or replace; where the standard leaves a choice, an empty value before a replaced one."""
        tag = int(element.tag)
        if "Z" in basic:
            self.counts["emptied"] += 1
            return DataElement(tag, vr, Sequence() if vr == "SQ" else None)
        if "D" in basic and vr == "UI":
            self.counts["UID replaced"] += 1
            return DataElement(tag, "UI", keyed_uid(self._key, str(element.value)))
        if "D" in basic and vr in _DUMMIES:
            self.counts["replaced"] += 1
            return DataElement(tag, vr, _DUMMIES[vr])
        self.counts["removed"] += 1
        return None

    def _kept(self, source: Dataset, element: DataElement, kept: Kept) -> tuple[str, Any]:
        """Return the VR and the value of an attribute of the keep-list; the value None if it may not stay."""
        vr, rule = str(element.VR), kept.rule
        if vr not in kept.vrs:
            return vr, None
        if rule == "items":
            return vr, self._items(element)
        if rule in ("number", "large"):
            return vr, values.number(vr, element.value, large=rule == "large")
        if rule == "term":
            return vr, values.terms(element.value)
        if rule == "text":
            text = values.words(element.value, self._names)
            return vr, text if text is None or vr != "SH" else text[:16]
        if rule == "uid":
            return vr, values.uids(element.value, self._key)
        if rule == "table":
            return vr, _table(source, element)
        return vr, values.short(element.value, rule)

    def _items(self, element: DataElement) -> Sequence | None:
        """Return a sequence's items, cleaned, or None if nothing is left in any of them."""
        items = [self.clean(item) for item in element.value]
        return Sequence(items) if any(len(item) for item in items) else None

    def _code(self, source: Dataset, out: Dataset) -> None:
        """Carry a coded concept over if the standard knows it."""
        for tag in _CODE_VALUES:
            if tag in source:
                try:
                    known = values.coded(str(source[_SCHEME].value), str(source[tag].value))
                except Exception:
                    known = None
                self.counts["code kept" if known else "code not known"] += 1
                if known:
                    scheme, code, meaning = known
                    out.add(DataElement(_CODE_VALUES[0], "SH", code))
                    out.add(DataElement(_SCHEME, "SH", scheme))
                    out.add(DataElement(_MEANING, "LO", meaning))

    def _private(self, source: Dataset, tag: int, out: Dataset) -> None:
        group, element = tag >> 16, tag & 0xFFFF
        if element < 0x1000:
            return
        try:
            creator = str(source[group, element >> 8].value).strip(" \0")
            kept = tables.safe_private()[creator, group, element & 0xFF]
            vr, value = self._kept(source, source[tag], kept)
            if value is None:
                raise KeyError(tag)
        except Exception:
            self.counts["private removed"] += 1
            return
        out.private_block(group, creator, create=True).add_new(element & 0xFF, vr, value)
        self.counts["private kept"] += 1

    def _dates(self, source: Dataset) -> dict[int, str]:
        """Return {tag: moved value} of the dates and times of this level that can be moved; pairs move together."""
        moved: dict[int, Any] = {}
        for tag, vr, written in _moments(source):
            if vr == "DT":
                made = [self._subject.datetime(one) for one in written]
            elif vr == "DA":
                made = [self._subject.date(one) for one in written]
            else:
                made = [self._subject.time(one) for one in written]
            if made and all(made):
                moved[tag] = made if len(made) > 1 else made[0]
            partner = _partner(tag) if vr == "DA" and len(written) == 1 else None
            if partner is not None and partner in source:
                together = self._subject.date_and_time(written[0], _written(source, partner))
                if together is not None:
                    moved[tag], moved[partner] = together
        # A time that moved with its date must not be moved again when its own turn comes: dates come after times here.
        return moved


def _moments(source: Dataset) -> Iterator[tuple[int, str, list[str]]]:
    """Yield (tag, VR, values) of the dates and times that may stay moved; times first."""
    found = []
    for number in [int(tag) for tag in source.keys()]:  # noqa: SIM118 -- a Dataset iterates over its elements
        listed = tables.annex_e().get(number)
        if listed is not None and listed.shifts:
            found.append((number, listed.vr))
    for tag, vr in sorted(found, key=lambda pair: pair[1] != "TM"):
        try:
            element = source[tag]
            if vr == element.VR:
                yield tag, vr, [str(one) for one in (element.value if element.VM > 1 else [element.value])]
        except Exception:  # unreadable: it is counted, and left out, by the walk
            continue


def _written(source: Dataset, tag: int) -> str:
    try:
        return str(source[tag].value)
    except Exception:
        return ""


def _partner(tag: int) -> int | None:
    """Return the tag of the time that goes with a date: StudyTime for StudyDate, TimeOf… for DateOf…"""
    keyword = dictionary_keyword(tag)
    name = "TimeOf" + keyword[6:] if keyword.startswith("DateOf") else keyword.removesuffix("Date") + "Time"
    found = tag_for_keyword(name)
    listed = None if found is None else tables.annex_e().get(found)
    return found if listed is not None and listed.shifts and listed.vr == "TM" else None


def _table(source: Dataset, element: DataElement) -> Any:
    """Return a look-up table that is exactly as long as its descriptor says, or None."""
    try:
        entries, _, bits = (int(item) for item in source[_LUT_OF[int(element.tag)]].value)
    except (KeyError, TypeError, ValueError):
        return None
    entries = entries or 65_536
    if isinstance(element.value, bytes):
        # Entries of eight bits are packed in pairs, or stand in a word each.
        lengths = {entries * 2, entries + entries % 2} if bits <= 8 else {entries * 2}
        return element.value if len(element.value) in lengths else None
    found = values.number("US", element.value)
    return found if isinstance(found, list) and len(found) == entries else None


def _people(source: Dataset) -> Iterator[str]:
    """Yield the words, in lower case, of every person's name in a data set, at any depth."""
    for tag in list(source.keys()):
        try:
            element = source[tag]
            if element.VR == "SQ":
                for item in element.value:
                    yield from _people(item)
            elif element.VR == "PN":
                for name in element.value if element.VM > 1 else [element.value]:
                    for word in str(name).replace("^", " ").replace("=", " ").split():
                        if len(word) > 1:
                            yield word.lower()
        except Exception:  # unreadable: it is counted, and left out, by the walk
            continue
