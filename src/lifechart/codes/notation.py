"""`SYSTEM//CODE`: taking it apart."""

from __future__ import annotations


def split(code: str) -> tuple[str, str]:
    """Return (system, local code); the system of a code without one is empty.

    >>> split("SNOMED//44054006")
    ('SNOMED', '44054006')
    """
    system, mark, local = code.partition("//")
    return (system, local) if mark else ("", code)
