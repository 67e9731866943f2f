"""The conversions between all units that stand in the tables, worked out beforehand: factors.csv.

A worker of ingestion then needs no parser of units unless a laboratory writes one that no table holds; loading it would
cost each process half a second. A test works every row out again. Renew: python -m lifechart.data.units.factors
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from lifechart.data.units import conversion, spellings

_FILE = Path(__file__).with_suffix(".csv")


def rows() -> Iterator[tuple[str, str, str, str, float, float]]:
    """Yield (from, to, analyte, per, factor, offset) of every pair that converts, sorted."""
    units = sorted(spellings.known())
    for unit, analyte, per in sorted(conversion.targets()):
        for written in units:
            found = conversion.worked_out(written, unit, analyte, per)
            if found is not None and written != unit:
                yield written, unit, analyte, per, found.factor, found.offset


def main() -> None:
    """Write factors.csv anew."""
    with open(_FILE, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("from", "to", "analyte", "per", "factor", "offset"))
        writer.writerows(rows())


if __name__ == "__main__":
    main()
