"""Who a patient becomes in de-identified images: a keyed id, keyed UIDs, dates moved by the record's own offset."""

from __future__ import annotations

import hmac
import re
import uuid
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache

import polars as pl
from pydicom._uid_dict import UID_dictionary

from lifechart.data.deidentify import dates, structured

_TIME = re.compile(r"(\d\d)(?:(\d\d)(?:(\d\d)(?:\.(\d{1,6}))?)?)?")
_DATE = re.compile(r"(\d{4})(\d\d)(\d\d)|(\d{4})\.(\d\d)\.(\d\d)")
_DATETIME = re.compile(r"(\d{8})(\d{2,6}(?:\.\d{1,6})?)?(?:[+-]\d{4})?")
_TO_THE_SECOND = len("HHMMSS")
_HALF_HOUR = 1_800_000_000
_DAY = timedelta(days=1)
_MIDNIGHT = datetime(1, 1, 1)  # noqa: DTZ001 -- wall clock at the place of care, as the records


@dataclass(frozen=True, slots=True)
class Subject:
    """One patient under the institution's key.

    Days move by `days`, the offset that the rest of the record moves by, so that images stand where they belong on the
    timeline. The clock moves by `clock` besides, up to half an hour either way and to the microsecond: the second at
    which a scanner started is in every log of the department, and would find the patient. Intervals survive both, so
    a time that was written to the second or finer is written to the microsecond.
    """

    id: int
    """As in data sets: structured.subject_ids."""
    days: timedelta
    clock: timedelta

    def date(self, written: str) -> str | None:
        """Return a DA moved, or None if it is not a date."""
        found = _parse_date(written)
        moved = None if found is None else _moved(_start(found), self.days)
        return None if moved is None else f"{moved:%Y%m%d}"

    def time(self, written: str) -> str | None:
        """Return a TM moved, within its day, or None if it is not a time."""
        found = _parse_time(written)
        if found is None:
            return None
        moved = (found[0] + self.clock) % _DAY
        return _write_time(moved, found[1])

    def date_and_time(self, day: str, time: str) -> tuple[str, str] | None:
        """Return a DA and the TM that goes with it, moved together: past midnight the day moves too."""
        found_day, found_time = _parse_date(day), _parse_time(time)
        if found_day is None or found_time is None:
            return None
        moved = _moved(_start(found_day), found_time[0] + self.clock + self.days)
        if moved is None:
            return None
        since = moved - moved.replace(hour=0, minute=0, second=0, microsecond=0)
        return f"{moved:%Y%m%d}", _write_time(since, found_time[1])

    def datetime(self, written: str) -> str | None:
        """Return a DT moved, without its time zone, or None if it is not one."""
        found = _DATETIME.fullmatch(written.strip(" \0"))
        if found is None:
            return None
        if found[2] is None:
            return self.date(found[1])
        moved = self.date_and_time(found[1], found[2])
        return None if moved is None else moved[0] + moved[1]


def subject(key: bytes, patient_id: str) -> Subject:
    """Return the subject that `patient_id`, as the rest of the record knows the patient, becomes under `key`."""
    ids = pl.Series([patient_id])
    draw = int.from_bytes(hmac.digest(key, b"clock\0" + patient_id.encode("utf-8", "replace"), "sha256")[:8], "big")
    clock = 1 + (draw >> 1) % (_HALF_HOUR - 1)
    return Subject(
        id=int(structured.subject_ids(key, ids)[0]),
        days=dates.offsets(key, ids)[0],
        clock=timedelta(microseconds=clock if draw & 1 else -clock),
    )


@lru_cache(maxsize=65_536)
def keyed_uid(key: bytes, uid: str) -> str:
    """Return the UID that stands for `uid` everywhere under `key`: 2.25 and a UUID (version 8, RFC 9562) in decimal.

    UIDs that the standard defines (SOP classes, transfer syntaxes, well-known frames of reference) stay as they are.
    """
    if uid in UID_dictionary:
        return uid
    digest = bytearray(hmac.digest(key, b"uid\0" + uid.encode("utf-8", "replace"), "sha256")[:16])
    digest[6] = 0x80 | digest[6] & 0x0F
    digest[8] = 0x80 | digest[8] & 0x3F
    return f"2.25.{uuid.UUID(bytes=bytes(digest)).int}"


def _parse_date(written: str) -> date | None:
    found = _DATE.fullmatch(written.strip(" \0"))
    if found is None:
        return None
    year, month, day = (part for part in found.groups() if part)
    try:
        return date(int(year), int(month), int(day))
    except ValueError:
        return None


def _parse_time(written: str) -> tuple[timedelta, int] | None:
    """Return a time since midnight and how precisely it was written, in characters."""
    plain = written.strip(" \0").replace(":", "")
    found = _TIME.fullmatch(plain)
    if found is None:
        return None
    hour, minute, second = (int(part or 0) for part in found.groups()[:3])
    if hour > 23 or minute > 59 or second > 60:
        return None
    fraction = timedelta(microseconds=int((found[4] or "0").ljust(6, "0")))
    return timedelta(hours=hour, minutes=minute, seconds=min(second, 59)) + fraction, len(plain)


def _write_time(since: timedelta, precision: int) -> str:
    return f"{_MIDNIGHT + since:%H%M%S.%f}"[: precision if precision < _TO_THE_SECOND else None]


def _start(day: date) -> datetime:
    return _MIDNIGHT.replace(year=day.year, month=day.month, day=day.day)


def _moved(moment: datetime, by: timedelta) -> datetime | None:
    try:
        moved = moment + by
    except OverflowError:
        return None
    return moved if moved.year >= 1000 else None
