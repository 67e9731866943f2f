"""OMOP tables: each row's fate, each form of table, and the same patients as FHIR gives of one hospital."""

from __future__ import annotations

import gzip
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path

import polars as pl
import pytest

from bench._omop_export import export
from lifechart.core.errors import InputError
from lifechart.core.timeline import BIRTH, DEATH, RECORD_END
from lifechart.data import ingest as module
from lifechart.data.deidentify import structured
from lifechart.data.sources import Unit, find_source, frames, omop_files
from lifechart.data.sources.omop import source
from lifechart.data.sources.omop_mapping import operators, people, systems, tables, visits
from lifechart.data.sources.omop_snapshot import snapshot
from lifechart.simulate import hospital
from tests.data.samples import KEY, Log, take

CONCEPTS = """concept_id\tconcept_name\tdomain_id\tvocabulary_id\tconcept_class_id\tstandard_concept\tconcept_code
201826\tType 2 diabetes mellitus\tCondition\tSNOMED\tDisorder\tS\t44054006
45596282\tType 2 "diabetes\tCondition\tICD10CM\t5-char billing code\t\tE11.9
3004410\tHemoglobin A1c\tMeasurement\tLOINC\tLab Test\tS\t4548-4
3025315\tBody weight\tMeasurement\tLOINC\tClinical Observation\tS\t29463-7
8554\tpercent\tUnit\tUCUM\tUnit\tS\t%
4181412\tPresent\tMeas Value\tSNOMED\tQualifier Value\tS\t52101004
1503297\tmetformin\tDrug\tRxNorm\tIngredient\tS\t6809
2000000007\tQuill ward score\tMeasurement\tQuill labs\tLocal\t\tqws
"""
PERSONS = """person_id,gender_concept_id,year_of_birth,month_of_birth,day_of_birth,\
race_concept_id,ethnicity_concept_id,location_id,person_source_value
1,8532,1960,5,1,8516,38003564,9,MRN-Quill
2,8507,1970,,,0,0,,MRN-Bo
"""


def write(folder: Path, **contents: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in {"concept": CONCEPTS, "person": PERSONS, **contents}.items():
        (folder / f"{name}.csv").write_text(content)
    return folder


def read(folder: Path, out: Path, **options: object) -> tuple[object, pl.DataFrame]:
    return take(folder, out, **({"source": "omop", "as_of": datetime(2020, 1, 1)} | options))


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        module, "find_source", lambda path, name=None: source if name == "omop" else find_source(path, name)
    )


