"""Variants and polygenic scores: each line's fate, annotations of both kinds, sums by hand, and pysam beside us."""

from __future__ import annotations

import gzip
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifechart.core.errors import InputError
from lifechart.data import ingest as module
from lifechart.data.sources import Batch, vcf_annotations
from lifechart.data.sources.polygenic import read_scores
from lifechart.data.sources.vcf import source
from lifechart.data.sources.vcf_lines import Call, Unusable, site
from tests.data.samples import take

HEAD = """##fileformat=VCFv4.2
##reference=file:///genomes/GRCh38.fa
##contig=<ID=chr17>
##FILTER=<ID=low,Description="low">
##INFO=<ID=CSQ,Number=.,Type=String,Description="Consequence from VEP. Format: Allele|Consequence|IMPACT|SYMBOL|Gene">
##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">
##FORMAT=<ID=DP,Number=1,Type=Integer,Description="Depth">
##FORMAT=<ID=GQ,Number=1,Type=Integer,Description="Quality">
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tS1\tS2\tS3
"""
SAMPLES = "sample,patient,known\nS1,p1,2015-06-01\nS2,p2,birth\n"
FRAMESHIFT = "CSQ=-|frameshift_variant|HIGH|BRCA1|ENSG1,-|intron_variant|MODIFIER|BRCA1|ENSG1"


def line(*cells: str, ref: str = "CT", alt: str = "C", info: str = FRAMESHIFT, **more: str) -> str:
    row = {"pos": "100", "qual": "50", "filter": "PASS", "format": "GT:DP:GQ", "chrom": "chr17"} | more
    fixed = (row["chrom"], row["pos"], ".", ref, alt, row["qual"], row["filter"], info, row["format"])
    return "\t".join((*fixed, *(cells or ("0/1:30:99", "0/0:30:99", "0/0:30:99")))) + "\n"


def folder(
    path: Path, *lines: str, head: str = HEAD, samples: str = SAMPLES, name: str = "a.vcf", **files: str
) -> Path:
    path.mkdir(exist_ok=True)
    (path / name).write_text(head + "".join(lines))
    (path / "samples.csv").write_text(samples)
    for file, content in files.items():
        place = path / file.replace("__", "/").replace("_dot_", ".")
        place.parent.mkdir(exist_ok=True)
        place.write_text(content)
    return path


def read(path: Path) -> Batch:
    (unit,) = source.units(path)
    (batch,) = source.read(unit)
    return batch


def codes(batch: Batch, patient: str | None = None) -> list[str]:
    rows = batch.rows if patient is None else batch.rows.filter(pl.col("patient") == patient)
    return rows.get_column("code").to_list()


HET = "VARIANT//BRCA1//frameshift_variant//heterozygous"
FATES: list[tuple[str, str, str, list[str]]] = [
    ("a carrier", line(), "kept", [HET]),
    ("phased", line("0|1:30:99", "1|0:30:99", "0|0:9:9"), "kept", [HET, HET]),
    ("homozygous", line("1/1:30:99", "0/0", "0/0"), "kept", [HET.replace("heter", "hom")]),
    ("hemizygous", line("1:30:99", "0", "0"), "kept", [HET.replace("heterozygous", "hemizygous")]),
    ("half a call", line("./1:30:99", "0/0", "0/0"), "kept", [HET.replace("heterozygous", "uncertain")]),
    ("not called", line("./.:.:.", ".", "./."), "not mapped", []),
    ("nobody carries it", line("0/0", "0/0", "0/1"), "not mapped", []),
    ("a filter was failed", line(filter="low"), "not mapped", []),
    ("a poor line", line(qual="3"), "not mapped", []),
    ("a shallow call", line("0/1:3:99", "0/0", "0/0"), "not mapped", []),
    ("a doubtful call", line("0/1:30:3", "0/0", "0/0"), "not mapped", []),
    ("a gene that is not listed", line(info=FRAMESHIFT.replace("BRCA1", "QUILL1")), "not mapped", []),
    ("too mild", line(info="CSQ=-|intron_variant|MODIFIER|BRCA1|E"), "not mapped", []),
    ("no annotation", line(info="AC=1"), "not mapped", []),
    ("a broken row", "chr17\t100\n", "malformed", []),
    ("too few samples", line("0/1"), "malformed", []),
    ("no position", line(pos="x"), "malformed", []),
    ("no genotype", line(format="DP"), "no genotypes", []),
    ("an allele that is not there", line("0/2", "0/0", "0/0"), "genotype not valid", []),
    ("a word for a genotype", line("Quill", "0/0", "0/0"), "genotype not valid", []),
]


