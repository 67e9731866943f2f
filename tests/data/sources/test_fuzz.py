"""Every source but FHIR and DICOM, on whatever a hospital may send: no crash but a refusal, every record accounted for
once, and nobody's name in what is said about it."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lifechart.core.errors import InputError, LifechartError
from lifechart.core.timeline import KINDS
from lifechart.data import ingest as module
from lifechart.data.ingest import ingest
from lifechart.data.sources import KEPT, ROWS, Source, meds, naaccr, notes, omop, pathology, registry, tables, vcf
from tests.data.samples import KEY, Log

NAME = "Quillfeather"
NASTY = [
    *(
        "",
        " ",
        NAME,
        f"Mrs {NAME}",
        f"{NAME}//{NAME}",
        "NULL",
        "-1",
        "0",
        "1e400",
        "-1e-400",
        "9" * 25,
        "8507.0",
        "nan",
    ),
    *(
        "inf",
        "2015-02-30",
        "0001-01-01",
        "9999-12-31",
        "2015-06-01T25:00",
        "20159999",
        "2015",
        "١٢٣",
        "1;2",
        "é",
        "\ufeff",
    ),
    *("<5", "0x10", "1,5", "true", "C50.4", "I21.9", "/etc/passwd", "../x.txt", "\x00", "\x1f", "\u2028", "'", "{}"),
]
GOOD = [
    "p1",
    "1",
    "8507",
    "201826",
    "2015-06-01",
    "2015-06-01 10:00:00",
    "20150601",
    "6.5",
    "C504",
    "8500/3",
    "positive",
]
CELL = st.one_of(st.sampled_from(GOOD), st.sampled_from(GOOD), st.sampled_from(NASTY), st.text(max_size=6))
FUZZ = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


@dataclass(frozen=True)
class Format:
    source: Source
    file: str
    columns: list[str]
    beside: dict[str, str]
    option: str = ""
    prefix: str = ""


def omop_of(table: str) -> Format:
    concept = "concept_id,concept_code,concept_name,vocabulary_id,concept_class_id\n201826,44054006,Diabetes,SNOMED,D\n"
    person = "person_id,gender_concept_id,year_of_birth\n1,8532,1960\n"
    beside = {"person.csv": person, "concept.csv": concept}
    return Format(
        omop.source,
        f"{table}.csv",
        omop.tables()[table].columns,
        {k: v for k, v in beside.items() if k != f"{table}.csv"},
    )


EVENTS_OF_TABLE = [
    {"kind": "laboratory", "code": "LOINC//1", "time": {"column": "at"}, "value": "v"},
    {"kind": "laboratory", "code": "LOINC//2", "where": {"w": ["1", "p1"]}, "time": {"days": "d"}, "text": "t"},
    {"kind": "demographic", "code": "MEDS_BIRTH", "time": {"age": "a"}},
]
MAPPING = yaml.safe_dump({"tables": [{"file": "x.csv", "subject": "id", "events": EVENTS_OF_TABLE}]})
ITEMS = [
    "20",
    "240",
    "220",
    "390",
    "400",
    "522",
    "523",
    "1011",
    "3844",
    "410",
    "3827",
    "830",
    "1760",
    "1750",
    "1910",
    "1920",
]
REPORT = ["patient", "time", "id", "topography", "grade", "pt", "er", "ki67", "report"]
FORMATS = {
    **{f"omop {table}": omop_of(table) for table in omop.tables()},
    "tables": Format(tables.source, "x.csv", ["id", "at", "v", "w", "d", "t", "a"], {"lifechart.yaml": MAPPING}),
    "notes": Format(notes.source, "notes.csv", ["patient", "time", "text", "file", "type", "id", "updated"], {}),
    "deaths": Format(registry.source, "deaths.csv", list(registry.DEATH_FIELDS)[:6], {}),
    "outcomes": Format(registry.source, "outcomes.csv", list(registry.OUTCOME_FIELDS), {}),
    "pathology": Format(pathology.source, "pathology.csv", REPORT, {}),
    "naaccr": Format(naaccr.source, "a.csv", ITEMS, {}),
}


def put(folder: Path, format_: Format, content: bytes, name: str = "") -> Path:
    for file, text in format_.beside.items():
        (folder / file).write_text(text)
    (folder / (name or format_.file)).write_bytes(content)
    return folder


def row_of(format_: Format) -> st.SearchStrategy[list[str]]:
    return st.lists(CELL, min_size=len(format_.columns), max_size=len(format_.columns))


def csv_of(columns: list[str], rows: list[list[str]]) -> bytes:
    frame = pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String), orient="row")
    stream = io.BytesIO()
    frame.write_csv(stream, quote_style="always")
    return stream.getvalue()


def check(source: Source, folder: Path, expected: int | None = None, of: str = "") -> None:
    """Read everything; hold what comes out against the contract."""
    total = 0
    for unit in source.units(folder, ""):
        kept: set[int] = set()
        counted = 0
        faulty: list[int] = []
        for batch in source.read(unit):
            assert dict(batch.rows.schema) == ROWS
            assert set(batch.rows["kind"].unique()) <= set(KINDS)
            assert not batch.rows["patient"].has_nulls()
            assert not batch.rows["code"].has_nulls()
            assert all(n >= 0 for n in batch.counts.values())
            assert not any(NAME in fault.reason or NAME in fault.type for fault in batch.faults)
            assert not any(NAME in part for pair in batch.counts for part in pair)
            quarantined = sum(n for (_, outcome), n in batch.counts.items() if outcome == "quarantined")
            assert quarantined == len(batch.faults)
            if any(batch.counts.values()):
                kept |= set(batch.rows["position"])
            faulty += [fault.position for fault in batch.faults]
            counted += sum(n for (_, outcome), n in batch.counts.items() if outcome == KEPT)
            if not of or Path(unit.spans[0].path).name == of:
                total += sum(batch.counts.values())
        assert len(kept) <= counted
        assert not kept & set(faulty), "what is at fault gives no rows"
        assert len(set(faulty)) == len(faulty)
    if expected is not None:
        assert total == expected


@pytest.mark.parametrize("name", list(FORMATS))
def test_any_cells(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    format_ = FORMATS[name]

    @FUZZ
    @given(rows=st.lists(row_of(format_), max_size=6))
    def run(rows: list[list[str]]) -> None:
        folder = put(tmp_path_factory.mktemp("fuzz"), format_, csv_of(format_.columns, rows))
        check(format_.source, folder, len(rows), format_.file)

    run()


@pytest.mark.parametrize("name", ["omop person", "omop measurement", *(name for name in FORMATS if "omop" not in name)])
def test_any_bytes(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    format_ = FORMATS[name]
    head = ",".join(format_.columns).encode() + b"\n"

    @FUZZ
    @given(
        start=st.sampled_from([b"", head, head[:9], b"\xef\xbb\xbf" + head]),
        rest=st.binary(max_size=200),
        packed=st.booleans(),
    )
    def run(start: bytes, rest: bytes, packed: bool) -> None:
        content = start + rest
        folder = tmp_path_factory.mktemp("fuzz")
        if packed and format_.source.name != "tables":
            put(folder, format_, gzip.compress(content)[: 12 + len(rest)], format_.file + ".gz")
        else:
            put(folder, format_, content)
        refused(lambda: check(format_.source, folder))

    run()


def refused(act: Callable[[], Any]) -> None:
    """Do it; a refusal is well, if it names nobody."""
    try:
        act()
    except LifechartError as error:
        assert NAME not in str(error)  # noqa: PT017 -- it need not be refused


VALUES = st.one_of(
    st.none(), CELL, st.integers(-(2**40), 2**40), st.floats(), st.booleans(), st.lists(CELL, max_size=2)
)


@pytest.mark.parametrize("name", ["notes", "deaths", "outcomes", "pathology", "naaccr"])
def test_any_json(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    format_ = FORMATS[name]
    keys = st.sampled_from([*format_.columns, NAME])

    @FUZZ
    @given(
        lines=st.lists(st.one_of(st.dictionaries(keys, VALUES), VALUES, st.binary(max_size=20)), min_size=1, max_size=5)
    )
    def run(lines: list[Any]) -> None:
        first = dict.fromkeys(format_.columns, "p1")
        texts = [
            line.replace(b"\n", b"") if isinstance(line, bytes) else orjson.dumps(line) for line in [first, *lines]
        ]
        folder = tmp_path_factory.mktemp("fuzz")
        (folder / format_.file.replace(".csv", ".ndjson")).write_bytes(b"\n".join(texts) + b"\n")
        check(format_.source, folder, sum(bool(text.strip()) for text in texts))

    run()


EVENTS = {
    "subject_id": st.one_of(st.none(), st.integers(-3, 3)),
    "time": st.one_of(st.none(), st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30))),
    "code": st.one_of(st.none(), CELL),
    "numeric_value": st.one_of(st.none(), st.floats(width=32)),
    "text_value": st.one_of(st.none(), CELL),
    "kind": st.one_of(st.none(), CELL),
}


@FUZZ
@given(rows=st.lists(st.fixed_dictionaries(EVENTS), max_size=8), left=st.sets(st.sampled_from(["text_value", "kind"])))
def test_any_meds_events(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], left: set[str]) -> None:
    types = {"subject_id": pl.Int64, "time": pl.Datetime("us"), "numeric_value": pl.Float32}
    schema = {name: types.get(name, pl.String) for name in EVENTS}
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "data").mkdir()
    pl.DataFrame(rows, schema=schema).drop(left).write_parquet(folder / "data" / "0.parquet")
    check(meds.source, folder, len(rows))


@FUZZ
@given(content=st.binary(max_size=300), keep=st.integers(0, 2000))
def test_parquet_that_is_broken(tmp_path_factory: pytest.TempPathFactory, content: bytes, keep: int) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    stream = io.BytesIO()
    pl.DataFrame({"subject_id": [1, 2], "time": [datetime(2015, 1, 1)] * 2, "code": ["a", "b"]}).write_parquet(stream)
    whole = stream.getvalue()
    (folder / "data").mkdir()
    (folder / "data" / "0.parquet").write_bytes(
        content if keep % 2 else whole[:keep] + content + whole[keep + len(content) :]
    )
    (folder / "metadata").mkdir()
    (folder / "metadata" / "codes.parquet").write_bytes(content)
    refused(lambda: check(meds.source, folder))


VCF_HEAD = (
    "##fileformat=VCFv4.2\n##reference=GRCh38\n"
    '##INFO=<ID=CSQ,Number=.,Type=String,Description="Format: Allele|Consequence|IMPACT|SYMBOL">\n'
    "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tS1\tS2\n"
)
SCORE = (
    "#pgs_id=PGS000001\n#genome_build=GRCh38\nchr_name\tchr_position\teffect_allele\tother_allele\teffect_weight\n"
    "1\t100\tT\tC\t0.5\n1\t1\tA\tT\t0.5\n"
)
FIELDS = [
    "1",
    "chr1",
    "100",
    ".",
    "A",
    "T",
    "C",
    "T,G",
    "<DEL>",
    "*",
    "PASS",
    "0/1",
    "1|1:30:99",
    "./.",
    "GT",
    "GT:DP:GQ",
    "50",
    "CSQ=|||",
    "CSQ=T|a&b|HIGH|BRCA1,",
]
EFFECTS = ["CSQ=T|stop_gained|HIGH|BRCA1", f"CSQ=T|stop_gained|HIGH|{NAME}"]
PARTS = st.one_of(st.sampled_from([*FIELDS, *EFFECTS]), CELL)
CALLS = st.sampled_from(["0/1", "1/1:9", "1|2", ".", "1", "0/0/1", NAME, "1/", "/"])


@FUZZ
@given(
    lines=st.lists(st.one_of(st.lists(PARTS, min_size=11, max_size=11), st.lists(PARTS, max_size=12)), max_size=6),
    calls=st.lists(
        st.sampled_from(["0/1", "1/1:9", "1|2", ".", "1", "0/0/1", NAME, "1/", "/"]), min_size=2, max_size=2
    ),
)
def test_any_variants(tmp_path_factory: pytest.TempPathFactory, lines: list[list[str]], calls: list[str]) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    clean = ["\t".join(parts).replace("\n", "").replace("\r", "") for parts in lines]
    clean += ["\t".join(["1", "100", ".", "C", "T", "50", "PASS", "CSQ=T|stop_gained|HIGH|BRCA1", "GT", *calls])]
    (folder / "a.vcf").write_text(VCF_HEAD + "\n".join(clean) + "\n")
    (folder / "samples.csv").write_text(f"sample,patient,known\nS1,{NAME},birth\nS2,p2,2015-06-01\n")
    (folder / "scores").mkdir()
    (folder / "scores" / "a.txt").write_text(SCORE)
    records = sum(bool(line) and not line.startswith("#") for line in clean)
    check(vcf.source, folder, records + 2)
    batches = [batch for unit in vcf.source.units(folder) for batch in vcf.source.read(unit)]
    codes = {code for batch in batches for code in batch.rows["code"]}
    assert not any(NAME in code for code in codes), "a gene counts only if it is listed"


@FUZZ
@given(content=st.binary(max_size=200), head=st.booleans(), samples=st.text(max_size=40), score=st.binary(max_size=60))
def test_any_bytes_as_variants(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, head: bool, samples: str, score: bytes
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "a.vcf.gz").write_bytes(
        gzip.compress((VCF_HEAD.encode() if head else b"") + content)[: 400 - len(samples)]
    )
    (folder / "samples.csv").write_text(
        samples if len(samples) % 2 else f"sample,patient,known\n{NAME},{NAME},{samples}\n"
    )
    (folder / "scores").mkdir()
    (folder / "scores" / "a.txt").write_bytes(score if len(score) % 2 else SCORE.encode() + score)
    refused(lambda: check(vcf.source, folder))


XML_PARTS = st.sampled_from(
    [
        *("<Patient>", "</Patient>", "<Tumor>", "</Tumor>", NAME, "&x;", "<!--", "<![CDATA[", "]]>", "<", "\x00"),
        *("<Item/>", "<x:y/>", "<Item naaccrId='patientIdNumber'>p1</Item>", "<Item naaccrNum='1760'>0</Item>"),
        *("<Item naaccrId='primarySite'>C504</Item>", "<Item naaccrId='dateOfDiagnosis'>2015</Item>"),
        *("<Item naaccrId='dateOfBirth'>19500101</Item>", "<Item naaccrId='dateOfLastContact'>2020</Item>"),
    ]
)


@FUZZ
@given(parts=st.lists(XML_PARTS, max_size=20), closed=st.booleans())
def test_any_xml(tmp_path_factory: pytest.TempPathFactory, parts: list[str], closed: bool) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "a.xml").write_text("<NaaccrData>" + "".join(parts) + ("</NaaccrData>" if closed else ""))
    check(naaccr.source, folder)


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in ("omop person",)])
def test_ingestion_of_any_cells_adds_up(
    name: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    format_ = FORMATS[name]
    monkeypatch.setattr(module, "find_source", lambda path, plug=None: format_.source)

    @settings(FUZZ, max_examples=4)
    @given(
        rows=st.lists(
            st.lists(CELL, min_size=len(format_.columns), max_size=len(format_.columns)), min_size=1, max_size=6
        )
    )
    def run(rows: list[list[str]]) -> None:
        folder = tmp_path_factory.mktemp("fuzz")
        (folder / "in").mkdir()
        put(folder / "in", format_, csv_of(format_.columns, rows))
        try:
            account = ingest(folder / "in", folder / "out", key=KEY, log=Log(), workers=1, as_of=datetime(2020, 1, 1))
        except InputError as error:
            assert NAME not in str(error)  # noqa: PT017 -- it need not be refused
            return
        beside = 1 if name.startswith("omop") else 0
        assert account.total == len(rows) + beside
        written = [path.read_bytes() for path in (folder / "out").rglob("*") if path.is_file()]
        assert not any(NAME.encode() in content for content in written)

    run()
