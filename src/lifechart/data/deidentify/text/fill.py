"""Makes identifiers of nobody, to fill templates and to replace those of marked texts with: what the tagger trains on.

Everything is drawn from one seeded generator. Names and towns come from the lists; what a marked text shows of a type
beside them (its own hospitals, say) goes into a pool and is drawn from there too.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from datetime import date, timedelta

from lifechart.data.deidentify.text.words import fold, is_given_name, spellings

_WORD = re.compile(r"[^\W\d_]+")
_ALNUM = re.compile(r"[^\W_]")
_MONTHS = {
    "en": [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ],
    "es": [
        "enero",
        "febrero",
        "marzo",
        "abril",
        "mayo",
        "junio",
        "julio",
        "agosto",
        "septiembre",
        "octubre",
        "noviembre",
        "diciembre",
    ],
}
_DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
_TITLES = ("Dr.", "Dr", "Mr.", "Mrs.", "Ms.", "Mr", "Ms", "Miss", "Prof.", "Nurse", "Doctor", "Dr.")
_PARTICLES = ("de", "van", "von", "del", "al", "bin", "O'", "Mc", "St.", "la")
_STREETS = [
    "Street",
    "St",
    "St.",
    "Avenue",
    "Ave",
    "Road",
    "Rd",
    "Boulevard",
    "Blvd",
    "Drive",
    "Dr",
    "Lane",
    "Ln",
    "Court",
    "Way",
    "Place",
    "Terrace",
    "Circle",
]
_VIAS = (
    "Calle",
    "C/",
    "Avda.",
    "Avenida",
    "Plaza",
    "Paseo",
    "Camino",
    "Carretera",
    "calle",
    "C/ ",
    "Ronda",
    "Travesía",
)
_KINDS = (
    *("General Hospital", "Medical Center", "Hospital", "Clinic", "Regional Medical Center", "Health", "Health System"),
    *("Memorial Hospital", "Community Hospital", "University Hospital", "Cancer Center", "Heart Institute", "Memorial"),
    *(
        "Children's Hospital",
        "Family Practice",
        "Urgent Care",
        "Health Center",
        "Surgical Center",
        "Hosp",
        "VA Hospital",
    ),
    *("Eye Institute", "Oncology Center", "Nursing Home", "Hospice", "Infirmary", "Rehab", "Med Center", "Orthopedics"),
    *("Hospital", "Clinic", "Medical Center", "clinic", "office", "hospital", "practice", "General", "Medical Clinic"),
    *("Wellness Center", "Diagnostic Center", "Women's Center", "Pain Institute", "Family Medicine", "Pediatrics"),
    *("Veterans Affairs Medical Center", "Health Sciences Center", "Specialty Clinic", "Medical Group", "Medical"),
    *("Neurology Clinic", "Cardiology Associates", "Dialysis Center", "Emergency Room", "ER", "Healthcare", "Hosp."),
    *("Medical Plaza", "Trauma Center", "Rehabilitation Hospital", "Imaging", "Outpatient Clinic", "Surgery Center"),
)
_SAINTS = [
    "Mary",
    "Joseph",
    "Luke",
    "John",
    "Francis",
    "Peter",
    "Jude",
    "Vincent",
    "Anthony",
    "Elizabeth",
    "Thomas",
    "Michael",
    "Anne",
    "Catherine",
]
_QUALITIES = [
    "Mercy",
    "Memorial",
    "Good-Samaritan",
    "Providence",
    "Sacred-Heart",
    "Methodist",
    "Baptist",
    "Trinity",
    "Holy-Cross",
    "Lincoln",
]
_QUALITIES += [
    "Riverside",
    "Lakeside",
    "Central",
    "City",
    "County",
    "Downtown",
    "Northside",
    "Westside",
    "Hillcrest",
    "Bayview",
    "Summit",
    "Cedar",
]
_SUFFIXES = ("com", "org", "net", "edu", "co.uk", "health", "es", "example")
_HEADS_ES = ("Hospital", "Hospital Universitario", "Hospital General", "Clínica", "Centro de Salud", "Hospital Clínico")
_RELATIVES = [
    "madre",
    "padre",
    "hermano",
    "hermana",
    "hijo",
    "hija",
    "abuelo",
    "abuela",
    "tío",
    "tía",
    "primo",
    "prima",
    "esposa",
    "marido",
    "sobrino",
    "mujer",
]
_WORKS = "albañil agricultor profesora conductor jubilado camarero enfermera ama de casa|electricista|funcionario"


class Filler:
    """Draws identifiers of every type in one language."""

    def __init__(self, language: str, seed: int, pool: dict[str, list[str]] | None = None) -> None:
        self._random = random.Random(seed)
        self._language = language
        self._pool = pool or {}
        self._given, self._family = (*spellings("female"), *spellings("male")), spellings("family")
        self._places = [place for place in spellings("place") if len(place) > 3]
        self._institutions = spellings("institution")

    def draw(self, type_: str, form: str = "") -> str:
        """Return an identifier of a type, in one of its forms."""
        pooled = self._pool.get(type_)
        if pooled and not form and self._random.random() < 0.3:
            return self._random.choice(pooled)
        made: Callable[[str], str] | None = getattr(self, f"_{type_}", None)
        return self._number(type_) if made is None else made(form)

    def like(self, type_: str, value: str) -> str:
        """Return an identifier of a type that is written as `value` is: word for word, digit for digit."""
        if type_ == "name":
            return _WORD.sub(self._word_like, value)
        if type_ in ("facility", "place", "street", "date", "organisation", "country"):
            return self.draw(type_)
        if type_ in ("age", "sex", "relative", "profession", "other", "year"):
            return self._random.choice(self._pool.get(type_, [value]))
        return _ALNUM.sub(self._sign_like, value)

    def _word_like(self, match: re.Match[str]) -> str:
        word = match[0]
        if len(word) == 1:
            return self._letter() if word.isupper() else word
        folded = fold(word)
        if folded in (
            "dr",
            "dra",
            "mr",
            "mrs",
            "ms",
            "prof",
            "de",
            "la",
            "del",
            "los",
            "van",
            "von",
            "nurse",
            "doctor",
        ):
            return word
        new = self._random.choice(self._given if is_given_name(folded) else self._family)
        return new.upper() if word.isupper() else new if word.islower() else _titled(new)

    def _sign_like(self, match: re.Match[str]) -> str:
        sign = match[0]
        if sign.isdigit():
            return self._digit()
        return sign if self._random.random() < 0.6 else self._letter() if sign.isupper() else self._letter().lower()

    # Names.

    def _name(self, form: str) -> str:
        r = self._random
        given, family = _titled(r.choice(self._given)), _titled(r.choice(self._family))
        if r.random() < 0.05:
            family = f"{r.choice(_PARTICLES)} {family}".replace("' ", "'").replace("Mc ", "Mc")
        if r.random() < 0.03:
            family = f"St. {_titled(r.choice(self._family))}"
        if r.random() < 0.05:
            given = f"{given}{r.choice(' -')}{_titled(r.choice(self._given))}"
        if r.random() < 0.06:
            family = f"{family}-{_titled(r.choice(self._family))}"
        if not form:
            form = r.choice(("plain", "plain", "plain", "given_initial", "title", "middle", "given", "family_family"))
        title = r.choice(_TITLES)
        forms = {
            "plain": f"{given} {family}",
            "given_family": f"{given} {family}",
            "foreign": f"{given} {family}",
            "full": f"{given} {family} {_titled(r.choice(self._family))}",
            "family_family": f"{family} {_titled(r.choice(self._family))}",
            "given": given,
            "family": family,
            "family_upper": family.upper(),
            "given_initial": f"{given} {family[0]}.",
            "last_initial": f"{family}, {given[0]}.",
            "initials": f"{given[0]}{family[0]}",
            "middle": f"{given} {self._letter()}. {family}",
            "title": r.choice(
                (
                    f"{title} {family}",
                    f"{title} {given} {family}",
                    f"{title} {given[0]}. {family}",
                    f"{title} {given} {family[0]}.",
                )
            ),
            "title_lower": f"dr. {family.lower()}",
            "last_first": f"{family}, {given}",
            "last_list": f"{family}",
            "lower": f"{given} {family}".lower(),
            "upper": f"{given} {family}".upper(),
            "credential": r.choice(("MD", "RN", "PhD", "DO", "NP")),
        }
        return forms[form]

    # Places.

    def _place(self, form: str) -> str:
        place = _titled(self._random.choice(self._places))
        if self._language == "en" and self._random.random() < 0.2:
            state = _titled(self._random.choice(spellings("state")))
            place = f"{place}, {self._random.choice((state, state[:2].upper()))}"
        return place.lower() if form == "lower" else place

    def _facility(self, form: str) -> str:
        r = self._random
        if self._language == "es":
            named = r.choice((self._name("full"), self._place(""), f"Virgen de {self._place('')}", self._name("plain")))
            made = f"{r.choice(_HEADS_ES)} {r.choice(('', 'de ', ''))}{named}"
            return made.lower() if form == "lower" else made
        root = r.choice(
            (
                r.choice(self._institutions),
                f"St. {r.choice(_SAINTS)}'s" if r.random() < 0.7 else f"Saint {r.choice(_SAINTS)}",
                self._place("lower").split(",")[0].title(),
                _titled(r.choice(self._family)),
                r.choice(_QUALITIES).replace("-", " "),
                f"{r.choice(_QUALITIES).replace('-', ' ')} {_titled(r.choice(self._family))}",
            )
        )
        kind = r.choice(_KINDS)
        made = root if root in self._institutions and r.random() < 0.6 else f"{root} {kind}"
        if form == "initials":
            return "".join(word[0] for word in made.replace("-", " ").split()).upper()
        if r.random() < 0.12:
            made += r.choice((" in ", ", ", " of ")) + self._place("")
        return made.lower() if form == "lower" else made.upper() if form == "upper" else made

    def _street(self, form: str) -> str:
        r = self._random
        name = r.choice((_titled(r.choice(self._family)), self._place("lower").split(",")[0].title()))
        number = r.randint(1, 9999 if self._language == "en" else 120)
        if self._language == "es":
            floor = r.choice(
                ("", "", f", {r.randint(1, 9)}º {self._letter()}", f", {r.randint(1, 9)}-{self._letter()}", " s/n")
            )
            return (
                f"{r.choice(_VIAS)} {r.choice(('', 'de ', 'del '))}{name}{r.choice((', ', ' ', ' nº '))}{number}{floor}"
            )
        unit = r.choice(
            ("", "", "", f", Apt {r.randint(1, 60)}", f" Suite {r.randint(100, 999)}", f" #{r.randint(1, 40)}")
        )
        return f"{number} {r.choice(('', '', 'N. ', 'West ', 'S '))}{name} {r.choice(_STREETS)}{unit}"

    def _country(self, form: str) -> str:
        return _titled(self._random.choice(spellings("country")))

    def _organisation(self, form: str) -> str:
        return f"{_titled(self._random.choice(self._family))} {self._random.choice(('Inc', 'LLC', 'Ltd', 'Group', 'Industries', '& Sons', 'Foods'))}"

    def _zip(self, form: str) -> str:
        return self._digits(5)

    # Dates.

    def _date(self, form: str) -> str:
        r = self._random
        day = date(2026, 1, 1) - timedelta(days=r.randint(0, 30_000) if r.random() < 0.3 else r.randint(0, 2_500))
        months = _MONTHS[self._language]
        month = months[day.month - 1]
        if self._language == "es":
            forms_es = (
                f"{day.day} de {month} de {day.year}",
                f"{day:%d/%m/%Y}",
                f"{day:%d-%m-%Y}",
                f"{day.day}/{day.month}/{day:%y}",
                f"{month} de {day.year}",
                f"{day.day} de {month}",
                f"{day.year}",
                f"{month} {day.year}",
            )
            return forms_es[4] if form == "month_year" else r.choice(forms_es)
        short = month[:3]
        suffix = {1: "st", 2: "nd", 3: "rd"}.get(day.day % 10 if day.day not in (11, 12, 13) else 0, "th")
        two = f"'{day:%y}"
        forms: dict[str, Sequence[str]] = {
            "words": (f"{month} {day.day}, {day.year}", f"{month} {day.day}{suffix}, {day.year}", f"{short} {day.day} {day.year}",
                      f"{day.day} {month} {day.year}", f"{day.day}{suffix} of {month} {day.year}", f"{short}. {day.day}{suffix}, {day.year}",
                      f"{month} {day.day}", f"{short} {day.day}{suffix}"),
            "numeric": (f"{day:%m/%d/%Y}", f"{day.month}/{day.day}/{day:%y}", f"{day:%Y-%m-%d}", f"{day:%m-%d-%Y}", f"{day:%d.%m.%Y}"),
            "short": (f"{day.month}/{day.day}", f"{day.month}/{day.day}/{day:%y}", f"{short} {day.day}", f"{short} {day.day} {day.year}", f"{day:%m-%d-%y}"),
            "apostrophe": (f"{short} {day.day} {two}", f"{month} {two}", f"{short} {day.day}{suffix} {two}"),
            "relative": (f"last {r.choice(_DAYS)}", "last week", "last month", "last year", f"last {month}", "yesterday", f"next {r.choice(_DAYS)}", f"this past {month}"),
            "weekday": (r.choice(_DAYS), f"{r.choice(_DAYS)} morning"),
            "month_year": (f"{month} {day.year}", f"{short} {day.year}", f"{month} of {day.year}", f"{day.month}/{day.year}"),
            "month_alone": (month,),
            "season": (f"{r.choice(('spring', 'summer', 'fall', 'winter'))} {day.year}", f"last {r.choice(('spring', 'summer', 'fall', 'winter'))}"),
            "holiday": (r.choice(("Christmas", "Thanksgiving", "New Year's Eve", "Labor Day", "Easter Sunday")),),
            "year_only": (f"{month} {day.year}",),
        }  # fmt: skip
        return r.choice(
            forms[form or r.choice(("words", "words", "words", "numeric", "numeric", "apostrophe", "month_year"))]
        )

    # What has digits.

    def _phone(self, form: str) -> str:
        r = self._random
        d = self._digits
        if self._language == "es":
            return r.choice(
                (
                    f"{r.choice('6789')}{d(8)}",
                    f"9{d(1)} {d(3)} {d(2)} {d(2)}",
                    f"9{d(2)} {d(3)} {d(3)}",
                    f"+34 6{d(2)} {d(3)} {d(3)}",
                )
            )
        return r.choice(
            (f"{d(3)}-{d(3)}-{d(4)}", f"({d(3)}) {d(3)}-{d(4)}", f"{d(3)}.{d(3)}.{d(4)}", f"{d(3)}-{d(4)}", f"+1 {d(3)} {d(3)} {d(4)}",
             f"+44 20 {d(4)} {d(4)}", f"0{d(2)} {d(4)} {d(4)}", f"+49 {d(3)} {d(7)}", f"{d(10)}", f"{d(3)}-{d(3)}-{d(4)} x{d(3)}", f"+91 {d(5)} {d(5)}")
        )  # fmt: skip

    _fax = _phone

    def _email(self, form: str) -> str:
        given, family = fold(self._name("given")), fold(self._name("family")).replace(" ", "")
        local = self._random.choice(
            (f"{given}.{family}", f"{given[0]}{family}", f"{given}{self._digits(2)}", f"{family}_{given}")
        )
        return f"{local}@{self._host()}"

    def _host(self) -> str:
        return f"{fold(self._name('family')).replace(' ', '')}.{self._random.choice(_SUFFIXES)}"

    def _url(self, form: str) -> str:
        return self._random.choice(
            (f"https://{self._host()}/{self._digits(4)}", f"www.{self._host()}", f"http://{self._host()}")
        )

    def _ip(self, form: str) -> str:
        return ".".join(str(self._random.randint(1, 254)) for _ in range(4))

    def _ssn(self, form: str) -> str:
        if self._language == "es":
            return f"{self._digits(8)}{self._letter()}"
        return f"{self._digits(3)}-{self._digits(2)}-{self._digits(4)}"

    def _age(self, form: str) -> str:
        r = self._random
        return f"{r.randint(1, 99)} años" if r.random() < 0.9 else f"{r.randint(1, 23)} meses"

    _old_age = _age

    def _sex(self, form: str) -> str:
        return (
            self._random.choice("HMVF")
            if form == "letter"
            else self._random.choice(("varón", "mujer", "hombre", "niña", "niño"))
        )

    def _relative(self, form: str) -> str:
        return self._random.choice(_RELATIVES)

    def _profession(self, form: str) -> str:
        return self._random.choice(_WORKS.replace("|", " ").split()[:7])

    def _number(self, type_: str) -> str:
        r = self._random
        letters = "".join(self._letter() for _ in range(r.randint(1, 4)))
        d = self._digits(r.randint(5, 10))
        forms = [f"{letters}-{d}", f"{letters}{d}", d, d, f"#{d}", f"{d[:3]}-{d[3:]}", f"#{letters}-{d}", f"{d}-{letters}", f"{letters}-{d[:4]}-{d[4:]}",
                 f"{d[:2]} {d[2:]}", f"{d[:3]}-{d[3:5]}-{d[5:]}9", f"{letters.lower()}{d}"]  # fmt: skip
        return r.choice(forms)

    def _letter(self) -> str:
        return self._random.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ")

    def _digit(self) -> str:
        return self._random.choice("0123456789")

    def _digits(self, number: int) -> str:
        return "".join(self._digit() for _ in range(number))


def _titled(name: str) -> str:
    return re.sub(r"[^\W\d_]+('[st]\b)?", lambda word: word[0][0].upper() + word[0][1:], name)
