"""The truth's events as FHIR R4 resources: one function a resource type, each a frame of (life, time, line)."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from lifechart.simulate import fragments as fr
from lifechart.simulate.fragments import Scope, clock, encounter, lines, of_table, subject, text


def encounters(events: pl.DataFrame, scope: Scope) -> pl.DataFrame:
    """Return an Encounter for each visit; one that is still going on at the export's date has no end."""
    found = _with_reasons(of_table(events, "encounter", fr.classes()))
    over = pl.col("end") <= scope.now
    inpatient = pl.col("key") == "inpatient"
    died = pl.col("death").is_not_null() & (pl.col("death") <= pl.col("end"))
    leaving = (
        pl.when(died).then(pl.lit(fr.disposition("exp", "Expired"))).otherwise(pl.lit(fr.disposition("home", "Home")))
    )
    closed = pl.concat_str([pl.lit(","), text("end", clock("end", scope.offset), comma="")])
    return lines(
        "Encounter",
        found,
        pl.when(over).then(pl.lit('"status":"finished",')).otherwise(pl.lit('"status":"in-progress",')),
        pl.col("constant"),
        subject(),
        pl.concat_str([pl.lit('"participant":[{"individual":{"reference":"Practitioner/'), pl.col("doctor")]),
        '"}}],"period":{',
        text("start", clock("time", scope.offset), comma=""),
        pl.when(over).then(closed).otherwise(pl.lit("")),
        "},",
        pl.col("reason"),
        pl.when(over & inpatient).then(leaving).otherwise(pl.lit("")),
        pl.concat_str([pl.lit('"location":[{"location":{"reference":"Location/'), pl.col("place")]),
        '"}}],"serviceProvider":{"reference":"Organization/',
        pl.concat_str([pl.col("organization"), pl.lit('"}')]),
    )


def conditions(events: pl.DataFrame, scope: Scope) -> pl.DataFrame:
    """Return a Condition for each diagnosis and each symptom that was written down."""
    diagnoses = of_table(events, "condition", fr.constants("conditions", fr.diagnosis))
    symptoms = of_table(events, "symptom", fr.constants("symptoms", fr.symptom))
    found = pl.concat([diagnoses, symptoms])
    when = clock("time", scope.offset)
    return lines(
        "Condition",
        found,
        pl.col("constant"),
        subject(),
        encounter(),
        text("onsetDateTime", when),
        text("recordedDate", when, comma=""),
    )


def observations(events: pl.DataFrame, scope: Scope) -> pl.DataFrame:
    """Return an Observation for each measurement; systolic and diastolic pressure of one moment share one."""
    measured = of_table(events, "observation", fr.measurements())
    pressure = measured.get_column("loinc").is_in([fr.SYSTOLIC, fr.DIASTOLIC])
    alone, cuff = measured.filter(~pressure), measured.filter(pressure)
    single = lines(
        "Observation",
        alone,
        pl.col("constant"),
        subject(),
        encounter(),
        text("effectiveDateTime", clock("time", scope.offset)),
        fr.quantity(),
    )
    return pl.concat([single, _pressures(cuff, scope)])


def _pressures(cuff: pl.DataFrame, scope: Scope) -> pl.DataFrame:
    part = pl.concat_str([pl.lit("{"), pl.col("code"), fr.quantity(), pl.lit("}")])
    moment = ["life", "encounter", "time"]
    both = cuff.sort(*moment, "loinc", descending=[False, False, False, True], maintain_order=True)
    grouped = both.group_by(moment, maintain_order=True).agg(
        pl.col("id", "patient", "visit").first(), parts=part.str.join(",")
    )
    return lines(
        "Observation",
        grouped,
        fr.blood_pressure(),
        subject(),
        encounter(),
        text("effectiveDateTime", clock("time", scope.offset)),
        pl.concat_str([pl.lit('"component":['), pl.col("parts"), pl.lit("]")]),
    )


