"""Makes identifiers of nobody, to fill templates and to replace those of marked texts with: what the tagger trains on.

Everything is drawn from one seeded generator. Names and towns come from the lists, forms from `training/fillers.toml`;
what marked texts show of a type beside them (their own hospitals, say) goes into a pool and is drawn from there too.
"""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Callable
from datetime import date, timedelta
from functools import cache
from importlib.resources import files
from typing import Any

from lifechart.data.deidentify.text.surrogates import month_names
from lifechart.data.deidentify.text.words import fold, is_given_name, spellings

_WORD = re.compile(r"[^\W\d_]+")
_ALNUM = re.compile(r"[^\W_]")
_SLOT = re.compile(r"\{(\w+)\}")
_SIGN = re.compile(r"9|\bA\b|(?<=\d)A|A(?=\d)")
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_UNCHANGED = frozenset(
    ["dr", "dra", "mr", "mrs", "ms", "prof", "de", "la", "del", "los", "las", "van", "von", "nurse", "doctor"]
)
_DRAWN_ANEW = frozenset(["facility", "place", "street", "date", "organisation", "country"])
_FROM_POOL = frozenset(["age", "sex", "relative", "profession", "other", "year"])
_SUFFIXES = ("com", "org", "net", "edu", "co.uk", "health", "es", "example")
_POOLED = 0.3
"""How often what marked texts show is drawn, where they show any."""