def test_each_table_gives_its_events(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "in",
        location="location_id,address_1,zip\n9,1 Quill Street,02139-1234\n",
        death="person_id,death_date,cause_concept_id\n2,2018-03-04,201826\n",
        visit_occurrence="person_id,visit_concept_id,visit_start_datetime,visit_end_datetime,visit_start_date\n"
        "1,9201,2015-06-01 10:00:00,2015-06-03 11:00:00,2015-06-01\n1,32037,2015-06-01 10:00:00,,2015-06-01\n",
        visit_detail="person_id,visit_detail_concept_id,visit_detail_start_date\n1,32037,2015-06-02\n",
        condition_occurrence="person_id,condition_concept_id,condition_source_concept_id,condition_source_value,"
        "condition_start_date,condition_end_date\n"
        "1,201826,45596282,E11.9,2015-06-01,2015-06-09\n"
        "1,0,45596282,E11.9,2015-06-02,\n"
        "1,0,0,X12.3,2015-06-03,\n"
        "1,0,0,Mrs Quill fell,2015-06-04,\n"
        "1,777777,0,,2015-06-05,2015-06-05\n",
        drug_exposure="person_id,drug_concept_id,drug_exposure_start_date,drug_exposure_end_date,verbatim_end_date\n"
        "1,1503297,2015-06-01,2015-09-01,\n1,1503297,2015-07-01,2015-10-01,2015-07-05\n",
        measurement="person_id,measurement_concept_id,measurement_datetime,value_as_number,value_as_concept_id,"
        "operator_concept_id,unit_concept_id,unit_source_value,range_low,range_high,value_source_value\n"
        "1,3004410,2015-06-01 10:00:00,6.5,,,8554,pct,4,5.6,6.5\n"
        "1,3025315,2015-06-01T10:00:00,70,,4171756,,kg,,,<70\n"
        "1,3004410,2015-06-02 10:00:00,,4181412,,,,,,\n"
        "1,2000000007,2015-06-03 10:00:00,,,,,,,,POS\n",
        payer_plan_period="person_id,payer_concept_id,payer_plan_period_start_date\n1,280,2015-01-01\n",
        specimen="person_id,specimen_concept_id,specimen_date\n1,4181412,2015-06-01\n",
        device_exposure="person_id,device_concept_id,device_exposure_start_date\n1,4181412,2015-06-01\n",
        note='person_id,note_class_concept_id,note_date,note_text\n1,0,2015-06-01,"Mrs Quill\nfell."\n',
        claims="person_id,secret\n1,Quill\n",
    )
    account, found = read(folder, tmp_path / "out", dates="shift", as_of=datetime(2030, 1, 1))
    assert account.of("quarantined") == 0
    assert account.of("held back") == 1
    assert account.total == 2 + 1 + 2 + 1 + 5 + 2 + 4 + 1 + 1 + 1 + 1
    codes = set(found["code"])
    assert codes == {
        *(BIRTH, DEATH, RECORD_END, "DEATH_CAUSE//SNOMED//44054006"),
        *("GENDER//female", "GENDER//male", "RACE//2054-5", "ETHNICITY//2186-5", "ZIP3//021"),
        *("ENCOUNTER//inpatient", "DISCHARGE//inpatient", "TRANSFER//intensive"),
        *("SNOMED//44054006", "ABATED//SNOMED//44054006", "ICD10CM//E11.9", "OTHER//X12.3", "OTHER//*", "OMOP//777777"),
        *("RxNorm//6809", "STOPPED//RxNorm//6809"),
        *("LOINC//4548-4", "LOINC//29463-7", "LOINC//4548-4//SNOMED//52101004", "OTHER//qws"),
        *("PAYER//OMOP//280", "SPECIMEN//SNOMED//52101004", "SNOMED//52101004"),
    }
    assert found.filter(pl.col("code") == "STOPPED//RxNorm//6809").height == 1
    weight = found.filter(pl.col("code") == "LOINC//29463-7").row(0, named=True)
    assert (weight["kind"], weight["numeric_value"], weight["unit"]) == ("vital", 70.0, "kg")
    assert found.filter(pl.col("code") == "OTHER//qws")["text_value"].to_list() == ["positive"]
    assert "Quill" not in str(found.rows()) + str(account.to_json())
    day = found.filter(pl.col("code") == "SNOMED//44054006")["time"].dt.time().to_list()
    assert {str(time) for time in day} == {"23:59:59"}, "a day without a clock time counts at its end"


def test_a_comparator_and_the_range_travel_with_the_value(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "in",
        measurement="person_id,measurement_concept_id,measurement_date,value_as_number,operator_concept_id,range_low,"
        "range_high\n1,3004410,2015-06-01,5,4171756,4,5.6\n",
    )
    unit = next(unit for unit in source.units(folder) if unit.option.endswith("\nmeasurement"))
    (batch,) = source.read(unit)
    row = batch.rows.row(0, named=True)
    assert (row["comparator"], row["low"], round(row["high"], 4)) == ("<", 4.0, 5.6)


FATES = [
    ("1,201826,2015-06-01", "kept"),
    (",201826,2015-06-01", "no patient"),
    ("1,201826,2015-13-01", "date not valid"),
    ("1,201826,last week", "date not valid"),
    ("1,201826,", "no date"),
    ("9,201826,2015-06-01", "patient absent"),
    ("1,201826,1950-06-01", "before birth"),
    ("1,201826", "malformed"),
    ("1,201826,\udcff", "not UTF-8"),
    ("1,201826,2021-06-01", "after the end"),
]


