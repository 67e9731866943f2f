"""One unit a code: UCUM units as written become canonical ones, values with them, and what cannot be is flagged.

Read `canonical` first, which training data go through; `canonical_one` is the same of one event, for a live chart.
`spellings` says which UCUM unit a laboratory meant, `conversion` by which factor and offset it becomes another, for an
analyte whose molar mass, charge or equation may be needed, `marks` what may stand beside a number. The tables beside
them are data with sources: `canonical_units.csv` (unit and plausible limits of a LOINC code), `analytes.csv`,
`equations.csv`, `spellings.csv`.
"""

from lifechart.data.units.canonical import (
    CHANGED,
    CONVERSIONS,
    Converted,
    canonical,
    canonical_one,
    in_units,
    single,
    usual_units,
)

__all__ = [
    "CHANGED",
    "CONVERSIONS",
    "Converted",
    "canonical",
    "canonical_one",
    "in_units",
    "single",
    "usual_units",
]