def reports(events: pl.DataFrame, scope: Scope) -> pl.DataFrame:
    """Return a DiagnosticReport for each laboratory panel of which two or more results came at one moment."""
    results = of_table(events, "observation", fr.measurements()).filter(pl.col("category") == "laboratory")
    one = pl.concat_str([pl.lit('{"reference":"Observation/'), pl.col("id"), pl.lit('"}')])
    grouped = results.group_by("life", "encounter", "time", "panel", maintain_order=True).agg(
        pl.col("number", "patient", "visit").first(), many=pl.len(), parts=one.str.join(",")
    )
    panels = fr.constants("report_panels", fr.panel)
    found = grouped.filter(pl.col("many") > 1).join(panels, left_on="panel", right_on="key", maintain_order="left")
    found = found.with_columns(fr.event_ids(scope.seed, found, "report"))
    when = clock("time", scope.offset)
    return lines(
        "DiagnosticReport",
        found,
        pl.col("constant"),
        subject(),
        encounter(),
        text("effectiveDateTime", when),
        text("issued", when),
        pl.concat_str([pl.lit('"result":['), pl.col("parts"), pl.lit("]")]),
    )


def medications(events: pl.DataFrame, scope: Scope) -> pl.DataFrame:
    """Return a MedicationRequest for each drug that was started, with the day it was stopped if it was."""
    drugs = _with_reasons(of_table(with_stops(events), "medication", fr.drugs()))
    ended = pl.col("stop").is_not_null()
    bounds = [
        pl.lit('"dosageInstruction":[{"timing":{"repeat":{"boundsPeriod":{'),
        text("start", clock("time", scope.offset), comma=""),
        pl.when(ended)
        .then(pl.concat_str([pl.lit(","), text("end", clock("stop", scope.offset), comma="")]))
        .otherwise(pl.lit("")),
        pl.lit("}}}}]"),
    ]
    return lines(
        "MedicationRequest",
        drugs,
        pl.when(ended).then(pl.lit('"status":"stopped",')).otherwise(pl.col("status")),
        pl.col("constant"),
        subject(),
        encounter(),
        text("authoredOn", clock("time", scope.offset)),
        fr.requester(),
        pl.col("reason"),
        pl.concat_str(bounds),
    )


def _with_reasons(events: pl.DataFrame) -> pl.DataFrame:
    """Return the events with a column `reason`: the diagnosis, symptom or procedure that `detail` names, if any."""
    found = events.join(fr.reasons(), left_on="detail", right_on="key", how="left", maintain_order="left")
    return found.with_columns(pl.col("reason").fill_null(""))


def with_stops(events: pl.DataFrame) -> pl.DataFrame:
    """Return the events with a column `stop`: when a drug that was started was next stopped, if it was."""
    drugs = events.filter(pl.col("kind").is_in(["medication", "medication_stop"]))
    next_is_stop = pl.col("kind").shift(-1).over("life", "key") == "medication_stop"
    stops = drugs.select(
        "life", "number", stop=pl.when(next_is_stop).then(pl.col("time").shift(-1).over("life", "key"))
    )
    return events.join(stops, on=["life", "number"], how="left", maintain_order="left")


def procedures(events: pl.DataFrame, scope: Scope) -> pl.DataFrame:
    """Return a Procedure for each one that was done."""
    return lines(
        "Procedure",
        _with_reasons(of_table(events, "procedure", fr.constants("procedures", fr.procedure))),
        pl.col("constant"),
        subject(),
        encounter(),
        pl.col("reason"),
        text("performedDateTime", clock("time", scope.offset), comma=""),
    )


def immunizations(events: pl.DataFrame, scope: Scope) -> pl.DataFrame:
    """Return an Immunization for each vaccine that was given."""
    return lines(
        "Immunization",
        of_table(events, "immunization", fr.constants("immunizations", fr.vaccine)),
        pl.col("constant"),
        subject("patient"),
        encounter(),
        text("occurrenceDateTime", clock("time", scope.offset)),
        '"primarySource":true',
    )


def allergies(events: pl.DataFrame, scope: Scope) -> pl.DataFrame:
    """Return an AllergyIntolerance for each allergy that was noticed."""
    return lines(
        "AllergyIntolerance",
        of_table(events, "allergy", fr.constants("allergies", fr.allergy)),
        pl.col("constant"),
        subject("patient"),
        encounter(),
        text("recordedDate", clock("time", scope.offset), comma=""),
    )


BUILDERS: dict[str, Callable[[pl.DataFrame, Scope], pl.DataFrame]] = {
    "Encounter": encounters,
    "Condition": conditions,
    "Observation": observations,
    "DiagnosticReport": reports,
    "MedicationRequest": medications,
    "Procedure": procedures,
    "Immunization": immunizations,
    "AllergyIntolerance": allergies,
}
"""Resource type to the function that makes its lines from a chunk's events."""