class Filler:
    """Draws identifiers of every type in one language."""

    def __init__(self, language: str, seed: int, pool: dict[str, list[str]] | None = None) -> None:
        self._random = random.Random(seed)
        self._months = month_names(language)
        self._table = _table(language)
        self._pool = pool or {}
        self._given, self._family = (*spellings("female"), *spellings("male")), spellings("family")
        self._places = [place for place in spellings("place") if len(place) > 3]
        self._makers: dict[str, Callable[[str], str]] = {
            "name": self._name,
            "place": self._place,
            "facility": self._facility,
            "date": self._date,
            "email": self._email,
            "url": self._url,
            "ip": lambda _: ".".join(str(self._random.randint(1, 254)) for _ in range(4)),
            "zip": lambda _: self._signs("99999"),
            "country": lambda _: titled(self._random.choice(spellings("country"))),
            "sex": lambda form: self._one("sex_letters" if form == "letter" else "sexes"),
            "street": lambda _: self._signs(self._put(self._one("streets"))),
            "organisation": lambda _: self._put(self._one("organisations")),
            "phone": lambda _: self._signs(self._one("phones")),
            "fax": lambda _: self._signs(self._one("phones")),
            "ssn": lambda _: self._signs(self._one("ssns")),
            "age": lambda _: self._signs(self._one("ages")),
            "relative": lambda _: self._one("relatives"),
            "profession": lambda _: self._one("professions"),
        }

    def draw(self, type_: str, form: str = "") -> str:
        """Return an identifier of a type, in one of its forms."""
        pooled = self._pool.get(type_)
        if pooled and not form and self._random.random() < _POOLED:
            return self._random.choice(pooled)
        return self._makers[type_](form) if type_ in self._makers else self._number()

    def like(self, type_: str, value: str) -> str:
        """Return an identifier of a type that is written as `value` is: word for word, digit for digit."""
        if type_ == "name":
            return _WORD.sub(lambda match: self._word_like(match[0]), value)
        if type_ in _DRAWN_ANEW:
            return self.draw(type_)
        if type_ in _FROM_POOL:
            return self._random.choice(self._pool.get(type_, [value]))
        return _ALNUM.sub(lambda match: self._sign_like(match[0]), value)

    def _word_like(self, word: str) -> str:
        folded = fold(word)
        if len(word) == 1:
            return self._letter() if word.isupper() else word
        if folded in _UNCHANGED:
            return word
        new = self._random.choice(self._given if is_given_name(folded) else self._family)
        return new.upper() if word.isupper() else new if word.islower() else titled(new)

    def _sign_like(self, sign: str) -> str:
        if sign.isdigit():
            return self._signs("9")
        keep = self._random.random() < 0.6
        return sign if keep else self._letter() if sign.isupper() else self._letter().lower()

    def _name(self, form: str) -> str:
        r = self._random
        given, family = titled(r.choice(self._given)), titled(r.choice(self._family))
        another = titled(r.choice(self._family))
        if r.random() < 0.05:
            given = f"{given}{r.choice(' -')}{titled(r.choice(self._given))}"
        unusual = r.random()
        if unusual < 0.16:
            particle = r.choice(("St.", "O'", "Mc", self._one("particles"), self._one("particles")))
            family = f"{particle} {family}".replace("' ", "'").replace("Mc ", "Mc")
        if unusual < 0.05:
            family = f"{another}-{titled(r.choice(self._family))}"
        title = self._one("titles")
        titles = (f"{title} {family}", f"{title} {given} {family}", f"{title} {given[0]}. {family}")
        forms: dict[str, str] = {
            "given_family": f"{given} {family}",
            "given_initial": f"{given} {family[0]}.",
            "title": r.choice((*titles, f"{title} {given} {family[0]}.")),
            "middle": f"{given} {self._letter()}. {family}",
            "given": given,
            "family": family,
            "last_list": family,
            "foreign": f"{given} {family}",
            "full": f"{given} {family} {another}",
            "family_family": f"{family} {another}",
            "family_upper": family.upper(),
            "last_first": f"{family}, {given}",
            "last_initial": f"{family}, {given[0]}.",
            "initials": f"{given[0]}{family[0]}",
            "lower": f"{given} {family}".lower(),
            "upper": f"{given} {family}".upper(),
            "title_lower": f"dr. {family.lower()}",
            "credential": r.choice(("MD", "RN", "PhD", "DO", "NP")),
        }
        usual = ("given_family", "given_family", "given_family", "given_initial", "title", "middle", "given")
        return forms[form or r.choice((*usual, "family_family"))]

    def _place(self, form: str) -> str:
        place = titled(self._random.choice(self._places))
        if self._table["states"] and self._random.random() < 0.2:
            state = titled(self._random.choice(spellings("state")))
            place = f"{place}, {self._random.choice((state, state[:2].upper()))}"
        return place.lower() if form == "lower" else place

    def _facility(self, form: str) -> str:
        r = self._random
        made = self._put(self._one("facility_roots"))
        # A root that is an institution's own name can stand alone.
        if r.random() < 0.85 or made.split(" ")[0] in self._table["qualities"]:
            made = f"{made} {self._put(self._one('facility_kinds'))}"
        if form == "initials":
            return "".join(word[0] for word in re.split(r"[\s-]+", made)).upper()
        if r.random() < 0.12:
            made += self._put(self._one("facility_tails"))
        return made.lower() if form == "lower" else made.upper() if form == "upper" else made

    def _date(self, form: str) -> str:
        r = self._random
        forms = self._table["dates"]
        day = date(2026, 1, 1) - timedelta(days=r.randint(0, 30_000) if r.random() < 0.3 else r.randint(0, 2_500))
        month = self._months[day.month - 1]
        suffix = "th" if day.day in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(day.day % 10, "th")
        fields = {
            **{"month": month, "mon": month[:3], "m": str(day.month), "mm": f"{day.month:02d}", "d": str(day.day)},
            **{"dd": f"{day.day:02d}", "th": suffix, "y": str(day.year), "yy": f"{day:%y}"},
            **{"weekday": r.choice(_WEEKDAYS), "season": r.choice(self._table.get("seasons", [""]))},
        }
        written: str = r.choice(forms[form if form in forms else r.choice(forms["usual"])])
        return _SLOT.sub(lambda slot: fields[slot[1]], written)

    def _email(self, form: str) -> str:
        given, family = fold(self._name("given")).replace(" ", ""), fold(self._name("family")).replace(" ", "")
        forms = (f"{given}.{family}", f"{given[0]}{family}", f"{given}{self._signs('99')}", f"{family}_{given}")
        return f"{self._random.choice((*forms, f'{given}.{family[0]}'))}@{self._host()}"

    def _url(self, form: str) -> str:
        host = self._host()
        return self._random.choice((f"https://{host}/{self._signs('9999')}", f"www.{host}", f"http://{host}"))

    def _host(self) -> str:
        return f"{fold(self._random.choice(self._family)).replace(' ', '')}.{self._random.choice(_SUFFIXES)}"

    def _number(self) -> str:
        r = self._random
        letters = "".join(self._letter() for _ in range(r.randint(1, 4)))
        d = self._signs("9" * r.randint(5, 10))
        plain = (d, d, f"#{d}", f"{d[:3]}-{d[3:]}", f"{d[:2]} {d[2:]}", f"{d[:3]}-{d[3:5]}-{d[5:]}9")
        mixed = (f"{letters}-{d}", f"{letters}{d}", f"#{letters}-{d}", f"{d}-{letters}", f"{letters}-{d[:4]}-{d[4:]}")
        return r.choice((*plain, *mixed, f"{letters.lower()}{d}"))

    def _put(self, form: str) -> str:
        lists = {"given": self._given, "family": self._family, "place": self._places}

        def drawn(slot: re.Match[str]) -> str:
            name = slot[1]
            if name == "institution":
                return self._random.choice(spellings("institution"))
            own = {"saint": "saints", "quality": "qualities"}.get(name)
            return self._one(own) if own else titled(self._random.choice(lists[name]))

        return _SLOT.sub(drawn, form)

    def _one(self, name: str) -> str:
        chosen: str = self._random.choice(self._table[name])
        return chosen

    def _signs(self, form: str) -> str:
        return _SIGN.sub(lambda sign: self._random.choice("0123456789") if sign[0] == "9" else self._letter(), form)

    def _letter(self) -> str:
        return self._random.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ")


def titled(name: str) -> str:
    """Return a list's entry as a name is written."""
    return re.sub(r"[^\W\d_]+('[st]\b)?", lambda word: word[0][0].upper() + word[0][1:], name)


@cache
def _table(language: str) -> dict[str, Any]:
    table = tomllib.loads((files(__package__) / "training" / "fillers.toml").read_text(encoding="utf-8"))
    found: dict[str, Any] = table[language]
    return found
