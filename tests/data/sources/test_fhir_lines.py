"""The fast way to read a line against the general one: the same rows and faults, whatever stands in the line."""

from __future__ import annotations

import gzip
import json
import tarfile
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from lifechart.data.sources import Span, Unit, fhir_reader
from lifechart.data.sources.fhir import source
from lifechart.data.sources.fhir_lines import line_readers
from lifechart.data.sources.fhir_reader import Reader, frame_of
from lifechart.data.sources.fhir_rows import Rows
from tests.data.samples import Resource, patient, resource, take
from tests.data.sources.fhir_examples import EXAMPLES
from tests.data.sources.test_fhir_types import MAPPED
from tests.shared_data import shared

SEEDS: list[Resource] = [
    *(given for _, given, _ in EXAMPLES),
    *(given for given, _ in MAPPED),
    patient(deceasedDateTime="2020-02-03T04:05:06-05:00", meta={"versionId": "3", "lastUpdated": "2020-01-01"}),
    resource("Observation", "o", referenceRange=[{"low": {"value": 4}}], meta={"versionId": "2"}),
    resource(
        "Observation", "o", valueQuantity={"value": 4, "comparator": "<"}, interpretation=[{"coding": [{"code": "H"}]}]
    ),
]
MARKER = "Quillfeather-4471"


def fast(lines: list[bytes]) -> Reader:
    reader = Reader()
    reader.block(b"".join(line + b"\n" for line in lines), False)
    return reader


def general(lines: list[bytes]) -> Reader:
    """The slow twin: every line parsed whole."""
    reader = Reader()
    for number, line in enumerate(lines):
        if line:
            reader._whole(line, number << fhir_reader.ENTRY_BITS)
    return reader


def same(lines: list[bytes]) -> Reader:
    one, other = fast(lines), general(lines)
    assert_frame_equal(frame_of(one.rows), frame_of(other.rows), check_exact=True)
    assert (one.counts, one.withdrawn, one.faults) == (other.counts, other.withdrawn, other.faults)
    assert one.rows.linked == other.rows.linked
    assert one.counts.total() == sum(bool(line) for line in lines)
    return one


def spaced(one: Resource) -> bytes:
    return json.dumps(one).encode()


@pytest.mark.parametrize("write", [orjson.dumps, spaced])
def test_the_examples_read_the_same_either_way(write: Callable[[Resource], bytes]) -> None:
    reader = same([write(one) for one in SEEDS] * 2)
    assert reader.faults == []


def test_most_of_a_real_export_goes_the_fast_way() -> None:
    lines = []
    with tarfile.open(shared("data/synthea-r4.tar.gz")) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.name.endswith(".json") else None
            if file is not None:
                lines += [orjson.dumps(entry["resource"]) for entry in orjson.loads(file.read())["entry"]]
            if len(lines) > 5_000:
                break
    reader = same(lines)
    assert len(reader.rows.rows) > 3_000
    readers = line_readers(Rows(texts=False))
    tried = left = 0
    for line in lines:
        read = readers.get(orjson.loads(line)["resourceType"])
        if read is not None:
            tried += 1
            try:
                read(line)
            except Exception:
                left += 1
    assert tried > 2_000
    assert left < tried / 50


def test_a_line_of_no_whole_json_is_not_read_by_its_beginning() -> None:
    line = orjson.dumps(resource("Observation", "o"))
    for broken in (line[:-1], line + b"}", line[:40], line + b" x", line.replace(b'"final"', b"final")):
        assert [fault.reason for fault in same([broken]).faults] == ["not JSON"]
    latin = line.replace(b"HbA1c", "HbÄ1c".encode("latin-1"))
    assert [fault.reason for fault in same([latin, line]).faults] == ["not UTF-8"]


# What a mutation may put anywhere: every JSON type, huge and tiny numbers, empty and strange strings.
ODD: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(
        ["", "\x00", "a\nb", "\n?", "²", "é" * 3, "2015-13-01", "0000", "9999-12-31T23:59:60Z", "#", "#x", "/", "//"]
    ),
    st.sampled_from([MARKER, f"Patient/{MARKER}", f"http://x/{MARKER}", "Group/1", "1" * 400]),
    st.sampled_from(
        [[], {}, [[]], [{}], [None], {"coding": None}, {"coding": []}, {"coding": [None]}, {"reference": 5}]
    ),
    st.recursive(
        st.integers(0, 9),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.just("item"), inner),
        max_leaves=4,
    ),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of everything within a resource, its type's name aside."""
    found = [path] if path and path != ("resourceType",) else []
    children: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [*found, *(place for key, inner in children for place in places(inner, (*path, key)))]


def copy(value: Any) -> Any:
    """Return a value of its own: hypothesis may draw one and the same list twice."""
    return orjson.loads(orjson.dumps(value))