@pytest.mark.parametrize(("text", "fate", "found"), [row[1:] for row in FATES], ids=[row[0] for row in FATES])
def test_a_lines_fate(tmp_path: Path, text: str, fate: str, found: list[str]) -> None:
    batch = read(folder(tmp_path / "in", text))
    assert codes(batch) == found
    counted = {outcome: n for (type_, outcome), n in batch.counts.items() if type_ == "variant" and n}
    if fate in ("kept", "not mapped"):
        assert counted == {fate: 1}
    else:
        assert counted == {"quarantined": 1}
        assert [fault.reason for fault in batch.faults] == [fate]


def test_alleles_of_one_line_are_told_apart(tmp_path: Path) -> None:
    info = "CSQ=T|missense_variant|MODERATE|TP53|E,G|stop_gained&splice_region_variant|HIGH|TP53|E"
    batch = read(folder(tmp_path / "in", line("1/2:30:99", "0/2:30:99", "0/0", ref="A", alt="T,G", info=info)))
    assert codes(batch, "p1") == [
        "VARIANT//TP53//missense_variant//heterozygous",
        "VARIANT//TP53//stop_gained//heterozygous",
    ]
    assert codes(batch, "p2") == ["VARIANT//TP53//stop_gained//heterozygous"]


@pytest.mark.parametrize(
    ("ref", "alts", "annotated", "number"),
    [
        ("CT", ["C"], "-", 1),
        ("C", ["CA", "CTT"], "TT", 2),
        ("CTG", ["C", "CTT"], "TT", 2),
        ("A", ["T", "G"], "G", 2),
        ("A", ["T", "<DEL>"], "<DEL>", 2),
        ("A", ["T", "G"], "C", None),
    ],
)
def test_veps_names_of_alleles(ref: str, alts: list[str], annotated: str, number: int | None) -> None:
    layout = vcf_annotations.Layout("CSQ", 0, 1, 2, 3)
    found = layout.effects(f"{annotated}|stop_gained|HIGH|TP53", ref, alts)
    assert list(found) == ([number] if number else [])


def test_snpeff_is_read_too(tmp_path: Path) -> None:
    head = HEAD.replace(
        HEAD.splitlines()[4], "##INFO=<ID=ANN,Number=.,Type=String,Description=\"Functional annotations: 'Allele'\">"
    )
    batch = read(folder(tmp_path / "in", line(info="DP=3;ANN=C|frameshift_variant|HIGH|BRCA1|E|x"), head=head))
    assert codes(batch) == [HET]


def test_who_and_when(tmp_path: Path) -> None:
    text = line("0/1:30:99", "0/1:30:99", "0/1:30:99")
    account, events = take(
        folder(tmp_path / "in", text), tmp_path / "out", source="vcf", as_of=datetime(2020, 1, 1), dates="shift"
    )
    assert account.resources == {"sample": {"not mapped": 1}, "variant": {"kept": 1}}
    dated = events.filter(pl.col("code") == HET)
    assert dated.height == 1, "p2's is undated, and of somebody without any date nothing is kept"
    assert dated["time"][0].time().isoformat() == "23:59:59"


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    find = module.find_source
    monkeypatch.setattr(module, "find_source", lambda path, name=None: source if name == "vcf" else find(path, name))


SCORE = """###PGS CATALOG SCORING FILE
#pgs_id=PGS000018
#genome_build=GRCh37
#HmPOS_build=GRCh38
rsID\tchr_name\tchr_position\teffect_allele\tother_allele\teffect_weight\tallelefrequency_effect\thm_chr\thm_pos
rs1\t17\t1\tT\tC\t0.5\t0.25\t17\t100
rs2\t17\t2\tG\tA\t1.0\t0.5\t17\t200
rs3\t17\t3\tA\tT\t2.0\t0.1\t17\t300
rs4\t17\t4\tC\tA\t4.0\t0.1\t17\t400
rs5\t18\t5\tC\tG,T\t8.0\t\t18\t500
"""