@pytest.mark.parametrize(("row", "fate"), FATES, ids=[fate for _, fate in FATES])
def test_a_rows_fate(tmp_path: Path, row: str, fate: str) -> None:
    folder = write(tmp_path / "in")
    head = "person_id,condition_concept_id,condition_start_date\n1,201826,2014-01-01\n"
    (folder / "condition_occurrence.csv").write_bytes((head + row + "\n").encode(errors="surrogateescape"))
    account, _ = read(folder, tmp_path / "out")
    counts = account.resources["condition_occurrence"]
    if fate in ("kept", "after the end"):
        expected = {"kept": 2} if fate == "kept" else {"kept": 1, fate: 1}
    else:
        expected = {"kept": 1, "quarantined": 1}
        assert account.quarantined == {f"condition_occurrence: {fate}": 1}
    assert counts == expected


def test_observation_that_ends_with_the_export_is_left_to_the_keyed_curtailment(tmp_path: Path) -> None:
    periods = "person_id,observation_period_start_date,observation_period_end_date\n1,2010-01-01,2019-12-31\n"
    folder = write(tmp_path / "in", observation_period=periods + "2,2010-01-01,2015-02-03\n2,2010-01-01,2999-12-31\n")
    batches = [b for unit in source.units(folder) if unit.option.endswith("period") for b in source.read(unit)]
    ends = pl.concat([batch.rows for batch in batches])
    assert ends.select("patient", "time").rows() == [("2", datetime(2015, 2, 3, 23, 59, 59))]
    assert source.record_end(folder) == "2019-12-31T23:59:59"
    assert sum(batch.counts.total() for batch in batches) == 3


@pytest.mark.parametrize("form", ["csv.gz", "parquet", "parts", "sqlite", "UPPER", "float ids"])
def test_every_form_of_table_gives_the_same(tmp_path: Path, form: str) -> None:
    conditions = "person_id,condition_concept_id,condition_start_date\n1,201826,2015-06-01\n2,45596282,2016-01-01\n"
    plain = write(tmp_path / "in", condition_occurrence=conditions)
    other = tmp_path / "other"
    for name in ("person", "condition_occurrence", "concept"):
        file = plain / f"{name}.csv"
        frame = pl.read_csv(file, separator="\t" if name == "concept" else ",", quote_char=None)
        if form == "csv.gz":
            other.mkdir(exist_ok=True)
            (other / f"{name}.csv.gz").write_bytes(gzip.compress(file.read_bytes()))
        elif form == "parquet":
            other.mkdir(exist_ok=True)
            if "condition_start_date" in frame.columns:
                frame = frame.with_columns(pl.col("condition_start_date").str.to_date())
            frame.write_parquet(other / f"{name}.parquet")
        elif form == "parts":
            (other / name).mkdir(parents=True)
            for number, part in enumerate(frame.iter_slices(1)):
                part.write_parquet(other / name / f"part-{number:05d}.parquet")
        elif form == "sqlite":
            with sqlite3.connect(other) as database:
                listed = ", ".join(frame.columns)
                database.execute(f"CREATE TABLE {name} ({listed})")
                marks = ", ".join("?" * frame.width)
                database.executemany(f"INSERT INTO {name} VALUES ({marks})", frame.rows())
            database.close()
        elif form == "UPPER":
            other.mkdir(exist_ok=True)
            frame.rename(str.upper).write_csv(other / f"{name.upper()}.csv")
        else:
            other.mkdir(exist_ok=True)
            ids = [column for column in frame.columns if column.endswith("_id") and frame[column].dtype.is_integer()]
            frame.with_columns(pl.col(ids).cast(pl.Float64)).write_parquet(other / f"omop_{name}.parquet")
    assert source.detects(plain)
    assert source.detects(other)
    _, first = read(plain, tmp_path / "one")
    _, second = read(other, tmp_path / "two")
    columns = ["subject_id", "time", "code", "kind"]
    assert first.select(columns).equals(second.select(columns))


