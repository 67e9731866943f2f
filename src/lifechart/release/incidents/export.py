"""The fields that a regulator's form asks for, filled from an incident; what no statement says is marked open.

A view for the person who fills in the form, not a submission: fields.csv names the items of FDA form 3500A (21 CFR
803.32) and of an MHRA report, each with the fact behind it or with who has to fill it in.
"""

from __future__ import annotations

import csv
import functools
import io
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path

from lifechart.core import durable
from lifechart.release.incidents.course import Incident
from lifechart.release.incidents.register import Incidents

COLUMNS = ("block", "item", "label", "value", "open_for", "source")
_HARM = ("death", "serious-harm", "harm")


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a form."""

    block: str
    item: str
    label: str
    value: str
    open_for: str
    """Who has to fill it in, or nothing."""
    source: str
    """The ledger's entries or the digest that it rests on."""


@dataclass(frozen=True, slots=True)
class Export:
    """A form's items for one incident."""

    regulator: str
    title: str
    incident: str
    number: int
    due: str
    items: tuple[Item, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of the JSON form."""
        return durable.digest_of(self.to_json())

    def to_json(self) -> dict[str, object]:
        """Return plain JSON."""
        return asdict(self) | {"items": [asdict(item) for item in self.items]}

    def to_csv(self) -> str:
        """Return a table with a header; a text that a spreadsheet would take for a formula is quoted."""
        out = io.StringIO()
        writer = csv.DictWriter(out, COLUMNS)
        writer.writeheader()
        for item in self.items:
            writer.writerow({key: _plain(value) for key, value in asdict(item).items()})
        return out.getvalue()

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write JSON and CSV to `folder`, for this user alone; return their paths."""
        stem = folder / f"incident-{self.number}-{self.regulator}"
        content = durable.canonical_json(self.to_json())
        paths = stem.with_suffix(".json"), stem.with_suffix(".csv")
        for path, said in zip(paths, (content, self.to_csv().encode()), strict=True):
            with durable.replacing(path) as aside:
                descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(said)
        return paths


@functools.cache
def fields(regulator: str) -> tuple[dict[str, str], ...]:
    """Return the rows of fields.csv for one regulator."""
    text = resources.files("lifechart.release.incidents").joinpath("fields.csv").read_text()
    return tuple(row for row in csv.DictReader(text.splitlines()) if row["regulator"] == regulator)


def export(
    incidents: Incidents,
    name: str,
    regulator: str,
    *,
    institution: str,
    actor: str,
    with_words: bool = False,
) -> Export:
    """Fill in a regulator's items and record that it was done.

    `with_words`: put in what people wrote, which may name patients;
    otherwise only its digest. Raises InputError for a regulator that the policy does not know.
    """
    rule = incidents.policy.regulator(regulator)
    incident = incidents.get(name)
    facts = _Facts(incidents, incident, institution, with_words)
    items = []
    for row in fields(regulator):
        value, source = facts.of(row["fact"]) if row["fact"] else ("", "")
        who = row["who"] if value or row["who"] else "safety officer"
        items.append(Item(row["block"], row["item"], row["label"], value, "" if value else who, source))
    due = incident.regulator_due(incidents.policy).get(regulator)
    when = due.isoformat() if due else ""
    made = Export(regulator, rule.title, incident.digest, incident.number, when, tuple(items))
    incidents.exported(incident.digest, regulator, made.digest, actor=actor)
    return made


class _Facts:
    """What is known of one incident, each fact with the entries that it stands in."""

    def __init__(self, incidents: Incidents, incident: Incident, institution: str, with_words: bool) -> None:
        self._all, self._one = incidents, incident
        self._institution, self._with_words = institution, with_words

    def of(self, fact: str) -> tuple[str, str]:
        """Return (value, source) of a fact; an empty value is one that nobody has stated."""
        read: Callable[[], tuple[str, str]] = getattr(self, f"_{fact}")
        return read()

    def _entry(self, *steps: str) -> str:
        return ", ".join(f"ledger entry {each.entry}" for each in self._one.steps if each.step in steps)

    def _text(self, *steps: str, last: bool = False) -> tuple[str, str]:
        found = [each for each in self._one.steps if each.step in steps and each.words]
        found = found[-1:] if last else found
        said = [self._all.words.read(each.words) if self._with_words else f"text {each.words}" for each in found]
        return " / ".join(said), self._entry(*steps)

    def _patients(self) -> tuple[str, str]:
        return ", ".join(patient[:12] for patient in sorted(self._one.patients)), self._entry("reported", "linked")

    def _num_patients(self) -> tuple[str, str]:
        return str(len(self._one.patients)), self._entry("reported", "linked")

    def _event_or_problem(self) -> tuple[str, str]:
        harmed = self._one.severity in _HARM
        return "adverse event and product problem" if harmed else "product problem", self._entry("reported", "triaged")

    def _severity(self) -> tuple[str, str]:
        return self._all.policy.severity(self._one.severity).words, self._entry("reported", "triaged")

    def _problem(self) -> tuple[str, str]:
        return self._all.policy.problem(self._one.problem).words, self._entry("reported")

    def _occurred(self) -> tuple[str, str]:
        return self._one.occurred, self._entry("reported")

    def _reported(self) -> tuple[str, str]:
        return self._one.reported.isoformat(), self._entry("reported")

    def _today(self) -> tuple[str, str]:
        return self._all.clock().date().isoformat(), ""

    def _narrative(self) -> tuple[str, str]:
        return self._text("reported")

    def _cause(self) -> tuple[str, str]:
        if not self._one.cause:
            return "", ""
        text, source = self._text("investigated", last=True)
        return f"{self._all.policy.cause(self._one.cause).words}: {text}", source

    def _actions(self) -> tuple[str, str]:
        return self._text("corrected")

    def _product(self) -> tuple[str, str]:
        return (f"Lifechart, capability {self._one.capability}" if self._one.capability else "Lifechart"), ""

    def _manufacturer(self) -> tuple[str, str]:
        return f"{self._institution} (made and trained in this institution)", ""

    def _model(self) -> tuple[str, str]:
        return ", ".join(sorted(set(self._one.answers.values()))), self._entry("reported", "linked")

    def _operator(self) -> tuple[str, str]:
        return ("health professional" if self._one.users else ""), self._entry("reported", "linked")

    def _evidence(self) -> tuple[str, str]:
        digests = ", ".join(sorted(self._one.answers))
        return (f"yes, as answers in the ledger: {digests}" if digests else ""), self._entry("reported", "linked")

    def _reporter(self) -> tuple[str, str]:
        return self._one.reporter, self._entry("reported")

    def _facility_kind(self) -> tuple[str, str]:
        return "user facility", ""

    def _institution_name(self) -> tuple[str, str]:
        return self._institution, ""

    def _number(self) -> tuple[str, str]:
        return f"{self._one.number} ({self._one.digest[:12]})", self._entry("reported")

    def _report_type(self) -> tuple[str, str]:
        return ("follow-up" if self._one.submitted else "initial"), self._entry("submitted")

    def _released(self) -> tuple[str, str]:
        found = [self._all.released(model) for model in sorted(set(self._one.answers.values()))]
        known = [each for each in found if each is not None]
        return ", ".join(time[:10] for _, time in known), ", ".join(f"ledger entry {index}" for index, _ in known)

    def _recalls(self) -> tuple[str, str]:
        said = []
        for digest in self._one.recalls:
            tally = self._all.recalls.tally(self._all.recalls.get(digest))
            done = len(tally.people) - len(tally.outstanding)
            said.append(f"{tally.answers} answers, acknowledged by {done} of {len(tally.people)}")
        return "; ".join(said) or "none", self._entry("recalled")

    def _in_use(self) -> tuple[str, str]:
        return ("yes" if self._all.in_use(self._one) else "no, switched off"), ""


def _plain(value: str) -> str:
    return f"'{value}" if value[:1] in "=+-@\t\r" else value
