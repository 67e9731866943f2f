"""Planted traits: off they change nothing; on, the oracles know them, and each is shown where it should be."""

from datetime import date, datetime
from pathlib import Path

import numpy as np
import orjson
import polars as pl
import pydicom
import pytest

from lifechart.core.errors import InputError, IntegrityError
from lifechart.data.sources.vcf import source as vcf
from lifechart.simulate import genomes, pictures, planted
from lifechart.simulate.hospital import BLOCK, blocks, simulate, write_truth
from lifechart.simulate.oracle import Oracle
from lifechart.simulate.processes import LATENTS, hazards

TODAY = date(2026, 1, 1)
MODALITIES = ("note", "image", "variant")


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("planted")
    simulate(out, 150, 3, TODAY, modalities=MODALITIES, progress=False)
    return out


def test_the_lives_of_other_hospitals_are_as_they_were(tmp_path: Path) -> None:
    """Planting draws from a stream of its own: the people and their latents stay, what happens to them does not."""
    ((_, plain),) = blocks(80, 3, TODAY)
    ((_, with_traits),) = blocks(80, 3, TODAY, plant=True)
    assert plain["latent"].equals(with_traits["latent"])
    assert plain["people"].drop("death").equals(with_traits["people"].drop("death"))
    assert not plain["events"].equals(with_traits["events"])
    assert "planted" not in plain
    write_truth(tmp_path / "truth", 5, 3, TODAY)
    assert "planted" not in orjson.loads((tmp_path / "truth" / "truth.json").read_bytes())


def test_a_trait_multiplies_its_conditions_and_no_others_on_average_by_one() -> None:
    driving, half_norm = planted.driven(len(LATENTS) + len(planted.TRAITS))
    extra = driving[:, len(LATENTS) :]
    assert np.array_equal(driving[:, : len(LATENTS)], hazards().loadings_KD)
    assert set(np.flatnonzero(extra.any(0))) == set(range(len(planted.TRAITS)))
    traits = planted.draw(200_000, 0, BLOCK, 1)
    mean = np.exp(traits @ extra.T - 0.5 * (extra**2).sum(1)).mean(0)
    assert np.abs(mean - 1).max() < 0.05
    assert np.allclose(half_norm - hazards().half_norm_K, 0.5 * (extra**2).sum(1), atol=1e-5)


def test_neither_half_of_the_combination_says_anything() -> None:
    traits = planted.frame(planted.draw(20_000, 0, 20_000, 2), 0, 2)
    accord, wavy = traits["accord"].to_numpy(), traits["wavy"].to_numpy()
    score = accord * wavy
    for alone in (wavy, score, score**2):
        assert abs(np.corrcoef(accord, alone)[0, 1]) < 0.03
    assert np.corrcoef(accord, score * wavy)[0, 1] > 0.999


def test_both_oracles_read_a_planted_hospital(hospital: Path) -> None:
    """Where the latent oracle says more than the record oracle, which cannot see the trait, the trait is why."""
    oracle = Oracle.load(hospital / "truth")
    traits = pl.read_parquet(hospital / "truth" / "planted.parquet")
    adults = oracle.people.filter((pl.col("birth") < datetime(1975, 1, 1)) & pl.col("death").is_null())
    prompts = adults.select("life", prediction_time=pl.lit(datetime(2020, 1, 1)))
    voice = prompts.join(traits, on="life", maintain_order="left")["voice"].to_numpy()
    latent = oracle.latent_risks(prompts, ["anxiety"], (1825,), draws=8)[:, 0, 0]
    record = oracle.record_risks(prompts, ["anxiety"], (1825,), draws=8)[:, 0, 0]
    both = (latent > 0) & (record > 0)
    assert np.corrcoef(np.log(latent[both] / record[both]), voice[both])[0, 1] > 0.5


def test_a_truth_planted_by_another_table_is_refused(hospital: Path, tmp_path: Path) -> None:
    for file in (hospital / "truth").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    about = orjson.loads((tmp_path / "truth.json").read_bytes())
    (tmp_path / "truth.json").write_bytes(orjson.dumps(about | {"planted": "0" * 64}))
    with pytest.raises(IntegrityError, match="another table"):
        Oracle.load(tmp_path)