@st.composite
def mutated(draw: st.DrawFn) -> Resource:
    """A valid resource with up to four of its elements replaced, removed or doubled."""
    one: Resource = copy(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 4))):
        if not (found := places(one)):
            break
        path = draw(st.sampled_from(found))
        parent: Any = one
        for step in path[:-1]:
            parent = parent[step]
        how = draw(st.sampled_from(["replace", "replace", "remove", "wrap", "add"]))
        if how == "remove" and isinstance(parent, dict):
            del parent[path[-1]]
        elif how == "wrap":
            parent[path[-1]] = [parent[path[-1]]]
        elif how == "add" and isinstance(parent, dict):
            parent[
                draw(st.sampled_from(["value", "coding", "valueString", "component", "contained", "meta", "id"]))
            ] = copy(draw(ODD))
        else:
            parent[path[-1]] = copy(draw(ODD))
    return one


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(mutated(), min_size=1, max_size=8))
def test_whatever_stands_in_a_resource_it_reads_the_same_either_way(resources: list[Resource]) -> None:
    reader = same([orjson.dumps(one) for one in resources])
    said = " ".join(f"{fault.type} {fault.reason}" for fault in reader.faults)
    assert MARKER not in said + str(reader.counts) + str(reader.withdrawn)


def unit_of(path: Path) -> Unit:
    return Unit("fhir", (Span(str(path)),), path.stat().st_size, "Patient")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(mutated(), min_size=1, max_size=6), st.data())
def test_bytes_torn_anywhere_never_raise_and_every_line_is_counted(
    resources: list[Resource], data: st.DataObject
) -> None:
    content = bytearray(b"".join(orjson.dumps(one) + b"\n" for one in resources))
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    packed = data.draw(st.booleans())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("x.ndjson.gz" if packed else "x.ndjson")
        written = gzip.compress(bytes(content), mtime=0) if packed else bytes(content)
        path.write_bytes(written[: data.draw(st.integers(1, len(written)))])
        batches = list(source.read(unit_of(path)))
    counted = sum((batch.counts.total() for batch in batches), 0)
    faults = [fault for batch in batches for fault in batch.faults]
    assert counted >= len(faults)
    if not packed:
        whole = (written[: path.stat().st_size] if path.exists() else b"").strip()
        assert counted <= content.count(b"\n") + 1 or whole == b""
    assert MARKER not in str(faults)


NASTY = [
    b'{"resourceType":"Observation","id":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    b'{"resourceType":"Observation","status":"final","subject":{"reference":"Patient/p1"},"effectiveDateTime":"2015-06-01",'
    b'"code":{"coding":[{"code":"\\ud800"}]}}',
    b'{"resourceType":"Observation","status":"final","subject":{"reference":"Patient/p1"},"effectiveDateTime":"2015-06-01",'
    b'"code":{"coding":[{"code":"1"}]},"valueQuantity":{"value":1e999}}',
    b'{"resourceType":"Observation","status":"final","subject":{"reference":"Patient/p1"},"effectiveDateTime":"2015-06-01",'
    b'"code":{"coding":[{"code":"1"}]},"valueQuantity":{"value":NaN}}',
    b'{"resourceType":"Observation","status":"final","subject":{"reference":"Patient/\\u0000"},"code":{"coding":[{"code":"1"}]},'
    b'"effectiveDateTime":"2015-06-01","valueQuantity":{"value":123456789012345678901234567890}}',
    b'{"resourceType":"QuestionnaireResponse","subject":{"reference":"Patient/p1"},"authored":"2015","item":'
    + b'[{"linkId":"1","item":' * 400
    + b"[]"
    + b"}]" * 400
    + b"}",
    b'{"resourceType":"' + b"A" * 10_000 + b'"}',
    b'{"resourceType":"Observation"',
    b"\xff\xfe",
    b"[]",
    b"null",
    b'"text"',
]


def test_nesting_surrogates_and_numbers_without_end_are_faults_not_crashes() -> None:
    reader = same(NASTY)
    assert reader.counts.total() == len(NASTY)
    assert {fault.reason for fault in reader.faults} >= {"not JSON", "not UTF-8", "not a resource"}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(mutated(), min_size=1, max_size=12))
def test_a_data_set_is_made_of_whatever_comes_and_the_account_adds_up(resources: list[Resource]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in" / "x.ndjson"
        path.parent.mkdir()
        lines = [orjson.dumps(one) for one in [patient(), resource("Condition", "known"), *resources]]
        path.write_bytes(b"\n".join(lines))
        account, events = take(path.parent, Path(folder) / "out", as_of=datetime(2030, 1, 1))
        assert account.total == len(lines)
        assert events.filter(pl.col("code").is_null()).height == 0
        assert MARKER not in (Path(folder) / "out" / "quarantine.ndjson").read_text()
