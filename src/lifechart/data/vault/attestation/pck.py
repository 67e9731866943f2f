"""What a PCK certificate says of its platform: Intel's extension, a table of (object id, value) in DER.

Layout: Intel, "SGX PCK Certificate and Certificate Revocation List Profile Specification", section 1.3.5.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cryptography import x509

from lifechart.core.errors import IntegrityError

_EXTENSION = "1.2.840.113741.1.13.1"
_PREFIX = bytes.fromhex("2a864886f84d010d01")
"""1.2.840.113741.1.13.1 as DER writes it."""
_SEQUENCE, _OBJECT_ID, _INTEGER, _OCTETS = 0x30, 0x06, 0x02, 0x04
_TCB, _PCEID, _FMSPC = 2, 3, 4
_COMPONENTS, _PCESVN = 16, 17


@dataclass(frozen=True, slots=True)
class Platform:
    """A platform's model and the versions of its firmware."""

    fmspc: bytes
    pceid: bytes
    components: tuple[int, ...]
    """The 16 SGX TCB components."""
    pcesvn: int


def read(certificate: x509.Certificate) -> Platform:
    """Return what the extension says; raises IntegrityError if it is not there or says less."""
    try:
        found = certificate.extensions.get_extension_for_oid(x509.ObjectIdentifier(_EXTENSION)).value
        assert isinstance(found, x509.UnrecognizedExtension)
        table = dict(_rows(found.value))
        versions = {key[len(_PREFIX) + 1]: value for key, value in _rows(_tagged(table, _TCB, _SEQUENCE))}
        components = tuple(_integer(versions[number]) for number in range(1, _COMPONENTS + 1))
        fmspc, pceid = _content(_tagged(table, _FMSPC, _OCTETS)), _content(_tagged(table, _PCEID, _OCTETS))
        return Platform(fmspc, pceid, components, _integer(versions[_PCESVN]))
    except (x509.ExtensionNotFound, KeyError, IndexError, ValueError) as error:
        raise IntegrityError("PCK certificate: does not state its platform as Intel's profile prescribes") from error


def _rows(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (object id, value with its tag) of a sequence of pairs."""
    for tag, pair, _ in _elements(_content(content)):
        if tag != _SEQUENCE:
            raise ValueError("expected a pair")
        (kind, key, _), (_, _, value) = _elements(pair)
        if kind != _OBJECT_ID or not key.startswith(_PREFIX):
            raise ValueError("expected an object id of the extension")
        yield key, value


def _elements(content: bytes) -> list[tuple[int, bytes, bytes]]:
    """Return (tag, content, the whole) of the elements that stand one behind the other."""
    found = []
    while content:
        length, start = content[1], 2
        if length & 0x80:
            start += length & 0x7F
            length = int.from_bytes(content[2:start], "big")
        if len(content) < start + length:
            raise ValueError("an element is cut off")
        found.append((content[0], content[start : start + length], content[: start + length]))
        content = content[start + length :]
    return found


def _content(element: bytes) -> bytes:
    ((_, content, _),) = _elements(element)
    return content


def _tagged(table: dict[bytes, bytes], number: int, tag: int) -> bytes:
    value = table[_PREFIX + bytes([number])]
    if value[0] != tag:
        raise ValueError("a value of another type")
    return value


def _integer(element: bytes) -> int:
    if element[0] != _INTEGER:
        raise ValueError("expected a number")
    return int.from_bytes(_content(element), "big")