def test_the_export_holds_real_dicom_and_whose_it_is(hospital: Path) -> None:
    files = sorted((hospital / "images").rglob("*.dcm"))
    assert {file.name.partition("-")[0] for file in files} == {"retina", "chest", "tile"}
    people = pl.read_parquet(hospital / "truth" / "people.parquet")
    known = dict(pl.read_csv(hospital / "imaging_patients.csv").iter_rows())
    for file in files[:10]:
        made = pydicom.dcmread(file)
        assert made.pixel_array.shape[:2] == (pictures.SIDE, pictures.SIDE)
        row = people.filter(pl.col("patient_id") == known[made.PatientID]).row(0, named=True)
        assert made.PatientBirthDate == f"{row['birth']:%Y%m%d}"
        assert f"{row['birth']:%Y%m%d}" < made.SeriesDate <= f"{(row['death'] or datetime(2026, 1, 1)):%Y%m%d}"


def test_the_score_that_the_source_adds_up_follows_the_trait(hospital: Path) -> None:
    rows = pl.concat([batch.rows for unit in vcf.units(hospital / "genomes") for batch in vcf.read(unit)])
    truth = pl.read_parquet(hospital / "truth" / "planted.parquet")
    people = pl.read_parquet(hospital / "truth" / "people.parquet").select("life", patient="patient_id")
    joined = rows.join(people, on="patient").join(truth, on="life")
    for code, trait in (("PGS//PGS990001", pl.col("polygenic")), ("PGS//PGS990002", pl.col("accord") * pl.col("wavy"))):
        scored = joined.filter(pl.col("code") == code)
        assert scored.height > 50
        assert scored.select(pl.corr("numeric_value", trait)).item() > 0.9
    carriers = joined.filter(pl.col("code").str.starts_with("VARIANT//"))
    assert (carriers["carrier"] > 0.5).all()


def test_a_score_of_one_name_is_the_same_file_in_every_hospital(tmp_path: Path) -> None:
    people = pl.DataFrame({"life": [0, 1], "patient_id": ["a", "b"], "time": [datetime(2020, 1, 1)] * 2})
    people = people.with_columns(polygenic=0.3, accord=-1.0, carrier=0.9, wavy=pl.lit(1, pl.Int8))
    for seed in (1, 2):
        genomes.write(people, tmp_path / str(seed), seed)
    for score in genomes.SCORES.values():
        files = [(tmp_path / str(seed) / "scores" / f"{score}.txt").read_bytes() for seed in (1, 2)]
        assert files[0] == files[1]
    assert (tmp_path / "1" / "cohort.vcf.gz").read_bytes() != (tmp_path / "2" / "cohort.vcf.gz").read_bytes()


def test_notes_differ_by_the_trait_and_only_by_a_sentence(hospital: Path, tmp_path: Path) -> None:
    import base64

    from lifechart.simulate.export import export

    export(hospital / "truth", tmp_path, progress=False)
    before, after = (
        [orjson.loads(line) for line in (folder / "fhir" / "DocumentReference.ndjson").read_bytes().splitlines()]
        for folder in (tmp_path, hospital)
    )
    longer = 0
    for plain, voiced in zip(before, after, strict=True):
        texts = [base64.b64decode(note["content"][0]["attachment"]["data"]).decode() for note in (plain, voiced)]
        assert texts[1].startswith(texts[0])
        longer += texts[1] != texts[0]
    assert 0.1 < longer / len(before) < 0.6


def test_the_same_truth_gives_the_same_files(hospital: Path, tmp_path: Path) -> None:
    simulate(tmp_path, 150, 3, TODAY, modalities=MODALITIES, progress=False)
    for folder in ("images", "genomes", "truth", "fhir"):
        for file in sorted((hospital / folder).rglob("*")):
            if file.is_file():
                assert file.read_bytes() == (tmp_path / file.relative_to(hospital)).read_bytes(), file.name


def test_modalities_are_named() -> None:
    assert planted.parse("variant, note") == ("note", "variant")
    with pytest.raises(InputError, match="smell"):
        planted.parse("smell")
