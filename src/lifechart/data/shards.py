"""The data set on disk: MEDS 0.4 in Parquet, one subject in one file, with codes, splits and a manifest of hashes.

Besides MEDS' own columns a shard has `unit` and `kind`. Anything that reads MEDS reads these files; `read_split` and
`names` are how the rest of the house does.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

import lifechart
from lifechart.core import durable
from lifechart.core.errors import InputError, IntegrityError
from lifechart.data.vault import sealed

SPLITS = ("train", "tuning", "held_out")
"""80, 10 and 10 per cent of the subjects, by their keyed ids."""

SHARD = pa.schema(
    [
        pa.field("subject_id", pa.int64(), nullable=False),
        pa.field("time", pa.timestamp("us")),
        pa.field("code", pa.string(), nullable=False),
        pa.field("numeric_value", pa.float32()),
        pa.field("text_value", pa.large_string()),
        pa.field("unit", pa.string()),
        pa.field("kind", pa.string()),
    ]
)
SOURCED = SHARD.append(pa.field("source", pa.string()))
"""Shards of a data set that was joined of several: each event says which of them it came from."""
CODES = pa.schema(
    [
        pa.field("code", pa.string(), nullable=False),
        pa.field("description", pa.string()),
        pa.field("parent_codes", pa.list_(pa.string())),
        pa.field("kind", pa.string()),
        pa.field("unit", pa.string()),
        pa.field("num_subjects", pa.int64()),
        pa.field("num_events", pa.int64()),
    ]
)
_SUBJECT_SPLITS = pa.schema(
    [pa.field("subject_id", pa.int64(), nullable=False), pa.field("split", pa.string(), nullable=False)]
)
UNITS = pa.schema(
    [
        pa.field("code", pa.string(), nullable=False),
        pa.field("written", pa.string(), nullable=False),
        pa.field("unit", pa.string(), nullable=False),
        pa.field("factor", pa.float64(), nullable=False),
        pa.field("offset", pa.float64(), nullable=False),
    ]
)
MANIFEST = "manifest.json"
_HASHED = ("data", "metadata")


def split_of(subject_id: pl.Expr) -> pl.Expr:
    """Return the split of each subject: tenths of the keyed id, so a subject keeps its split in every ingest."""
    tenth = (subject_id // 2**32) % 10
    return (
        pl.when(tenth < 8).then(pl.lit("train")).when(tenth == 8).then(pl.lit("tuning")).otherwise(pl.lit("held_out"))
    )


def write_shards(dataset: Path, name: str, events: pl.DataFrame) -> pl.DataFrame:
    """Write one shard of each split from events sorted by subject and time; return the subjects and their splits."""
    subjects = events.select(pl.col("subject_id").unique().sort()).with_columns(split=split_of(pl.col("subject_id")))
    marked = events.with_columns(split=split_of(pl.col("subject_id")))
    for split in SPLITS:
        schema = SOURCED if "source" in events.columns else SHARD
        part = marked.filter(pl.col("split") == split).select(schema.names)
        if part.height:
            _write(part, schema, dataset / "data" / split / f"{name}.parquet")
    return subjects


def write_metadata(dataset: Path, codes: pl.DataFrame, splits: pl.DataFrame) -> None:
    """Write metadata/: the codes (columns CODES), the subjects' splits, and what made the data set."""
    _write(codes.sort("code").select(CODES.names), CODES, dataset / "metadata" / "codes.parquet")
    _write(splits.sort("subject_id"), _SUBJECT_SPLITS, dataset / "metadata" / "subject_splits.parquet")
    description = {
        "etl_name": "lifechart",
        "etl_version": lifechart.__version__,
        "meds_version": "0.4.1",
        "code_modifier_columns": ["unit"],
        "other_extension_columns": ["kind"],
    }
    durable.write_json(dataset / "metadata" / "dataset.json", description)


def write_units(dataset: Path, conversions: pl.DataFrame) -> None:
    """Write metadata/units.parquet (columns UNITS): value in `unit` = value as `written` * factor + offset."""
    _write(conversions.select(UNITS.names), UNITS, dataset / "metadata" / "units.parquet")


def write_manifest(dataset: Path) -> str:
    """Write the hashes of all files of data/ and metadata/; return the digest that names the data set."""
    files = _hashes(dataset)
    digest = durable.digest_of(files)
    durable.write_json(dataset / MANIFEST, {"files": files, "digest": digest})
    return digest


def write_dataset(dataset: Path, events: pl.DataFrame, descriptions: dict[str, str]) -> str:
    """Write a whole data set from events (columns of a shard) that are already de-identified; return its digest.

    `lifechart ingest` is for records; this is for events made by other means, such as a test's.
    """
    ordered = events.sort("subject_id", "time", maintain_order=True, nulls_last=False)
    splits = write_shards(dataset, "0", ordered)
    known = ordered.group_by("code").agg(
        kind=pl.col("kind").first(),
        unit=pl.col("unit").drop_nulls().first(),
        num_subjects=pl.col("subject_id").n_unique().cast(pl.Int64),
        num_events=pl.len().cast(pl.Int64),
    )
    described = known.with_columns(
        description=pl.col("code").replace_strict(descriptions, default=None, return_dtype=pl.String),
        parent_codes=pl.lit(None, pl.List(pl.String)),
    )
    write_metadata(dataset, described, splits)
    return write_manifest(dataset)


