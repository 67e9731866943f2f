"""The consent register: what each patient decided for each purpose, as a file that only grows and can't be edited
unseen.

It holds the source's own patient ids, so it lies under home (`consent/register.jsonl`, mode 0600) and nothing of it
goes anywhere else but keyed hashes. Every line carries an HMAC over itself and the line before, under the institution's
de-identification key: a line changed, taken out or put in between breaks the chain; and a withdrawal's statement in the
ledger names the chain's head, so that lines cut off at the end are missed too.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import orjson

from lifechart.core import durable
from lifechart.core.errors import InputError, IntegrityError
from lifechart.core.settings import Settings

PURPOSES = ("training", "evaluation", "research", "sharing")
"""What a patient can consent to: that the record is learned from, that a model is examined on it, that people study it,
that it goes to another institution."""
BUILD_PURPOSES = ("training", "evaluation")
"""What a data set of `lifechart ingest` is for, unless it says otherwise."""
CONSENTED, WITHDRAWN = "consented", "withdrawn"
POLICIES = ("opt-out", "opt-in")
"""What holds for a patient who decided nothing: in unless withdrawn, or out unless consented."""
HEAD = "hmac:"
"""What a chain's head begins with, so that nobody takes it for the digest of a thing."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One patient's decision for one purpose."""

    patient: str
    """The source's own id, as records refer to it."""
    purpose: str
    decision: str
    """`consented` or `withdrawn`."""
    at: str
    """When it was made: ISO 8601, UTC."""
    by: str
    """Who recorded it."""
    source: str = ""
    """Where it stands: a form, or a FHIR Consent."""
    until: str = ""
    """When it lapses (ISO 8601, UTC); empty: it does not."""

    def __post_init__(self) -> None:
        if not self.patient.strip():
            raise InputError("patient", "", "the id that the records refer to")
        if self.purpose not in PURPOSES:
            raise InputError("purpose", self.purpose, f"one of {PURPOSES}")
        if self.decision not in (CONSENTED, WITHDRAWN):
            raise InputError("decision", self.decision, f"{CONSENTED} or {WITHDRAWN}")
        if not self.by.strip():
            raise InputError("by", self.by, "who records it")
        for key in ("at", "until"):
            if (value := getattr(self, key)) and _instant(value) is None:
                raise InputError(f"decision: {key}", value, "a date and time with its offset from UTC (ISO 8601)")
        if not self.at:
            raise InputError("decision: at", self.at, "a date and time")


def _instant(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if moment.tzinfo is None else moment


def now() -> str:
    """Return this moment as decisions are dated."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


class Register:
    """The decisions of all patients, newest last; reading checks the chain."""

    def __init__(self, path: Path, key: bytes) -> None:
        """Read the register at `path`, which need not be there yet; raises IntegrityError that names a broken line.

        `key`: the institution's de-identification key.
        """
        self.path, self._key = path, hmac.digest(key, b"consent register", "sha256")
        self.decisions: list[Decision] = []
        self._heads = [self._mac(b"", b"")]
        for number, line in enumerate(_lines(path), start=1):
            self._take(line, number)

    @property
    def head(self) -> str:
        """The chain's last link, `hmac:` and 64 hex digits."""
        return HEAD + self._heads[-1].hex()

    def holds_head(self, head: str) -> bool:
        """Return whether the chain ever ended so: false where lines were cut off since."""
        return head in {HEAD + each.hex() for each in self._heads}

    def add(self, decisions: Iterable[Decision]) -> list[Decision]:
        """Write decisions that are not there yet, durably; returns those that were new."""
        with _locked(self.path):
            # Another process may have written since this one read.
            for number, line in enumerate(_lines(self.path), start=1):
                if number > len(self.decisions):
                    self._take(line, number)
            known = set(self.decisions)
            new = [each for each in dict.fromkeys(decisions) if each not in known]
            if new:
                self._append(new)
        return new

    def stands(self, patient: str, purpose: str, at: datetime | None = None) -> str | None:
        """Return a patient's last decision for a purpose (`consented`, `withdrawn`), or None where none holds."""
        return self.standing(purpose, at).get(patient)

    def standing(self, purpose: str, at: datetime | None = None) -> dict[str, str]:
        """Return {patient: decision} for a purpose; of two of one moment the later line holds."""
        moment = at or datetime.now(UTC)
        found: dict[str, tuple[datetime, str]] = {}
        for each in self.decisions:
            made = _instant(each.at)
            assert made is not None, "checked when the decision was made"
            if each.purpose != purpose or made > moment:
                continue
            if each.patient not in found or made >= found[each.patient][0]:
                lapsed = bool(each.until) and (_instant(each.until) or moment) < moment
                found[each.patient] = (made, "" if lapsed else each.decision)
        return {patient: decision for patient, (_, decision) in found.items() if decision}

    def permits(self, patient: str, purposes: Sequence[str], policy: str) -> bool:
        """Return whether a patient may be in a build for these purposes: each of them must be permitted."""
        if policy == "opt-out":
            return all(self.stands(patient, purpose) != WITHDRAWN for purpose in purposes)
        return all(self.stands(patient, purpose) == CONSENTED for purpose in purposes)

    def _append(self, new: Sequence[Decision]) -> None:
        content = b""
        for each in new:
            body = durable.canonical_json(asdict(each))
            mac = self._mac(self._heads[-1], body)
            content += durable.canonical_json({"decision": asdict(each), "mac": mac.hex()}) + b"\n"
            self.decisions.append(each)
            self._heads.append(mac)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "ab") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        durable.sync_directory(self.path.parent)

    def _take(self, line: bytes, number: int) -> None:
        try:
            content = orjson.loads(line)
            decision = Decision(**content["decision"])
            stated = bytes.fromhex(content["mac"])
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, InputError) as error:
            raise IntegrityError(f"{self.path}: line {number} cannot be read") from error
        mac = self._mac(self._heads[-1], durable.canonical_json(asdict(decision)))
        if not hmac.compare_digest(mac, stated):
            raise IntegrityError(f"{self.path}: line {number} is not what was recorded, or a line before it is gone")
        self.decisions.append(decision)
        self._heads.append(mac)

    def _mac(self, before: bytes, body: bytes) -> bytes:
        return hmac.new(self._key, before + body, hashlib.sha256).digest()


def open_register(settings: Settings, key: bytes) -> Register:
    """Open this institution's register (`consent/register.jsonl` under home)."""
    return Register(settings.home / "consent" / "register.jsonl", key)


def patient_hash(key: bytes, patient: str) -> str:
    """Return the keyed hash (64 hex digits) that stands for a patient in statements about consent."""
    return hmac.new(key, b"consent\0" + patient.encode(), hashlib.sha256).hexdigest()


def _lines(path: Path) -> Iterator[bytes]:
    if not path.exists():
        return
    if path.stat().st_mode & 0o077:
        raise InputError("consent register", str(path), "a file that only its owner may read (chmod 600)")
    content = path.read_bytes()
    # A last line without its end is one whose writing was cut off; nobody was told that it had been recorded.
    yield from content.split(b"\n")[:-1]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        _cut_torn_line(path)
        yield
    finally:
        os.close(descriptor)


def _cut_torn_line(path: Path) -> None:
    """Take away what a crash left of a line, so that the next one begins where it should."""
    if path.exists() and not (content := path.read_bytes()).endswith(b"\n") and content:
        with open(path, "rb+") as file:
            file.truncate(content.rfind(b"\n") + 1)