def scored(path: Path, *lines: str, **files: str) -> dict[str, dict[str, float]]:
    batch = read(folder(path, *lines, **({"scores__a_dot_txt": SCORE} | files)))
    found: dict[str, dict[str, float]] = {}
    for patient, code, value in batch.rows.select("patient", "code", "numeric_value").iter_rows():
        found.setdefault(patient, {})[code] = round(value, 5)
    return found


def snp(pos: int, ref: str, alt: str, *calls: str, chrom: str = "chr17") -> str:
    return line(*calls, ref=ref, alt=alt, pos=str(pos), info=".", format="GT", chrom=chrom)


def test_a_score_adds_up_by_hand(tmp_path: Path) -> None:
    lines = (
        snp(100, "C", "T", "0/1", "1/1", "0/0"),  # as written: 1 and 2 copies of T
        snp(200, "T", "C", "0/1", "./.", "0/0"),  # the other strand: C for G; not called in the second: 2 x 0.5
        snp(300, "A", "T", "1/1", "1/1", "0/0"),  # its strand cannot be told: 2 x 0.1 for everybody
        snp(400, "C", "G", "1/1", "1/1", "0/0"),  # other alleles than the score's: 2 x 0.1
        snp(500, "A", "C", "1/1", "1/1", "0/0", chrom="18"),  # no single other allele is given: the effect's is enough
    )
    found = scored(tmp_path / "in", *lines, vcf_dot_yaml="min_overlap: 0.1\n")
    imputed = 2.0 * 0.2 + 4.0 * 0.2
    assert found["p1"] == {"PGS//PGS000018": round(0.5 + 1.0 + 16 + imputed, 5), "PGS_OVERLAP//PGS000018": 0.6}
    assert found["p2"] == {"PGS//PGS000018": round(1.0 + 1.0 + 16 + imputed, 5), "PGS_OVERLAP//PGS000018": 0.4}


def test_an_effect_allele_that_is_the_reference(tmp_path: Path) -> None:
    lines = (snp(100, "T", "C", "0/0", "0/1", "0/0"), snp(200, "G", ".", "0/0", "0/0", "0/0"))
    found = scored(tmp_path / "in", *lines, vcf_dot_yaml="min_overlap: 0.1\n")
    rest = 2.0 * 0.2 + 4.0 * 0.2
    assert found["p1"]["PGS//PGS000018"] == round(1.0 + 2.0 + rest, 5)
    assert found["p2"]["PGS//PGS000018"] == round(0.5 + 2.0 + rest, 5)


def test_ambiguous_strands_can_be_kept(tmp_path: Path) -> None:
    text = snp(300, "A", "T", "0/0", "1/1", "0/0")
    found = scored(tmp_path / "in", text, vcf_dot_yaml="min_overlap: 0\nkeep_ambiguous: true\n")
    assert found["p1"]["PGS//PGS000018"] - found["p2"]["PGS//PGS000018"] == pytest.approx(4.0)


def test_a_score_of_which_too_little_was_seen_is_not_given(tmp_path: Path) -> None:
    batch = read(folder(tmp_path / "in", snp(100, "C", "T", "0/1", "1/1", "0/0"), scores__a_dot_txt=SCORE))
    assert codes(batch) == []
    assert [fault.reason for fault in batch.faults] == ["too few of its variants"] * 2


def test_a_score_for_another_build_is_not_given(tmp_path: Path) -> None:
    score = SCORE.replace("#HmPOS_build=GRCh38", "#HmPOS_build=GRCh37")
    batch = read(folder(tmp_path / "in", snp(100, "C", "T", "0/1", "1/1", "0/0"), scores__a_dot_txt=score))
    assert {fault.reason for fault in batch.faults} == {"another genome build"}