def read_split(dataset: Path, split: str) -> pl.DataFrame:
    """Return the events of a split, by subject and time; raises InputError if there is no such split."""
    if split not in SPLITS:
        raise InputError("split", split, f"one of {SPLITS}")
    if sealed.is_sealed(dataset):
        opened = sealed.unlock(dataset)
        # Those that were encrypted, not those that happen to be there: a missing one is refused.
        names = sorted(name for name in opened.vault.files if name.startswith(f"data/{split}/"))
        frames = [pl.read_parquet(opened.read(name)) for name in names]
    else:
        frames = [pl.read_parquet(file) for file in shard_files(dataset, split)]
    return pl.concat(frames) if frames else pl.from_arrow(SHARD.empty_table())  # type: ignore[return-value]


def shard_files(dataset: Path, split: str) -> list[Path]:
    """Return the Parquet files of a split, sorted; raises InputError if `dataset` is no data set.

    Those of an encrypted data set are not to be read as they are: `read_split` decrypts them in memory.
    """
    if not (dataset / "data").is_dir():
        raise InputError("DATASET", str(dataset), "a folder written by `lifechart ingest`")
    suffix = sealed.SUFFIX if sealed.is_sealed(dataset) else ""
    return sorted((dataset / "data" / split).glob(f"*.parquet{suffix}"))


def codes(dataset: Path) -> pl.DataFrame:
    """Return metadata/codes.parquet."""
    path = dataset / "metadata" / "codes.parquet"
    if sealed.is_sealed(dataset):
        return pl.read_parquet(sealed.unlock(dataset).read("metadata/codes.parquet"))
    if not path.exists():
        raise InputError("DATASET", str(dataset), "a folder written by `lifechart ingest`")
    return pl.read_parquet(path)


def names(dataset: Path) -> dict[str, str]:
    """Return {code: description} of the codes that have one."""
    described = codes(dataset).filter(pl.col("description").is_not_null())
    return dict(described.select("code", "description").iter_rows())


def dataset_digest(dataset: Path) -> str:
    """Return the digest that names a data set, as its manifest states it; the same whether it is encrypted or not."""
    if sealed.is_sealed(dataset):
        return sealed.unlock(dataset).vault.dataset
    try:
        return str(orjson.loads((dataset / MANIFEST).read_bytes())["digest"])
    except (OSError, orjson.JSONDecodeError, KeyError) as error:
        raise InputError("DATASET", str(dataset), "a folder with a manifest.json") from error


def verify(dataset: Path) -> str:
    """Hash every file again; return the data set's digest, or raise IntegrityError that names what differs."""
    if sealed.is_sealed(dataset):
        return _verify_sealed(dataset)
    stated: dict[str, Any] = orjson.loads((dataset / MANIFEST).read_bytes())
    found = _hashes(dataset)
    for name in sorted(stated["files"].keys() | found.keys()):
        if stated["files"].get(name) != found.get(name):
            raise IntegrityError(f"{dataset.name}/{name}: its bytes are not those that the manifest names")
    if durable.digest_of(found) != stated["digest"]:
        raise IntegrityError(f"{dataset.name}/{MANIFEST}: its digest is not that of the files it names")
    return str(stated["digest"])


def _verify_sealed(dataset: Path) -> str:
    opened = sealed.unlock(dataset)
    present = {path.relative_to(dataset).as_posix() for path in dataset.rglob("*") if path.is_file()}
    expected = {f"{name}{sealed.SUFFIX}" for name in opened.vault.files} | {sealed.VAULT}
    for name in sorted(present ^ expected):
        raise IntegrityError(
            f"{dataset.name}/{name}: {'not named in' if name in present else 'named in'} {sealed.VAULT}"
        )
    stated: dict[str, Any] = orjson.loads(opened.read(MANIFEST))
    hashed = {name for name in opened.vault.files if name.partition("/")[0] in _HASHED}
    for name in sorted(hashed ^ stated["files"].keys()):
        raise IntegrityError(f"{dataset.name}/{name}: in one of {sealed.VAULT} and {MANIFEST} only")
    for name in opened.vault.files:
        opened.read(name)
    return opened.vault.dataset


def _hashes(dataset: Path) -> dict[str, str]:
    return {
        f"{folder}/{name}": digest
        for folder in _HASHED
        for name, digest in durable.tree_digests(dataset / folder).items()
    }


def _write(frame: pl.DataFrame, schema: pa.Schema, path: Path) -> None:
    table = frame.to_arrow().cast(schema)
    with durable.replacing(path) as aside:
        pq.write_table(table, aside, compression="zstd", use_dictionary=_repetitive(schema))


def _repetitive(schema: pa.Schema) -> list[str]:
    columns: Iterable[str] = (
        "subject_id",
        "time",
        "code",
        "text_value",
        "unit",
        "kind",
        "split",
        "numeric_value",
        "source",
    )
    return [name for name in columns if name in schema.names]
