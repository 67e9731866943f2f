"""The simulated hospital's genomes: one annotated VCF of all samples, and two scoring files in the PGS Catalog's form.

Two scores of 80 variants each. A person's alleles are drawn with a lean towards their trait, so that the score that
the source `vcf` adds up follows the trait (correlation about 0.95) while every variant keeps its own frequency. The
trait `carrier` shows as a variant in one of six collagen genes. The scores' numbers and the positions are made up.
"""

from __future__ import annotations

import gzip
from io import BytesIO
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import ndtri

from lifechart.core import durable

SCORES = {"polygenic": "PGS990001", "accord": "PGS990002"}
"""What each score follows: the trait `polygenic`; of `accord` its product with the coin `wavy` (see `planted`)."""
GENES = ("COL2A1", "COL9A1", "COL9A2", "COL9A3", "COL11A1", "COL11A2")
_CONSEQUENCES = (("missense_variant", "MODERATE"), ("frameshift_variant", "HIGH"))
_NUM, _LEAN = 80, 0.4
_CARRIES, _TWICE = 0.5, 1.5
"""The trait `carrier` above which a person has one altered allele, and two."""
_UNCALLED = 0.01
_FIRST, _STEP = 1_000_000, 250_000
_STREAM = 0x67656E


def write(people: pl.DataFrame, folder: Path, seed: int) -> int:
    """Write `folder` for people (columns life, patient_id, time, and the traits); return how many samples there are."""
    rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence([seed, _STREAM])))
    lines: list[tuple[int, int, str]] = []
    for number, (trait, name) in enumerate(SCORES.items()):
        lean = people[trait].to_numpy() * (people["wavy"].to_numpy() if trait == "accord" else 1)
        frequency, weight = _published(number)
        copies_NV = _copies(lean, frequency, rng)
        places = [(1 + number * 10 + index % 10, _FIRST + _STEP * (index // 10)) for index in range(_NUM)]
        lines += [(*place, _line(*place, copies_NV[:, index], "", rng)) for index, place in enumerate(places)]
        durable.write_bytes(folder / "scores" / f"{name}.txt", _scoring_file(name, places, weight, frequency))
    carrier = people["carrier"].to_numpy()
    copies = (carrier > _CARRIES).astype(np.int64) + (carrier > _TWICE)
    sites = [(gene, effect) for gene in GENES for effect in _CONSEQUENCES]
    which = rng.integers(0, len(sites), people.height)
    for index, (gene, (consequence, impact)) in enumerate(sites):
        note = f"CSQ=G|{consequence}|{impact}|{gene}"
        place = (21, _FIRST + _STEP * index)
        lines.append((*place, _line(*place, np.where(which == index, copies, 0), note, rng)))
    lines.sort(key=lambda line: line[:2])
    samples = [f"G{life:07d}" for life in people["life"].to_list()]
    _write_vcf(folder, samples, [line for *_, line in lines])
    known = zip(samples, people["patient_id"].to_list(), people["time"].to_list(), strict=True)
    rows = [f"{sample},{patient},{time:%Y-%m-%d}" for sample, patient, time in known]
    durable.write_bytes(folder / "samples.csv", "\n".join(["sample,patient,known", *rows, ""]).encode())
    durable.write_bytes(folder / "genes.csv", "\n".join(["gene", *GENES, ""]).encode())
    return people.height


def _published(number: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a score's frequencies and weights: under one name every hospital has one and the same file."""
    rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence([number, _STREAM])))
    return rng.uniform(0.1, 0.6, _NUM), rng.uniform(0.5, 1.5, _NUM) / 10


def _copies(
    lean_N: NDArray[np.float64], frequency_V: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return how many effect alleles each person has: two thresholds of normals that lean towards the trait."""
    own = rng.standard_normal((2, len(lean_N), len(frequency_V)))
    liability = _LEAN * lean_N[:, None] + np.sqrt(1 - _LEAN**2) * own
    return np.asarray((liability > ndtri(1 - frequency_V)).sum(0))


def _line(chromosome: int, position: int, copies: NDArray[np.int64], note: str, rng: np.random.Generator) -> str:
    cells = np.array(["0/0:30:99", "0/1:30:99", "1/1:30:99", "./.:2:3"])
    called = np.where(rng.random(len(copies)) < _UNCALLED, 3, copies)
    fixed = f"chr{chromosome}\t{position}\t.\tA\tG\t60\tPASS\t{note or '.'}\tGT:DP:GQ"
    return "\t".join([fixed, *cells[called].tolist()])


def _write_vcf(folder: Path, samples: list[str], lines: list[str]) -> None:
    columns = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *samples]
    head = [
        "##fileformat=VCFv4.2",
        "##reference=GRCh38",
        '##INFO=<ID=CSQ,Number=.,Type=String,Description="Consequence. Format: Allele|Consequence|IMPACT|SYMBOL">',
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
        '##FORMAT=<ID=DP,Number=1,Type=Integer,Description="Depth">',
        '##FORMAT=<ID=GQ,Number=1,Type=Integer,Description="Quality">',
        "\t".join(columns),
    ]
    content = BytesIO()
    with gzip.GzipFile(fileobj=content, mode="wb", mtime=0, compresslevel=6) as file:
        file.write("\n".join([*head, *lines, ""]).encode())
    durable.write_bytes(folder / "cohort.vcf.gz", content.getvalue())


def _scoring_file(
    name: str, places: list[tuple[int, int]], weight: NDArray[np.float64], frequency: NDArray[np.float64]
) -> bytes:
    head = [f"#pgs_id={name}", "#genome_build=GRCh38", "#trait_reported=simulated"]
    columns = "chr_name\tchr_position\teffect_allele\tother_allele\teffect_weight\tallelefrequency_effect"
    rows = [
        f"{chromosome}\t{position}\tG\tA\t{w:.6f}\t{f:.6f}"
        for (chromosome, position), w, f in zip(places, weight, frequency, strict=True)
    ]
    return "\n".join([*head, columns, *rows, ""]).encode()
