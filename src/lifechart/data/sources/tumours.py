"""What a record of a tumour says, as events: the table tumour_fields.toml applied to one record's fields."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from lifechart.data.sources.results import as_written, spellings


@dataclass(frozen=True, slots=True)
class Field:
    """One row of tumour_fields.toml, which says what each key means."""

    names: tuple[str, ...]
    kind: str
    code: str = ""
    name: str = ""
    system: str = ""
    answers: str = ""
    pattern: re.Pattern[str] | None = None
    values: Mapping[str, str] | None = None
    strip: re.Pattern[str] | None = None
    number: str = ""
    text: bool = False

    def event(self, value: str) -> dict[str, Any] | None:
        """Return what a value says (columns of sources.ROWS); None for one that is not allowed."""
        if self.number:
            return self._measured(value)
        if self.text:
            words = as_written(value)
            known = words.lower() in spellings()
            return {"code": self.code, "name": self.name, "text_value": words, "kind": self.kind} if known else None
        if self.pattern is not None and not self.pattern.fullmatch(value):
            return None
        answer = self.strip.sub("", value) if self.strip else value
        if self.values is not None:
            listed = self.values.get(answer.lower())
            if listed is None:
                return None
            answer = listed
        if self.system:
            return {"code": f"{self.system}//{answer.upper()}", "kind": self.kind}
        name = f"{self.name}: {answer}"
        return {"code": f"{self.code}//{self.answers}//{answer}", "name": name, "kind": self.kind}

    def _measured(self, value: str) -> dict[str, Any] | None:
        number = re.fullmatch(r"(\d{1,6}(?:\.\d{1,4})?)\s*(?:%|mm)?", value)
        if number is None:
            return None
        return {
            "code": self.code,
            "name": self.name,
            "numeric_value": float(number[1]),
            "unit": self.number,
            "kind": self.kind,
        }


@cache
def fields() -> dict[str, Field]:
    """Return the fields of a tumour."""
    content = resources.files("lifechart.data.sources").joinpath("tumour_fields.toml").read_text(encoding="utf-8")
    return {name: _field(entry) for name, entry in tomllib.loads(content).items()}


def _field(entry: dict[str, Any]) -> Field:
    patterns = {
        key: re.compile(entry[key], re.IGNORECASE if key == "pattern" else 0)
        for key in ("pattern", "strip")
        if key in entry
    }
    return Field(**(entry | patterns | {"names": tuple(entry["names"])}))


def events(record: Mapping[str, str | None]) -> list[dict[str, Any]]:
    """Return the events of a record {field: value}: whatever of it is allowed."""
    found = [field.event(value) for name, field in fields().items() if (value := record.get(name))]
    return [event for event in found if event is not None]
