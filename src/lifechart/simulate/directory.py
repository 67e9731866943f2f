"""Patients, clinicians and places as FHIR resources, and who looks after whom."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import orjson
import polars as pl

from lifechart.simulate.fragments import Scope, category
from lifechart.simulate.identities import Clinician, clinicians, hex_ids, scramble, table
from lifechart.simulate.tables import rows

_US_CORE = "http://hl7.org/fhir/us/core/StructureDefinition"
_OMB = "urn:oid:2.16.840.1.113883.6.238"
_IDENTIFIER_TYPES = "http://terminology.hl7.org/CodeSystem/v2-0203"
_RACE_AND_ETHNICITY = {
    "1002-5": "American Indian or Alaska Native",
    "2028-9": "Asian",
    "2054-5": "Black or African American",
    "2076-8": "Native Hawaiian or Other Pacific Islander",
    "2106-3": "White",
    "2131-1": "Other Race",
    "2135-2": "Hispanic or Latino",
    "2186-5": "Not Hispanic or Latino",
}
"""CDC race and ethnicity codes and what they are called."""
_MADE_UP = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ActReason",
    "code": "HTEST",
    "display": "test health data",
}
"""The security label that tells a made-up record from a real one."""
_ADMINISTRATIVE = {"female": ("female", "F"), "male": ("male", "M")}


def resources(scope: Scope) -> dict[str, pl.Series]:
    """Return Organization, Location and Practitioner lines: the hospital, its clinics, and who works there."""
    sites = places()
    organizations = [_organization(scope.seed, number, site) for number, site in enumerate(sites)]
    locations = [_location(scope.seed, number, site) for number, site in enumerate(sites)]
    staff = [_practitioner(scope.seed, clinician) for clinician in clinicians(scope.seed)]
    listed = {"Organization": organizations, "Location": locations, "Practitioner": staff}
    return {name: pl.Series([orjson.dumps(row).decode() + "\n" for row in made]) for name, made in listed.items()}


def places() -> list[dict[str, str]]:
    """Return the hospital and then its clinics."""
    found = table("identity_places")
    return [found["hospital"], *found["clinics"]]


def assign(seed: int, people: pl.DataFrame, who: list[dict[str, Any]]) -> pl.DataFrame:
    """Return life, gp (number of a clinician), clinic (number of a place) for each person."""
    generalists = [clinician.number for clinician in clinicians(seed) if clinician.specialty == "general practice"]
    return pl.DataFrame(
        {
            "life": people.get_column("life"),
            "gp": [generalists[int(one["gp"] * len(generalists))] for one in who],
            "clinic": [1 + int(one["clinic"] * (len(places()) - 1)) for one in who],
        }
    )


def staffed(events: pl.DataFrame, staff: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Return the events with who saw the patient and where: doctor_number, place_number, doctor, place, organization.

    Their own practitioner sees people in the clinic; the hospital has whoever is on duty. Null outside an encounter.
    """
    team = clinicians(seed)
    visits = events.filter(pl.col("kind") == "encounter").join(staff, on="life", how="left", maintain_order="left")
    numbers = visits.get_column("life").to_numpy().astype(np.int64) << 24
    draw = scramble(seed, numbers + visits.get_column("encounter").to_numpy(), "duty")
    doctor, place = pl.col("gp"), pl.col("clinic")
    for setting, specialty in (("emergency", "emergency medicine"), ("inpatient", "hospital medicine")):
        duty = np.array([clinician.number for clinician in team if clinician.specialty == specialty])
        on_duty = pl.Series(duty[(draw % np.uint64(len(duty))).astype(np.int64)])
        doctor = pl.when(pl.col("key") == setting).then(on_duty).otherwise(doctor)
        place = pl.when(pl.col("key") == setting).then(0).otherwise(place)
    visits = visits.select("life", "encounter", doctor_number=doctor, place_number=place)
    by_place, by_doctor = visits.get_column("place_number"), visits.get_column("doctor_number")
    visits = visits.with_columns(
        doctor=pl.Series(_ids(seed, len(team), "Practitioner")).gather(by_doctor),
        place=pl.Series(_ids(seed, len(places()), "Location")).gather(by_place),
        organization=pl.Series(_ids(seed, len(places()), "Organization")).gather(by_place),
    )
    return events.join(visits, on=["life", "encounter"], how="left", maintain_order="left")


def patients(people: pl.DataFrame, who: list[dict[str, Any]], scope: Scope) -> list[bytes]:
    """Return a Patient line for each person."""
    staff = assign(scope.seed, people, who)
    doctors = _ids(scope.seed, len(clinicians(scope.seed)), "Practitioner")
    organization = _ids(scope.seed, 1, "Organization")[0]
    columns = people.select("patient_id", "sex", "ancestry", "birth", "death", "language").iter_rows(named=True)
    return [
        orjson.dumps(_patient(row, one, doctors[gp], organization, scope)) + b"\n"
        for row, one, gp in zip(columns, who, staff.get_column("gp"), strict=True)
    ]


