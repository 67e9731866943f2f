"""A sentence without evidence cannot be made, and one whose evidence is not there is not printed."""

from dataclasses import replace

import pytest

from bench._institution import PAIR, VALIDATION
from lifechart.core.durable import digest_of
from lifechart.core.errors import GateRefused, InputError, IntegrityError
from lifechart.ledger.statement import Statement, Subject
from lifechart.release import validation
from lifechart.release.documents import checklist, facts
from lifechart.release.documents.checklist import IN_PART, OPEN, STATED, fill, load
from lifechart.release.documents.evidence import Said, Source
from lifechart.release.documents.write import NAMES, make
from lifechart.serve import decisions
from tests.release.documents.conftest import House


def test_a_sentence_without_a_source_is_refused() -> None:
    with pytest.raises(GateRefused, match="no evidence behind"):
        Said("It saves lives.", ())


def test_a_sentence_whose_source_is_not_there_is_not_printed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    invented = Said("A trial found that it saves lives.", (Source("trial", digest_of("invented"), 2),))
    monkeypatch.setattr(checklist, "FACTS", {**facts.FACTS, "identity": lambda dossier: [invented]})
    with pytest.raises(GateRefused, match="not in evidence"):
        fill("model_card", house.dossier())
    unknown = Said("As the vendor says.", (Source("brochure", digest_of("brochure")),))
    monkeypatch.setattr(checklist, "FACTS", {**facts.FACTS, "identity": lambda dossier: [unknown]})
    with pytest.raises(GateRefused, match="not in evidence"):
        fill("model_card", house.dossier())


def test_a_release_whose_report_was_exchanged_has_no_documents(house: House) -> None:
    report = house.shelf.current("risk").report
    report.write_bytes(report.read_bytes().replace(b"0.7", b"0.9"))
    with pytest.raises(IntegrityError, match="report"):
        house.dossier()


@pytest.mark.parametrize("name", NAMES)
def test_every_item_is_stated_or_open_for_a_named_office(house: House, name: str) -> None:
    house.planned()
    house.trial(house.shelf.current("risk"))
    document = make(house.dossier(), name)
    assert len(document.items) == len(load(name)["item"])
    assert sum(map(document.count, (STATED, IN_PART, OPEN))) == len(document.items)
    for item in document.items:
        assert item.said or item.open, item.number
        assert item.open is None or item.open.who in (
            "data steward",
            "medical officer",
            "ethics board",
            "safety officer",
            "investigator",
        )
    assert len({item.number for item in document.items}) == len(document.items)


@pytest.mark.parametrize(
    ("name", "items"),
    [("source_attributes", 31), ("tripod_ai", 52), ("consort_ai", 37 + 14)],
)
def test_a_standard_is_whole(name: str, items: int) -> None:
    assert len(load(name)["item"]) == items


def test_tripod_has_its_27_items() -> None:
    assert {int("".join(filter(str.isdigit, row["number"]))) for row in load("tripod_ai")["item"]} == set(range(1, 28))


@pytest.mark.parametrize("name", ["consort_ai", "change_plan"])
def test_a_document_about_nothing_is_refused(house: House, name: str) -> None:
    with pytest.raises(InputError, match="evidence behind it"):
        make(house.dossier(), name)


def test_what_only_humans_know_is_open(house: House) -> None:
    document = make(house.dossier(), "source_attributes")
    by_number = {item.number: item for item in document.items}
    assert by_number["1.ii"].status == OPEN
    assert by_number["6.iii"].status == OPEN
    assert by_number["7.v"].status == OPEN
    assert by_number["7.i"].status == STATED


def test_a_validation_is_told_met_or_not(house: House) -> None:
    release = house.shelf.current("risk")
    assert house.validate(release).met
    stricter = house.register("stricter.toml", VALIDATION.format(auroc=0.9))
    report = house.examine(release.manifest.model_digest, "1" * 64, registered=stricter.original)
    assert not validation.conclude(house.log, house.registry, stricter, report, actor="sam.steward").met
    said = [each.text for each in facts.FACTS["validated"](house.dossier())]
    assert len(said) == 2
    assert "met its criteria" in said[0]
    assert "did not meet them" in said[1]


def test_another_models_validation_is_not_this_ones(house: House) -> None:
    house.validate(house.shelf.current("risk"))
    house.release(1)
    assert facts.FACTS["validated"](house.dossier()) == []


def test_disagreement_counts_the_last_word(house: House) -> None:
    house.used(accepted=30, dismissed=20)
    first, why = facts.FACTS["disagreement"](house.dossier())
    assert "50 times and dismissed it 20 times (40 in 100)" in first.text
    assert "it did not fit the person: 20" in why.text


@pytest.mark.parametrize(("accepted", "dismissed"), [(30, 3), (3, 30), (4, 4)])
def test_small_counts_of_disagreement_are_not_told(house: House, accepted: int, dismissed: int) -> None:
    house.used(accepted, dismissed)
    said = " ".join(each.text for each in facts.FACTS["disagreement"](house.dossier()))
    assert f" {min(accepted, dismissed)} " not in said
    assert "not told" in said or "fewer than 11" in said
    public = make(house.dossier(), "public")
    assert all("in 100)" not in said.text for item in public.items for said in item.said)


def test_a_decision_that_names_a_card_counts_for_its_answer(house: House) -> None:
    house.used(accepted=30, dismissed=20)
    said = {"capability": "risk", "outcome": PAIR[0], "action": "dismissed", "user": "dr.reyes", "reason": "known"}
    card = Subject("answer", f"{10**6 + 1:064x}")
    house.log.append(Statement("feedback", (card,), said))
    assert "50 times and dismissed it 21 times" in facts.FACTS["disagreement"](house.dossier())[0].text


def test_decisions_about_another_models_answers_do_not_count(house: House) -> None:
    house.used(accepted=30, dismissed=20)
    house.release(1)
    assert facts.FACTS["disagreement"](house.dossier()) == []


def test_every_reason_has_words() -> None:
    from lifechart.release.documents.use import reasons

    assert set(reasons()) == set(decisions.REASONS)


def test_lists_name_facts_that_exist_and_keys_that_are_known(tmp_path) -> None:
    head = 'title = "t"\nabout = "a"\nstandard = "s"\nwho = "data steward"\nreview_by = 2030-01-01\n[[item]]\n'
    row = 'section = "s"\nnumber = "1"\ntopic = "t"\n'
    for wrong, words in (('facts = ["praise"]', "praise"), ('value = "5"', "value")):
        (tmp_path / "own.toml").write_text(head + row + wrong)
        with pytest.raises(InputError, match=words):
            load("own", tmp_path)
    (tmp_path / "own.toml").write_text(head + 'section = "s"\n')
    with pytest.raises(InputError, match="number"):
        load("own", tmp_path)


def test_the_declaration_is_named_by_its_digest(house: House) -> None:
    dossier = house.dossier()
    other = replace(dossier, declaration=replace(dossier.declaration, intended_use="Replaces the clinician."))
    assert dossier.file("declaration") != other.file("declaration")
    with pytest.raises(GateRefused, match="change plan"):
        dossier.file("change plan")
    assert PAIR in dossier.manifest.released
