"""A hospital's FHIR server over a handful of patients, in memory: small enough to know every resource by heart."""

from datetime import datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import httpx
import orjson

BASE = "http://ehr.test/fhir"
NOW = datetime.now().replace(microsecond=0)


def ago(**span: float) -> str:
    return (NOW - timedelta(**span)).isoformat()


def coded(system: str, code: str, display: str) -> dict:
    return {"coding": [{"system": system, "code": code, "display": display}], "text": display}


SNOMED, LOINC, RXNORM = "http://snomed.info/sct", "http://loinc.org", "http://www.nlm.nih.gov/research/umls/rxnorm"


def patient(identity: str, family: str, given: str, birth: str, gender: str = "female") -> dict:
    return {
        "resourceType": "Patient",
        "id": identity,
        "meta": {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}]},
        "identifier": [
            {"type": {"coding": [{"code": "MR"}]}, "system": "urn:mrn", "value": f"MRN-{identity.upper()}-4471"}
        ],
        "name": [{"use": "official", "family": family, "given": [given]}],
        "gender": gender,
        "birthDate": birth,
    }


def observation(identity: str, owner: str, code: str, name: str, value: float, unit: str, when: str, **more) -> dict:
    norm = more.pop("norm", None)
    resource = {
        "resourceType": "Observation",
        "id": identity,
        "status": "final",
        "category": [{"coding": [{"code": more.pop("category", "laboratory")}]}],
        "code": coded(LOINC, code, name),
        "subject": {"reference": f"Patient/{owner}"},
        "effectiveDateTime": when,
        "valueQuantity": {"value": value, "unit": unit, "code": unit, "system": "http://unitsofmeasure.org"},
    }
    if norm:
        low, high = norm
        resource["referenceRange"] = [{"low": {"value": low}, "high": {"value": high}}]
    return resource


def pressure(identity: str, owner: str, systolic: float, diastolic: float, when: str) -> dict:
    def part(code: str, name: str, value: float) -> dict:
        return {"code": coded(LOINC, code, name), "valueQuantity": {"value": value, "unit": "mm[Hg]"}}

    return {
        "resourceType": "Observation",
        "id": identity,
        "status": "final",
        "category": [{"coding": [{"code": "vital-signs"}]}],
        "code": coded(LOINC, "85354-9", "Blood pressure"),
        "subject": {"reference": f"Patient/{owner}"},
        "effectiveDateTime": when,
        "component": [
            part("8480-6", "Systolic blood pressure", systolic),
            part("8462-4", "Diastolic blood pressure", diastolic),
        ],
    }


def simple(kind: str, identity: str, owner: str, code: dict, when: str, **more) -> dict:
    who = "patient" if kind in ("AllergyIntolerance", "Immunization") else "subject"
    dated = {
        "Condition": "onsetDateTime",
        "MedicationRequest": "authoredOn",
        "Procedure": "performedDateTime",
        "Immunization": "occurrenceDateTime",
        "AllergyIntolerance": "recordedDate",
    }[kind]
    named = {"MedicationRequest": "medicationCodeableConcept", "Immunization": "vaccineCode"}.get(kind, "code")
    return {
        "resourceType": kind, "id": identity, named: code, who: {"reference": f"Patient/{owner}"}, dated: when, **more,
    }  # fmt: skip


ACTIVE = {"clinicalStatus": {"coding": [{"code": "active"}]}, "verificationStatus": {"coding": [{"code": "confirmed"}]}}


def encounter(identity: str, owner: str, kind: str, start_days: float, hours: float, reason: str) -> dict:
    start = NOW - timedelta(days=start_days)
    return {
        "resourceType": "Encounter",
        "id": identity,
        "status": "finished",
        "class": {"code": kind},
        "subject": {"reference": f"Patient/{owner}"},
        "period": {"start": start.isoformat(), "end": (start + timedelta(hours=hours)).isoformat()},
        "reasonCode": [{"text": reason}],
    }


def ines() -> list[dict]:
    """Seventy or so, hypertension and COPD, allergic to penicillin, potassium normal."""
    owner = "ines"
    resources = [
        patient(owner, "Márquez Ødegård", "Inés", "1955-03-02"),
        simple("Condition", "ht", owner, coded(SNOMED, "38341003", "Hypertension"), "2009-05-11", **ACTIVE),
        simple("Condition", "copd", owner, coded(SNOMED, "13645005", "COPD"), "2017-11-20", **ACTIVE),
        simple(
            "Condition", "pneumonia", owner, coded(SNOMED, "233604007", "Pneumonia"), "2022-01-14",
            abatementDateTime="2022-02-10", clinicalStatus={"coding": [{"code": "resolved"}]},
        ),
        simple(
            "AllergyIntolerance", "pen", owner, coded(SNOMED, "91936005", "Allergy to penicillin"), "1999-01-01",
            criticality="high", **ACTIVE,
        ),
        simple(
            "MedicationRequest", "lis", owner, coded(RXNORM, "314076", "Lisinopril 10 mg"), "2009-05-11",
            status="active", intent="order", dosageInstruction=[{"text": "One tablet in the morning"}],
        ),
        simple(
            "MedicationRequest", "tio", owner, coded(RXNORM, "580261", "Tiotropium 18 µg"), "2018-02-02",
            status="active", intent="order",
        ),
        simple(
            "Procedure", "spiro", owner, coded(SNOMED, "127783003", "Spirometry"), "2017-11-20", status="completed"
        ),
        simple(
            "Immunization", "flu", owner, coded("http://hl7.org/fhir/sid/cvx", "140", "Influenza vaccine"),
            "2025-10-02", status="completed",
        ),
        encounter("e1", owner, "IMP", 1770, 140, "Pneumonia"),
        encounter("e2", owner, "EMER", 400, 5, "Breathlessness"),
        *(encounter(f"v{n}", owner, "AMB", 40 + 180 * n, 0.5, "Review") for n in range(18)),
    ]  # fmt: skip
    for n in range(14):
        when = ago(days=40 + 180 * n)
        resources += [
            observation(f"k{n}", owner, "2823-3", "Potassium", 4.1 + 0.1 * (n % 5), "mmol/L", when, norm=(3.5, 5.1)),
            observation(f"cr{n}", owner, "2160-0", "Creatinine", 1.35 - 0.03 * n, "mg/dL", when, norm=(0.5, 1.1)),
            observation(f"hb{n}", owner, "718-7", "Haemoglobin", 11.2 + 0.15 * n, "g/dL", when, norm=(12.0, 15.5)),
            observation(f"bnp{n}", owner, "30934-4", "BNP", 310 - 18 * n, "pg/mL", when, norm=(0, 100)),
            observation(
                f"hr{n}", owner, "8867-4", "Heart rate", 74 + n % 4, "/min", when, category="vital-signs",
            ),
            pressure(f"bp{n}", owner, 138 + n % 7, 82 - n % 5, when),
        ]  # fmt: skip
    return resources


