"""Every document as a file: the card against its schema, the PDF, the pages in a browser, the ledger's statement."""

import os
from pathlib import Path
from xml.etree import ElementTree

import pytest

from lifechart.core import durable
from lifechart.release.documents import card, page
from lifechart.release.documents import print as printing
from lifechart.release.documents.write import NAMES, make, make_all, write
from tests.browser import launched, window, wrong_with
from tests.release.documents.conftest import House
from tests.release.documents.test_consort import ended
from tests.shared_data import shared

_SIGNATURE = """<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" targetNamespace="http://www.w3.org/2000/09/xmldsig#">
<xs:element name="Signature"/></xs:schema>"""


@pytest.fixture
def full(house: House) -> House:
    """Everything that can stand behind a release: validation, trial, plan, use."""
    house.validate(house.shelf.current("risk"))
    ended(house).reveal(actor="dr.li")
    house.planned()
    house.used(accepted=30, dismissed=20)
    return house


def valid(content: bytes) -> list[str]:
    """Return what the schema finds wrong."""
    etree = pytest.importorskip("lxml.etree", reason="lxml is not installed")

    class Offline(etree.Resolver):
        def resolve(self, url, identity, context):  # type: ignore[no-untyped-def]
            return self.resolve_string(_SIGNATURE, context) if "xmldsig" in url else None

    parser = etree.XMLParser()
    parser.resolvers.add(Offline())
    schema = etree.XMLSchema(etree.parse(str(shared("standards/chai-model-card/schema.xsd")), parser))
    schema.validate(etree.fromstring(content))
    return [str(error) for error in schema.error_log]


def test_the_card_keeps_the_schema_with_much_and_with_little_evidence(house: House) -> None:
    for prepare in (lambda: None, lambda: ended(house)):
        prepare()
        dossier = house.dossier()
        assert valid(card.xml(make(dossier, "model_card"), dossier)) == []


def test_the_schema_would_find_a_card_that_lacks_a_part(house: House) -> None:
    dossier = house.dossier()
    tree = ElementTree.fromstring(card.xml(make(dossier, "model_card"), dossier))
    tree.remove(tree[0])
    assert valid(ElementTree.tostring(tree))


def test_the_card_marks_what_is_open_and_names_its_evidence(house: House) -> None:
    dossier = house.dossier()
    text = card.xml(make(dossier, "model_card"), dossier).decode()
    assert "[Open, for the data steward: Name the sources of funding.]" in text
    assert dossier.manifest.digest[:16] in text
    assert '"kind":"estimate_ci","estimate":0.75' in text
    assert '"kind":"open"' in text  # no group was examined


def test_everything_is_written_and_stated(full: House, tmp_path: Path) -> None:
    written = write(full.dossier(), tmp_path / "out", actor="sam.steward")
    assert [each.name for each in written.documents] == list(NAMES)
    assert written.refused == ()
    said = full.log.find(kind="document")[-1].statement
    there = durable.tree_digests(tmp_path / "out")
    assert {subject.name: subject.digest for subject in said.subjects} == there
    assert {"model_card.xml", "consort_ai.svg", "index.html", "public.pdf"} <= set(there)


def test_what_is_refused_is_listed_with_its_reason(house: House, tmp_path: Path) -> None:
    written = write(house.dossier(), tmp_path / "out", actor="sam.steward")
    assert {title for title, _ in written.refused} == {
        "CONSORT-AI checklist",
        "Predetermined change control plan",
    }
    index = (tmp_path / "out" / "index.html").read_text()
    assert "no change plan is registered" in index
    assert "change_plan.html" not in index


def test_the_same_evidence_gives_the_same_bytes(full: House) -> None:
    first, second = make_all(full.dossier()).documents, make_all(full.dossier()).documents
    for one, other in zip(first, second, strict=True):
        assert page.render(one) == page.render(other)
        assert printing.pdf(one) == printing.pdf(other)
        assert printing.pdf(one).startswith(b"%PDF-")


def test_a_name_in_another_script_does_not_break_the_pdf(full: House) -> None:
    from dataclasses import replace

    assert printing.pdf(replace(make(full.dossier(), "public"), institution="Szpital Łódź 病院 <&>"))


def test_nothing_that_was_given_becomes_markup(house: House) -> None:
    from dataclasses import replace

    document = replace(make(house.dossier(), "public"), institution="<script>alert(1)</script>")
    assert "<script>" not in page.render(document)


def test_the_public_page_has_no_jargon_of_evidence(full: House) -> None:
    html = page.render(make(full.dossier(), "public"))
    assert "out of 100" in html
    assert "Care was better with it." in html
    assert "AUROC" not in html
    assert "20 times (40 in 100)" in html


@pytest.mark.parametrize("width", [1280, 390])
def test_pages_are_sound(full: House, tmp_path: Path, width: int) -> None:
    write(full.dossier(), tmp_path / "out", actor="sam.steward")
    with launched() as browser:
        context = window(browser, width, offline=True)
        for name in ("index", *NAMES):
            opened = context.new_page()
            opened.goto(f"file://{tmp_path}/out/{name}.html")
            for folded in opened.query_selector_all("details:not([open]) > summary"):
                folded.click()
            if folder := os.environ.get("LIFECHART_PICTURES"):
                opened.screenshot(path=f"{folder}/document-{name}-{width}.png", full_page=True)
            assert wrong_with(opened) == [], name
            opened.close()