def test_large_tables_are_cut_between_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "".join(f'{n % 2 + 1},201826,2015-06-01,"a\nline, {n}"\n' for n in range(500))
    head = "person_id,condition_concept_id,condition_start_date,condition_source_value\n"
    folder = write(tmp_path / "in", condition_occurrence=head + rows)
    whole = source_rows(source.units(folder))
    monkeypatch.setattr(frames, "_UNIT_BYTES", 1000)
    units = [unit for unit in source.units(folder) if unit.option.endswith("condition_occurrence")]
    assert len(units) > 10
    assert source_rows(units) == [row for row in whole if row[1] == "condition"]
    assert len(source_rows(units)) == 500
    pl.read_csv(folder / "condition_occurrence.csv").write_parquet(tmp_path / "c.parquet")
    monkeypatch.setattr(frames, "_UNIT_ROWS", 37)
    cut = frames.plan("omop", tmp_path / "c.parquet", "")
    numbers = [piece.frame.height for unit in cut for piece in frames.read(unit.spans[0], ["person_id"])]
    assert sum(numbers) == 500
    assert max(numbers) == 37


def source_rows(units: list[Unit]) -> list[tuple[object, ...]]:
    found = [batch.rows for unit in units for batch in source.read(unit)]
    return pl.concat(found).select("patient", "kind", "code", "time").rows()


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("omop")
    hospital.simulate(folder / "hospital", 120, 11, date(2026, 1, 1), progress=False)
    export(folder / "hospital", folder / "omop")
    return folder


def test_fhir_and_omop_say_the_same_of_every_patient(simulated: Path, tmp_path: Path) -> None:
    _, from_fhir = take(simulated / "hospital" / "fhir", tmp_path / "fhir")
    _, from_omop = read(simulated / "omop", tmp_path / "omop", as_of=datetime(2026, 1, 1))
    persons = pl.read_csv(simulated / "omop" / "person.csv")
    ids = pl.DataFrame(
        {
            "subject_id": structured.subject_ids(KEY, persons["person_id"].cast(pl.String)),
            "as_fhir": structured.subject_ids(KEY, persons["person_source_value"]),
        }
    )
    kinds = [
        "condition",
        "laboratory",
        "vital",
        "survey",
        "procedure",
        "medication",
        "immunization",
        "encounter",
        "death",
    ]
    columns = ["subject_id", "time", "code", "numeric_value", "unit", "kind"]

    def of(events: pl.DataFrame) -> pl.DataFrame:
        # What else FHIR says of a visit has no place in OMOP's tables as they are read.
        detail = pl.col("code").str.contains("^(VISIT|PRIORITY|ADMITTED|REASON|DISCHARGED)//")
        return events.filter(pl.col("kind").is_in(kinds), ~detail).select(columns).sort(columns)

    moved = from_omop.join(ids, on="subject_id").drop("subject_id").rename({"as_fhir": "subject_id"})
    assert of(moved).height > 10_000
    assert of(moved).equals(of(from_fhir))


def test_a_snapshot_reads_as_the_database_it_was_taken_of(simulated: Path, tmp_path: Path) -> None:
    database = tmp_path / "cdm.sqlite"
    fill(f"sqlite:///{database}", simulated / "omop")
    log = Log()
    counts = snapshot(f"sqlite:///{database}", tmp_path / "copy", log=log)
    assert counts["person"] == 120
    columns = {c for f in (tmp_path / "copy").iterdir() for c in frames.columns(f)}
    assert "person_source_value" not in columns
    _, direct = read(database, tmp_path / "one", as_of=datetime(2026, 1, 1))
    ingested = Log()
    _, copied = read(tmp_path / "copy", tmp_path / "two", as_of=datetime(2026, 1, 1), log=ingested)
    assert direct.equals(copied)
    (taken,), made = log.statements, ingested.statements[-1]
    assert (taken.kind, made.kind) == ("extract", "ingest")
    assert taken.subjects[0].digest == made.predicate["extract"]


