"""A forecaster that is right by construction, its report, and a patient: small enough to check by hand."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from lifechart.core.capability import Grounds
from lifechart.core.forecast import Alike, Became, Driver, Forecast, Interval, Risk
from lifechart.core.report import Metric, Report
from lifechart.core.timeline import BIRTH, Timeline

HEART_FAILURE, DIABETES, LUNG_CANCER = "SNOMED//84114007", "SNOMED//44054006", "SNOMED//254637007"
OUTCOMES = (HEART_FAILURE, DIABETES, LUNG_CANCER)
NAMES = {
    HEART_FAILURE: "Heart failure",
    DIABETES: "Type 2 diabetes",
    LUNG_CANCER: "Lung cancer",
    "LOINC//2823-3": "Potassium",
    "SNOMED//38341003": "Hypertension",
}
HORIZONS = (30, 90, 365, 1825)
AS_OF = datetime(2026, 1, 10, 12)
DIGEST = "ab" * 32
ALIKE = Alike(
    200, 6400, 1825, (Became(HEART_FAILURE, 180, 45), Became(LUNG_CANCER, 200, None), Became("SNOMED//1", 200, 50)),
    "ef" * 32,
)  # fmt: skip
USUAL = {HEART_FAILURE: 0.05, DIABETES: 0.04, LUNG_CANCER: 0.002}


@dataclass
class ToyForecaster:
    """Forecasts fixed one-year risks, scaled to the horizon; blames the newest event."""

    yearly: dict[str, float] = field(default_factory=lambda: {HEART_FAILURE: 0.2, DIABETES: 0.04, LUNG_CANCER: 0.01})
    novelty: float = 0.4
    name: str = "toy"
    digest: str = DIGEST
    outcomes: tuple[str, ...] = OUTCOMES
    horizons: tuple[int, ...] = HORIZONS
    alike: Alike | None = None

    def risks(self, events: pl.DataFrame, prompts: pl.DataFrame) -> np.ndarray:
        one = [[1 - (1 - self.yearly[code]) ** (days / 365) for days in self.horizons] for code in self.outcomes]
        return np.tile(np.asarray(one, dtype=np.float32), (prompts.height, 1, 1))

    def forecast(self, timeline: Timeline, as_of: datetime) -> Forecast:
        seen = set(timeline.events["code"])
        last = len(timeline) - 1
        drivers = (Driver(last, timeline.events["code"][last], 0.7),)
        values = self.risks(timeline.events, pl.DataFrame({"subject_id": [timeline.subject_id]}))[0]
        risks = tuple(
            Risk(code, days, float(p), Interval(float(p) * 0.7, min(1.0, float(p) * 1.4)), drivers, code in seen)
            for code, row in zip(self.outcomes, values, strict=True)
            for days, p in zip(self.horizons, row, strict=True)
        )
        return Forecast(timeline.subject_id, as_of, risks, self.novelty, self.digest, self.alike)


def report(**changes: object) -> Report:
    """Every outcome at every horizon, for everyone, women, and those aged 65 to 79."""
    rows = []
    for code in OUTCOMES:
        for days in HORIZONS:
            share = 1 - (1 - USUAL[code]) ** (days / 365)
            for subgroup, num in (("all", 4000), ("sex=female", 2000), ("age=65-79", 1000), ("age=18-39", 1500)):
                counts = {"num_prompts": num, "num_events": round(num * share)}
                figures = {"auroc": 0.8, "brier": 0.03, "calibration_slope": 0.97, "observed_expected": 1.04}
                for name, value in figures.items():
                    interval = Interval(value - 0.02, value + 0.02)
                    rows.append(Metric(name, value, interval, "toy", code, days, "new", subgroup, **counts))
    for subgroup in ("all", "age=65-79"):
        held = Interval(0.93, 0.96)
        rows.append(Metric("true_risk_in_interval", 0.948, held, "toy", "*", 365, subgroup=subgroup, num_prompts=4000))
    fields = {
        "model_digest": DIGEST,
        "data_digest": "cd" * 32,
        "protocol_digest": "ef" * 32,
        "created": "2026-01-01T00:00:00Z",
        "metrics": tuple(rows),
        "outcome_names": NAMES,
    }
    return Report(**{**fields, **changes})


def grounds(forecaster: ToyForecaster | None = None, **changes: object) -> Grounds:
    released = frozenset((code, days) for code in OUTCOMES for days in HORIZONS)
    fields = {"forecaster": forecaster or ToyForecaster(), "report": report(), "names": NAMES, "released": released}
    return Grounds(**{**fields, **changes})


def timeline(*extra: dict, sex: str | None = "female", birth: datetime | None = datetime(1956, 5, 1)) -> Timeline:
    """A woman of 69 with hypertension and twelve yearly potassium results, the last ten days old."""
    rows = [potassium(4.2, 24 * (10 + 365 * year), reference=f"Observation/k{year}") for year in range(12)]
    diagnosed = datetime(2015, 3, 2)
    rows.append({"time": diagnosed, "code": "SNOMED//38341003", "kind": "condition", "reference": "Condition/ht"})
    if sex:
        rows.append({"time": None, "code": f"GENDER//{sex}", "kind": "demographic", "reference": "Patient/1"})
    if birth:
        rows.append({"time": birth, "code": BIRTH, "kind": "demographic", "reference": "Patient/1"})
    return Timeline.of(7, [*rows, *extra])


def potassium(value: float, hours_ago: float, unit: str | None = "mmol/L", reference: str = "") -> dict:
    return {
        "time": AS_OF - timedelta(hours=hours_ago),
        "code": "LOINC//2823-3",
        "numeric_value": value,
        "unit": unit,
        "kind": "laboratory",
        "reference": reference or f"Observation/k-{hours_ago}",
    }