def tom() -> list[dict]:
    """Fifty, no known allergies, a potassium of 6.8 this morning."""
    owner, norm = "tom", (3.5, 5.1)
    return [
        patient(owner, "Okafor", "Tom", "1975-07-30", "male"),
        simple("AllergyIntolerance", "nka", owner, coded(SNOMED, "716186003", "No known allergy"), "2020-01-01"),
        simple("Condition", "ckd", owner, coded(SNOMED, "709044004", "Chronic kidney disease"), "2019-02-01", **ACTIVE),
        *(
            observation(f"tk{n}", owner, "2823-3", "Potassium", 5.0, "mmol/L", ago(days=30 + 90 * n), norm=(3.5, 5.1))
            for n in range(12)
        ),
        observation("tk-now", owner, "2823-3", "Potassium", 6.8, "mmol/L", ago(hours=3), norm=norm),
    ]


def ada() -> list[dict]:
    """Almost nothing on record, allergies never asked about."""
    return [patient("ada", "Lind", "Ada", "1990-01-15")]


def hospital() -> dict[str, list[dict]]:
    return {"ines": ines(), "tom": tom(), "ada": ada()}


class ToyEhr(httpx.AsyncBaseTransport):
    """Answers as a FHIR server does; `broken` names resource types whose search fails."""

    def __init__(self, everything: bool = True, page: int = 40) -> None:
        self.patients = hospital()
        self.everything, self.page = everything, page
        self.broken: dict[str, httpx.Response | Exception] = {}
        self.requests: list[httpx.Request] = []
        self.next_base = BASE

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        url = urlsplit(str(request.url))
        assert str(request.url).startswith(BASE), "only the hospital's own server is ever asked"
        path, query = url.path.removeprefix("/fhir/"), parse_qs(url.query)
        kind = path.split("/")[0]
        if kind in self.broken:
            broken = self.broken[kind]
            if isinstance(broken, Exception):
                raise broken
            return broken
        if path == "metadata":
            return self._capabilities()
        if path.endswith("/$everything"):
            found = self.patients.get(path.split("/")[1])
            return _response({"resourceType": "OperationOutcome"}, 404) if found is None else self._page(found, url)
        return self._page(self._search(kind, query), url)

    def _capabilities(self) -> httpx.Response:
        kinds = {each["resourceType"] for resources in self.patients.values() for each in resources}
        operation = [{"name": "everything"}] if self.everything else []
        rows = [{"type": kind, "operation": operation if kind == "Patient" else []} for kind in sorted(kinds)]
        return _response({"resourceType": "CapabilityStatement", "rest": [{"resource": rows}]})

    def _search(self, kind: str, query: dict[str, list[str]]) -> list[dict]:
        everyone = [each for resources in self.patients.values() for each in resources if each["resourceType"] == kind]
        if "_id" in query:
            return [each for each in everyone if each["id"] == query["_id"][0]]
        if "name" in query:
            wanted = query["name"][0].lower()
            return [each for each in everyone if wanted in str(each["name"]).lower()]
        if "identifier" in query:
            return [each for each in everyone if each["identifier"][0]["value"] == query["identifier"][0]]
        owner = f"Patient/{query['patient'][0]}"
        return [each for each in everyone if owner in (str(each.get("subject")) + str(each.get("patient")))]

    def _page(self, found: list[dict], url) -> httpx.Response:
        start = int(parse_qs(url.query).get("_offset", ["0"])[0])
        bundle = {
            "resourceType": "Bundle",
            "type": "searchset",
            "total": len(found),
            "entry": [{"resource": each} for each in found[start : start + self.page]],
        }
        if start + self.page < len(found):
            following = f"{self.next_base}{url.path.removeprefix('/fhir')}?{url.query}&_offset={start + self.page}"
            bundle["link"] = [{"relation": "next", "url": following.replace(f"&_offset={start}&", "&")}]
        return _response(bundle)


def _response(content: dict, status: int = 200) -> httpx.Response:
    return httpx.Response(status, content=orjson.dumps(content))