def fill(url: str, folder: Path) -> None:
    """Write an export's tables into a database with the types that its columns have."""
    import sqlalchemy as sa

    kinds = {pl.Int64: sa.BigInteger, pl.Float64: sa.Numeric, pl.Date: sa.Date, pl.Datetime("us"): sa.DateTime}
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        for file in sorted(folder.glob("*.csv")):
            frame = pl.read_csv(file, try_parse_dates=True, schema_overrides={"concept_code": pl.String})
            typed = [sa.Column(name, kinds.get(dtype, sa.Text)) for name, dtype in frame.schema.items()]
            table = sa.Table(file.stem, sa.MetaData(), *typed)
            table.create(connection)
            connection.execute(table.insert(), frame.to_dicts())
    engine.dispose()


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[str]:
    """A PostgreSQL of this test's own, where the programs are installed."""
    pytest.importorskip("pg8000")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin")) or [Path(shutil.which("initdb") or "/nowhere").parent]
    if not (found[-1] / "initdb").exists():
        pytest.skip("PostgreSQL is not installed")
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.getuid() == 0 else []
    folder = Path("/tmp") / f"lifechart-pg-{os.getpid()}"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    data = folder / "data"
    run = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    try:
        subprocess.run([*user, found[-1] / "initdb", "-D", data, "-U", "tester", "-A", "trust"], **run)  # type: ignore[call-overload]
        options = f"-k {folder} -c listen_addresses='' -c fsync=off"
        subprocess.run([*user, found[-1] / "pg_ctl", "-D", data, "-w", "-o", options, "start"], **run)  # type: ignore[call-overload]
        yield f"postgresql+pg8000://tester@/postgres?unix_sock={folder}/.s.PGSQL.5432"
        subprocess.run([*user, found[-1] / "pg_ctl", "-D", data, "-m", "immediate", "stop"], **run)  # type: ignore[call-overload]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_a_postgresql_database_reads_as_its_tables(
    simulated: Path, tmp_path: Path, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(postgres, simulated / "omop")
    monkeypatch.setenv("OMOP_URL", postgres)
    counts = snapshot("env:OMOP_URL", tmp_path / "copy", log=Log(), schema="public")
    assert counts["measurement"] > 1000
    _, direct = read(simulated / "omop", tmp_path / "one", as_of=datetime(2026, 1, 1))
    _, copied = read(tmp_path / "copy", tmp_path / "two", as_of=datetime(2026, 1, 1))
    assert direct.equals(copied)


@pytest.mark.parametrize("url", ["nonsense", "postgresql+nodriver://u:secret@h/d", "sqlite:////nowhere/secret/x.db"])
def test_a_database_that_cannot_be_had_is_refused_without_its_password(tmp_path: Path, url: str) -> None:
    with pytest.raises(InputError) as refused:
        snapshot(url, tmp_path / "copy", log=Log())
    assert "secret" not in str(refused.value)
    assert not (tmp_path / "copy").exists()


def test_the_tables_of_concepts_are_whole() -> None:
    assert operators()[4171756] == "<"
    assert people()[8532] == ("GENDER//female", "Female")
    assert visits()[9201] == "inpatient"
    assert systems()["CPT4"] == "CPT"
    assert {table.kind for table in tables().values()} >= {"condition", "medication", "laboratory", "note", "device"}
    assert omop_files.files(Path("/nowhere"), "person") == []


def test_a_database_that_is_none_is_refused(tmp_path: Path) -> None:
    database = tmp_path / "x.sqlite"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE person (person_id INTEGER PRIMARY KEY, note TEXT) WITHOUT ROWID")
    connection.close()
    with pytest.raises(InputError, match="person"):
        source.units(database)
    database.write_bytes(b"SQLite format 3\0" + b"Quill" * 500)
    assert source.units(database) == []
