"""Everything that Lifechart refuses, as one tree; each message names the key, the value and what was expected.

LifechartError
├── InputError            a file, argument or setting that a person gave
│   ├── SettingError      a configuration key
│   └── RecordError       a clinical record; its value is shown as a shape, never as itself
├── IntegrityError        bytes are not the bytes that were hashed or signed
├── GateRefused           the evidence does not carry the release or the phase
├── AccessDenied          this person, role, tenant or phase may not
├── AuditError            a statement could not be written, so nothing may be shown
├── StorageError          a disk is full or a quota spent; what was there before is whole
├── EngineError           the machines that share the work were lost; the same command goes on
└── PlugError             an extension is missing, doubled or breaks its contract

A programmer's fault is an `assert`, not one of these.
"""

from __future__ import annotations

import re


class LifechartError(Exception):
    """Root of every refusal; the command line prints its message and exits 2."""


class InputError(LifechartError):
    """Something a person gave is not what was expected.

    >>> str(InputError("--size", "xxl", "one of xs, s, m, l"))
    "--size: got 'xxl', expected one of xs, s, m, l"
    """

    def __init__(self, key: str, value: object, expected: str) -> None:
        self.key, self.value, self.expected = key, value, expected
        super().__init__(f"{key}: got {value!r}, expected {expected}")

    def __reduce__(self) -> tuple[object, ...]:
        # So that it keeps its words when a worker process or another machine raised it.
        return _raised_elsewhere, (type(self), self.args, vars(self))


def _raised_elsewhere(kind: type[InputError], words: tuple[object, ...], fields: dict[str, object]) -> InputError:
    found = kind.__new__(kind, *words)
    found.args = words
    vars(found).update(fields)
    return found


class SettingError(InputError):
    """A configuration key holds a value that Lifechart cannot use."""


class RecordError(InputError):
    """A clinical record cannot be used. The value is reduced to its shape, so no identifier can travel in an error."""

    def __init__(self, key: str, value: object, expected: str) -> None:
        super().__init__(key, shape_of(value), expected)


class IntegrityError(LifechartError):
    """Bytes differ from what was hashed or signed; names the file or entry."""


class GateRefused(LifechartError):
    """Evidence or approval is missing for a release or a phase; says which."""


class AccessDenied(LifechartError):
    """The caller may not do this; says what would be needed, never what exists."""


class AuditError(LifechartError):
    """The log could not take a statement. Whoever catches this shows nothing to the user."""


class StorageError(LifechartError):
    """A file could not be written because there is no room; names the file. No part of it is left behind."""


class EngineError(LifechartError):
    """The machines that share an ingest's work were lost, more often than is bearable."""


class PlugError(LifechartError):
    """An extension is missing, registered twice, or does not keep its contract."""


_SHAPE_LIMIT = 40


def shape_of(value: object) -> str:
    """Return the shape of a value: letters become A or a, digits 9, the rest stays. Safe to log.

    >>> shape_of("1984-13-02")
    '9999-99-99'
    >>> shape_of("Smith, J")
    'Aaaaa, A'
    """
    if not isinstance(value, str):
        return type(value).__name__
    shape = re.sub(r"\d", "9", value[:_SHAPE_LIMIT])
    shape = re.sub(r"[^\W\d_a-z]", "A", re.sub(r"[a-zà-öø-ÿ]", "a", shape))
    return shape + ("…" if len(value) > _SHAPE_LIMIT else "")
