"""Reads one patient's chart from the EHR's FHIR server: all of it, or none of it with the reason.

Only the configured server is ever asked. A link that leads elsewhere, in a page of results or in a hook's request, is
refused, so nobody can make this process fetch an address of their choosing or send the EHR's token there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import orjson

from lifechart.core.errors import LifechartError, RecordError
from lifechart.core.settings import Settings
from lifechart.core.timeline import Timeline
from lifechart.data.sources import fhir

Resource = dict[str, Any]

PATIENT_TYPES = {
    "AdverseEvent": "subject",
    **dict.fromkeys(
        (
            *("AllergyIntolerance", "CarePlan", "CareTeam", "Condition", "Coverage", "Device", "DeviceRequest"),
            *("DeviceUseStatement", "DiagnosticReport", "Encounter", "EpisodeOfCare", "FamilyMemberHistory", "Flag"),
            *("Goal", "ImagingStudy", "Immunization", "MedicationAdministration", "MedicationDispense"),
            *("MedicationRequest", "MedicationStatement", "NutritionOrder", "Observation", "Procedure"),
            *("QuestionnaireResponse", "ServiceRequest"),
        ),
        "patient",
    ),
}
"""Resource types of a chart, and the search parameter that names their patient. Notes are not read: nothing here does
anything with them yet."""

FOUND_AT_MOST = 20
_PAGE = 500
_MAX_PAGES = 400
_TIMEOUT = httpx.Timeout(10.0, connect=3.0)
_CAPABILITIES_SECONDS = 300.0
_JSON = {"Accept": "application/fhir+json"}


class ChartUnreadable(LifechartError):
    """The chart could not be read whole, so none of it is used. The message names no patient."""


class NoSuchPatient(LifechartError):
    """The EHR knows no such patient."""


@dataclass(frozen=True, slots=True)
class Chart:
    """Everything that the EHR holds of one patient."""

    patient: Resource
    resources: tuple[Resource, ...]
    """All of it, the Patient first."""
    timeline: Timeline
    names: dict[str, str]
    """SYSTEM//CODE to what the chart itself calls it."""
    unread: tuple[str, ...]
    """"Type: reason" of each resource that could not be used, so that a page can say so."""
    as_of: datetime
    """When it was read (naive, at the place of care)."""

    def of_type(self, *types: str) -> list[Resource]:
        """Return the resources of these types, in the order in which the EHR gave them."""
        return [resource for resource in self.resources if resource.get("resourceType") in types]


def chart_of(resources: Iterable[Resource], patient_id: str, as_of: datetime | None = None) -> Chart:
    """Make a chart as of a time, by default now.

    Raises ChartUnreadable if the Patient is not in it or another patient's records are.
    """
    everything = tuple(resources)
    patients = [each for each in everything if each.get("resourceType") == "Patient"]
    if [each.get("id") for each in patients] != [patient_id]:
        raise ChartUnreadable(f"chart: got {len(patients)} Patient resources, expected the one asked for")
    for resource in everything:
        if _patient_reference(resource) not in (None, patient_id):
            kind = resource.get("resourceType")
            raise ChartUnreadable(f"chart: a {kind} belongs to another patient than the one asked for")
    ordered = (patients[0], *(each for each in everything if each is not patients[0]))
    as_of = as_of or local_now()
    try:
        read = fhir.chart(ordered, as_of)
    except RecordError as error:
        raise ChartUnreadable(f"chart: {error}") from error
    return Chart(patients[0], ordered, read.timeline, read.names, read.unread, as_of)


