"""Short names of code systems, as they stand in `SYSTEM//CODE`, and the URIs that FHIR knows them by."""

from __future__ import annotations

SYSTEMS: dict[str, str] = {
    "http://snomed.info/sct": "SNOMED",
    "http://loinc.org": "LOINC",
    "http://www.nlm.nih.gov/research/umls/rxnorm": "RxNorm",
    "http://hl7.org/fhir/sid/cvx": "CVX",
    "http://hl7.org/fhir/sid/icd-10-cm": "ICD10CM",
    "http://hl7.org/fhir/sid/icd-10": "ICD10",
    "http://hl7.org/fhir/sid/icd-9-cm": "ICD9CM",
    "http://www.cms.gov/Medicare/Coding/ICD10": "ICD10PCS",
    "http://www.ama-assn.org/go/cpt": "CPT",
    "http://www.whocc.no/atc": "ATC",
    "http://hl7.org/fhir/sid/ndc": "NDC",
    "http://unitsofmeasure.org": "UCUM",
    "http://www.ada.org/cdt": "CDT",
    "http://www.nubc.org/patient-discharge": "NUBC",
    "http://human-phenotype-ontology.org": "HPO",
    "http://dicom.nema.org/resources/ontology/DCM": "DCM",
}
"""FHIR URI to short name. What is not listed is `OTHER`: a local system's URI can name a place or a person."""

URIS: dict[str, str] = {name: uri for uri, name in SYSTEMS.items()}
"""Short name to FHIR URI."""

UNLISTED = "OTHER"


def join(system: str, code: str) -> str:
    """Return `SYSTEM//CODE` for a FHIR system URI and a code.

    >>> join("http://loinc.org", "4548-4")
    'LOINC//4548-4'
    """
    return f"{SYSTEMS.get(system, UNLISTED)}//{code}"


def split(code: str) -> tuple[str, str]:
    """Return (system, local code); the system of a code without one is empty.

    >>> split("SNOMED//44054006")
    ('SNOMED', '44054006')
    """
    system, mark, local = code.partition("//")
    return (system, local) if mark else ("", code)