def _patient(row: dict[str, Any], one: dict[str, Any], doctor: str, organization: str, scope: Scope) -> dict[str, Any]:
    gender, birth_sex = _ADMINISTRATIVE[row["sex"]]
    race, ethnicity = _groups()[row["ancestry"]]
    name = {"use": "official", "family": one["family"], "given": one["given"]}
    names = [name | ({"suffix": [one["suffix"]]} if one["suffix"] else {})]
    if one["maiden"]:
        names.append({"use": "maiden", "family": one["maiden"], "given": one["given"]})
    died = {"deceasedDateTime": f"{row['death']:%Y-%m-%dT%H:%M:%S}{scope.offset}"} if row["death"] else {}
    return {
        "resourceType": "Patient",
        "id": row["patient_id"],
        "meta": {"security": [_MADE_UP]},
        "extension": [
            _omb("race", race),
            _omb("ethnicity", ethnicity),
            {"url": f"{_US_CORE}/us-core-birthsex", "valueCode": birth_sex},
        ],
        "identifier": _identifiers(one),
        "active": True,
        "name": names,
        "telecom": [
            {"system": "phone", "value": one["phone"], "use": "home"},
            {"system": "phone", "value": one["mobile"], "use": "mobile"},
            {"system": "email", "value": one["email"]},
            {"system": "url", "value": one["url"]},
        ],
        "gender": gender,
        "birthDate": f"{row['birth']:%Y-%m-%d}",
        **died,
        "address": [_address(one)],
        "contact": [
            {
                "relationship": [{"text": one["relation_word"]}],
                "name": {"text": one["contact"]},
                "telecom": [{"system": "phone", "value": one["contact_phone"]}],
            }
        ],
        "communication": [{"language": _language(row["language"]), "preferred": True}],
        "generalPractitioner": [{"reference": f"Practitioner/{doctor}"}],
        "managingOrganization": {"reference": f"Organization/{organization}"},
    }


def _identifiers(one: dict[str, Any]) -> list[dict[str, Any]]:
    domain = table("identity_places")["domain"]
    numbers = [
        ("MR", "Medical record number", f"https://{domain}/mrn", one["mrn"]),
        ("SS", "Social Security number", "http://hl7.org/fhir/sid/us-ssn", one["ssn"]),
        ("DL", "Driver's license number", "urn:oid:2.16.840.1.113883.4.3.4", one["licence"]),
    ]
    return [
        {
            "type": {"coding": [{"system": _IDENTIFIER_TYPES, "code": code}], "text": text},
            "system": system,
            "value": value,
        }
        for code, text, system, value in numbers
    ]


def _address(one: dict[str, Any]) -> dict[str, Any]:
    lines = [one["line"], one["unit"]] if one["unit"] else [one["line"]]
    return {
        "use": "home",
        "line": lines,
        "city": one["city"],
        "state": one["state"],
        "postalCode": one["zip"],
        "country": "US",
    }


@cache
def _groups() -> dict[str, tuple[str, str]]:
    return {row["key"]: (row["race"], row["ethnicity"]) for row in rows("ancestries")}


def _omb(name: str, code: str) -> dict[str, Any]:
    display = _RACE_AND_ETHNICITY[code]
    coded = {"url": "ombCategory", "valueCoding": {"system": _OMB, "code": code, "display": display}}
    return {"url": f"{_US_CORE}/us-core-{name}", "extension": [coded, {"url": "text", "valueString": display}]}


def _language(code: str) -> dict[str, Any]:
    return {"coding": [{"system": "urn:ietf:bcp:47", "code": code}]}


def _organization(seed: int, number: int, site: dict[str, str]) -> dict[str, Any]:
    return {
        "resourceType": "Organization",
        "id": _ids(seed, number + 1, "Organization")[number],
        "active": True,
        "type": [category("organization-type", "prov")],
        "name": site["name"],
        "telecom": [{"system": "phone", "value": site["phone"]}],
        "address": [{"line": [site["line"]], "city": site["city"], "state": site["state"], "postalCode": site["zip"]}],
    }


def _location(seed: int, number: int, site: dict[str, str]) -> dict[str, Any]:
    return {
        "resourceType": "Location",
        "id": _ids(seed, number + 1, "Location")[number],
        "status": "active",
        "name": site["name"],
        "address": {"line": [site["line"]], "city": site["city"], "state": site["state"], "postalCode": site["zip"]},
        "managingOrganization": {"reference": f"Organization/{_ids(seed, number + 1, 'Organization')[number]}"},
    }


def _practitioner(seed: int, clinician: Clinician) -> dict[str, Any]:
    code = {"system": "http://nucc.org/provider-taxonomy", "code": clinician.taxonomy, "display": clinician.title}
    return {
        "resourceType": "Practitioner",
        "id": _ids(seed, clinician.number + 1, "Practitioner")[clinician.number],
        "identifier": [{"system": "http://hl7.org/fhir/sid/us-npi", "value": clinician.npi}],
        "active": True,
        "name": [{"family": clinician.family, "given": [clinician.given], "prefix": ["Dr."]}],
        "qualification": [{"code": {"coding": [code]}}],
    }


def _ids(seed: int, count: int, purpose: str) -> list[str]:
    return hex_ids(seed, np.arange(count), purpose)