class Ehr:
    """The EHR's FHIR R4 server, as a client of it."""

    def __init__(
        self,
        settings: Settings,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        """Make a client. `clock`: a simulated hospital's calendar (naive, local); by default the wall clock."""
        self._clock = clock or local_now
        self.base = settings.fhir_url.rstrip("/")
        self._token = settings.fhir_token.get_secret_value()
        limits = httpx.Limits(max_connections=32, max_keepalive_connections=16)
        # Proxies of the environment are not for the hospital's own network; redirects could lead off the server.
        self._http = httpx.AsyncClient(
            timeout=_TIMEOUT, limits=limits, follow_redirects=False, trust_env=False, transport=transport
        )
        self._capabilities: tuple[float, dict[str, set[str]]] | None = None

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def search_patients(self, text: str, limit: int = FOUND_AT_MOST) -> list[Resource]:
        """Return Patient resources whose name holds `text`, or whose identifier is `text`."""
        by_name, by_identifier = await asyncio.gather(
            self._bundle(f"Patient?name={quote(text, safe='')}&_count={limit}"),
            self._bundle(f"Patient?identifier={quote(text, safe='')}&_count={limit}"),
        )
        found = {each["id"]: each for each in [*_entries(by_identifier), *_entries(by_name)]}
        return [each for each in found.values() if each.get("resourceType") == "Patient"][:limit]

    async def chart(self, patient_id: str, token: str = "") -> Chart:
        """Read the whole chart; raises NoSuchPatient or ChartUnreadable.

        `token` stands in for the configured one where the caller was given access of their own.
        """
        if not _is_id(patient_id):
            raise NoSuchPatient("The EHR knows no such patient.")
        operations = await self._patient_operations(token)
        if "everything" in operations["Patient"]:
            found = await self._all_pages(f"Patient/{patient_id}/$everything?_count={_PAGE}", token)
        else:
            types = [kind for kind in PATIENT_TYPES if kind in operations]
            pages = [f"{kind}?{PATIENT_TYPES[kind]}={patient_id}&_count={_PAGE}" for kind in types]
            parts = await asyncio.gather(
                self._all_pages(f"Patient?_id={patient_id}", token), *(self._all_pages(page, token) for page in pages)
            )
            found = [resource for part in parts for resource in part]
        if not any(each.get("resourceType") == "Patient" for each in found):
            raise NoSuchPatient("The EHR knows no such patient.")
        distinct = {(each.get("resourceType"), each.get("id")): each for each in found}
        return chart_of(distinct.values(), patient_id, self._clock())

    async def _patient_operations(self, token: str) -> dict[str, set[str]]:
        """Return {resource type: its operations}, as the server's CapabilityStatement has it."""
        if self._capabilities and time.monotonic() - self._capabilities[0] < _CAPABILITIES_SECONDS:
            return self._capabilities[1]
        statement = await self._get(f"{self.base}/metadata", token)
        known: dict[str, set[str]] = {"Patient": set()}
        for rest in statement.get("rest", []):
            for resource in rest.get("resource", []):
                names = {operation.get("name", "") for operation in resource.get("operation", [])}
                known.setdefault(resource.get("type", ""), set()).update(names)
        self._capabilities = time.monotonic(), known
        return known

    async def _all_pages(self, query: str, token: str = "") -> list[Resource]:
        bundle = await self._bundle(query, token)
        found = _entries(bundle)
        for _ in range(_MAX_PAGES):
            following = next((link["url"] for link in bundle.get("link", []) if link.get("relation") == "next"), None)
            if following is None:
                return found
            bundle = await self._get(self._on_this_server(following), token)
            found += _entries(bundle)
        raise ChartUnreadable(f"EHR: a search went past {_MAX_PAGES} pages")

    async def _bundle(self, query: str, token: str = "") -> Resource:
        return await self._get(f"{self.base}/{query}", token)

    async def _get(self, url: str, token: str) -> Resource:
        bearer = token or self._token
        headers = {**_JSON, "Authorization": f"Bearer {bearer}"} if bearer else _JSON
        try:
            response = await self._http.get(url, headers=headers)
        except httpx.HTTPError as error:
            # httpx puts the address into its messages, and the address names the patient.
            raise ChartUnreadable(f"EHR: no answer ({type(error).__name__})") from None
        if response.status_code in (404, 410) and "/Patient/" in url:
            raise NoSuchPatient("The EHR knows no such patient.")
        if response.status_code != 200:
            raise ChartUnreadable(f"EHR: answered with status {response.status_code}, expected 200")
        try:
            content = orjson.loads(response.content)
        except orjson.JSONDecodeError:
            raise ChartUnreadable("EHR: answered with something that is not JSON") from None
        if not isinstance(content, dict):
            raise ChartUnreadable("EHR: answered with JSON that is not a resource")
        return content

    def _on_this_server(self, url: str) -> str:
        if "://" not in url:
            return f"{self.base}/{url.lstrip('/')}"
        if not same_server(url, self.base):
            raise ChartUnreadable("EHR: a page of results leads to another server, which is not asked")
        return url


def same_server(url: str, base: str) -> bool:
    """Say whether `url` lies under `base`: same scheme, host, port and path, with no user and no way up."""
    try:
        one, other = urlsplit(url), urlsplit(base)
        origin = (one.scheme, one.hostname, one.port) == (other.scheme, other.hostname, other.port)
    except ValueError:
        return False
    path, root = one.path.rstrip("/"), other.path.rstrip("/")
    under = path == root or path.startswith(root + "/")
    return origin and under and "@" not in one.netloc and ".." not in one.path and "\\" not in url


def entries_of(bundle: Resource) -> list[Resource] | None:
    """Return the resources of a prefetched searchset, or None if it is not one or is only its first page."""
    if bundle.get("resourceType") != "Bundle" or any(link.get("relation") == "next" for link in bundle.get("link", [])):
        return None
    return _entries(bundle)


def local_now() -> datetime:
    """Return the wall-clock time at the place of care, without a zone, as timelines have it."""
    return datetime.now().replace(microsecond=0)  # noqa: DTZ005


def _entries(bundle: Resource) -> list[Resource]:
    """Return the resources of a bundle; raises ChartUnreadable if the server says that something went wrong."""
    found = []
    for entry in bundle.get("entry", []):
        resource = entry.get("resource")
        if not isinstance(resource, dict):
            raise ChartUnreadable("EHR: a bundle holds an entry without a resource")
        if resource.get("resourceType") == "OperationOutcome":
            severities = {issue.get("severity") for issue in resource.get("issue", [])}
            if severities & {"fatal", "error"}:
                raise ChartUnreadable("EHR: the search itself failed in part")
            continue
        found.append(resource)
    return found


def _patient_reference(resource: Resource) -> str | None:
    for key in ("subject", "patient"):
        reference = resource.get(key)
        if isinstance(reference, dict) and "Patient/" in str(reference.get("reference", "")):
            return str(reference["reference"]).rsplit("Patient/", 1)[1].split("/", 1)[0]
    return None


def _is_id(text: str) -> bool:
    allowed = all(character.isalnum() or character in "-." for character in text)
    return 0 < len(text) <= 64 and text.isascii() and allowed and text.strip(".") != ""