def test_chromosomes_in_files_of_their_own_make_one_score(tmp_path: Path) -> None:
    path = folder(
        tmp_path / "in",
        snp(100, "C", "T", "0/1", "1/1", "0/0"),
        scores__a_dot_txt=SCORE,
        vcf_dot_yaml="min_overlap: 0\n",
    )
    second = HEAD + snp(500, "A", "C", "1/1", "1/1", "0/0", chrom="18")
    (path / "b.vcf.bgz").write_bytes(gzip.compress(second.encode()))
    batch = read(path)
    assert batch.rows.filter(pl.col("code").str.starts_with("PGS//")).height == 2
    assert batch.rows.filter(pl.col("code").str.starts_with("PGS_OVERLAP"))["numeric_value"].to_list() == pytest.approx(
        [0.4, 0.4]
    )


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("no map of samples", {"samples": ""}, "sample"),
    ("an empty cell", {"samples": "sample,patient,known\nS1,,birth\n"}, "row 1"),
    ("a sample twice", {"samples": SAMPLES + "S1,p9,birth\n"}, "row 3"),
    ("no date", {"samples": "sample,patient,known\nS1,p1,Quill\n"}, "known"),
    ("an unknown key", {"vcf_dot_yaml": "min_overlapp: 1\n"}, "min_overlapp"),
    ("a wrong type", {"vcf_dot_yaml": "min_overlap: much\n"}, "min_overlap"),
    ("no such list of genes", {"vcf_dot_yaml": "genes: none.csv\n"}, "genes"),
    ("a score without a number", {"scores__a_dot_txt": SCORE.replace("#pgs_id", "#x")}, "pgs_id"),
    ("a weight that is a word", {"scores__a_dot_txt": SCORE.replace("0.5\t0.25", "much\t0.25")}, "variant 1"),
    ("no weights", {"scores__a_dot_txt": SCORE.replace("effect_weight", "w")}, "effect_weight"),
]


@pytest.mark.parametrize(("files", "key"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_what_stands_beside_the_variants_is_checked(tmp_path: Path, files: dict[str, Any], key: str) -> None:
    path = folder(tmp_path / "in", line(), **files)
    if files.get("samples") == "":
        (path / "samples.csv").unlink()
    with pytest.raises(InputError, match=key) as refused:
        source.units(path)
    assert "Quill" not in str(refused.value)


def test_a_file_without_a_header_and_one_that_breaks_off(tmp_path: Path) -> None:
    path = folder(tmp_path / "in", head="")
    assert [fault.reason for fault in read(path).faults] == ["no header"]
    whole = gzip.compress((HEAD + "".join(line(pos=str(n)) for n in range(5000))).encode())
    (path / "a.vcf").unlink()
    (path / "b.vcf.gz").write_bytes(whole[: len(whole) // 2])
    batch = read(path)
    assert batch.faults[-1].reason == "gzip ends early"
    assert 0 < batch.counts["variant", "kept"] < 5000


ALLELES = st.sampled_from(["0", "1", "2", "."])
CALLS = st.lists(ALLELES, min_size=1, max_size=3).flatmap(
    lambda a: st.sampled_from(["/", "|"]).map(lambda mark: mark.join(a))
)


@settings(max_examples=40)
@given(
    lines=st.lists(st.tuples(st.integers(1, 10**6), st.lists(CALLS, min_size=3, max_size=3)), min_size=1, max_size=8)
)
def test_genotypes_are_those_that_pysam_reads(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[int, tuple[str, str, str]]]
) -> None:
    pysam = pytest.importorskip("pysam")
    texts = [line(*calls, ref="A", alt="T,G", pos=str(pos), info=".", format="GT") for pos, calls in sorted(lines)]
    path = folder(tmp_path_factory.mktemp("vcf"), *texts)
    with pysam.VariantFile(str(path / "a.vcf")) as file:
        theirs = [(r.pos, [tuple(s["GT"]) for s in r.samples.values()]) for r in file]
    ours = [(at.position, [call.alleles for call in at.calls()]) for at in (site(text.rstrip(), 3) for text in texts)]
    assert ours == theirs


def test_zygosity_and_dosage() -> None:
    assert Call((0, 1)).zygosity(1) == "heterozygous"
    assert Call((1, 1, 0)).zygosity(1) == "heterozygous"
    assert Call((0, 0)).zygosity(1) is None
    assert Call((None, 1)).dosage(1) is None
    assert Call((1, 1)).dosage(1) == 2
    with pytest.raises(Unusable):
        site("chr1\t5\t.\tA\tT\tgood\tPASS\t.", 0)


def test_the_tables_are_whole(tmp_path: Path) -> None:
    ranks = [rank for rank, _ in vcf_annotations.ranks().values()]
    assert ranks == list(range(1, len(ranks) + 1))
    assert {impact for _, impact in vcf_annotations.ranks().values()} == {"HIGH", "MODERATE", "LOW", "MODIFIER"}
    assert read_scores(tmp_path / "nowhere") == []
