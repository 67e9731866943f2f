"""Rules by table, the ones that must not match among them. The tagger has no part in this."""

import random
import string

import pytest

from lifechart.data.deidentify.text import rules
from lifechart.data.deidentify.text.rules import load_rules
from lifechart.data.deidentify.text.spans import redacted
from lifechart.data.deidentify.text.words import tokens

FOUND = [
    ("en", "email a.b+c@mail.example.org now", "email", "a.b+c@mail.example.org"),
    ("en", "see https://x.example/a?b=1.", "url", "https://x.example/a?b=1"),
    ("en", "from 10.0.12.255 today", "ip", "10.0.12.255"),
    ("en", "SSN 078-05-1120", "ssn", "078-05-1120"),
    ("en", "card 4111 1111 1111 1111 ok", "account", "4111 1111 1111 1111"),
    ("en", "to GB82 WEST 1234 5698 7654 32.", "account", "GB82 WEST 1234 5698 7654 32"),
    ("en", "car 1HGCM82633A004352 hit", "vehicle", "1HGCM82633A004352"),
    ("en", "call (617) 555-0123 x12", "phone", "(617) 555-0123 x12"),
    ("en", "call +44 20 7946 0958", "phone", "+44 20 7946 0958"),
    ("en", "Fax: 650-123-4567", "fax", "650-123-4567"),
    ("en", "seen on March 3rd, 2021", "date", "March 3rd, 2021"),
    ("en", "on 3 of May '21 then", "date", "3 of May '21"),
    ("en", "since '09 or so", "date", "'09"),
    ("en", "was here last July", "date", "last July"),
    ("en", "dob 12/31/58", "date", "12/31/58"),
    ("en", "at 2021-03-04T10:15:00Z", "date", "2021-03-04T10:15:00Z"),
    ("en", "a 93-year-old man", "old_age", "93"),
    ("en", "MRN #SF-998877.", "mrn", "SF-998877"),
    ("en", "med rec #99887766", "mrn", "99887766"),
    ("en", "insurance policy # is ABC-987654", "plan", "ABC-987654"),
    ("en", "License No: CLN-112233", "license", "CLN-112233"),
    ("en", "pacemaker serial no. X12-99Z", "device", "X12-99Z"),
    ("en", "fingerprint id FP-22871", "biometric", "FP-22871"),
    ("en", "photo IMG_2231.jpg", "photo", "IMG_2231.jpg"),
    ("en", "lives at 22B Elm Street, Apt 4", "street", "22B Elm Street, Apt 4"),
    ("en", "in Portland, OR 97201", "place", "Portland, OR 97201"),
    ("en", "at St. Mary's Hospital", "facility", "St. Mary's Hospital"),
    ("en", "by Dr. A. de la Cruz today", "name", "Dr. A. de la Cruz"),
    ("en", "Jane Roe, M.D.", "name", "Jane Roe"),
    ("es", "el 3 de mayo de 2021", "date", "3 de mayo de 2021"),
    ("es", "NHC: 123456.", "mrn", "123456"),
    ("es", "NºCol: 28 28 12345", "license", "28 28 12345"),
    ("es", "tlf. 912 345 678", "phone", "912 345 678"),
    ("es", "DNI 12345678Z", "ssn", "12345678Z"),
    ("es", "varón de 94 años", "old_age", "94"),
    ("es", "Avda. de los Olmos 3, 2º B", "street", "Avda. de los Olmos 3, 2º B"),
    ("es", "Hospital Universitario La Paz", "facility", "Hospital Universitario La Paz"),
    ("es", "Dra. Ana María Núñez Gil", "name", "Ana María Núñez Gil"),
    ("fr", "écrire à a.b@exemple.fr", "email", "a.b@exemple.fr"),
]


@pytest.mark.parametrize(("language", "text", "type_", "value"), FOUND, ids=[row[1] for row in FOUND])
def test_a_rule_finds(language, text, type_, value):
    found = list(load_rules(language).find(text, tokens(text)))
    assert any(span.type == type_ and value in text[span.start : span.end] for span in found)
    longest = max(len(text[span.start : span.end]) for span in found if span.type == type_)
    assert longest <= len(value) + len("Dr. ")


NOTHING = [
    "BP 128/82, HR 74, INR 2.0-3.0, SpO2 97%, Na 138, K 4.1",
    "metformin 500 mg po bid x 14 days; recheck in 2 weeks",
    "a 67-year-old woman with a Gleason score of 7",
    "diagnosed in 2019; the 2023 guideline says otherwise",
    "positive Chaddock reflex, Murphy's sign, Apgar 9 at 5 min",
    "COVID-19, HbA1c, CD4 350, T2N1M0, L4-L5, 3-0 Vicryl",
    "creatinine 1.2, GFR 45 mL/min/1.73m2, 2/10 pain, grade 3/6",
    "patients may march on; results in may vary",
    "ratio 1:160 at 10:30, 999.999.1.1",
]


@pytest.mark.parametrize("text", NOTHING)
def test_no_rule_finds_anything_in_plain_clinical_words(text):
    hipaa = redacted("hipaa")
    assert [span for span in load_rules("en").find(text, tokens(text)) if span.type in hipaa] == []


@pytest.mark.parametrize("language", rules.languages())
def test_rules_do_not_stall_on_hostile_text(language):
    """Long runs of what patterns begin with: none of them may take more than linear time to give up."""
    chance = random.Random(3)
    noise = "".join(chance.choice(string.printable) for _ in range(20_000))
    for text in ("A " * 20_000, "1 " * 20_000, "1-" * 20_000, "a." * 20_000, "Dr. " * 10_000, "(" * 20_000, noise):
        assert sum(1 for _ in load_rules(language).find(text, tokens(text))) >= 0


def test_check_digits():
    assert rules.luhn("4111 1111 1111 1111")
    assert not rules.luhn("4111 1111 1111 1112")
    assert rules.iban("GB82 WEST 1234 5698 7654 32")
    assert not rules.iban("GB82 WEST 1234 5698 7654 33")
