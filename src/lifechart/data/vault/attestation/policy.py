"""Which workload may have which data set's key: a table that the institution writes (TOML), and its judgement.

    [[workload]]
    name = "training, image of November"
    technology = "sev-snp"
    datasets = ["…64 hex digits…"]
    measurements.measurement = ["…96 hex digits…"]
    minimum_tcb = { bootloader = 3, tee = 0, snp = 8, microcode = 115 }
    review_by = 2027-05-01

What is not named is not allowed: a report must match one workload in every measurement that the table names, be of a
machine that its host can neither debug nor (unless stated) move, and of firmware no older than stated.
"""

from __future__ import annotations

import hashlib
import tomllib
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lifechart.core.errors import AccessDenied, InputError
from lifechart.data.vault.attestation.attested import NOT_ASSESSED, Attested

EVERY = "*"
_NEEDED = {"sev-snp": ("measurement",), "tdx": ("mrtd", "rtmr1", "rtmr2")}
"""Measurements without which a workload is not told apart. Of TDX also kernel and command line: MRTD is firmware."""
_NEEDED_TCB = ("bootloader", "tee", "snp", "microcode")

Hex = Annotated[str, Field(pattern=r"^([0-9a-f]{2})+$")]


class Workload(BaseModel):
    """One row of the policy."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    technology: Literal["sev-snp", "tdx"]
    datasets: tuple[str, ...] = Field(min_length=1)
    """Digests of data sets, or `*`."""
    measurements: dict[str, tuple[Hex, ...]]
    """Field of the report -> its allowed values."""
    review_by: date
    """From this day on the row allows nothing."""
    minimum_tcb: dict[str, Annotated[int, Field(ge=0, le=255)]] = {}
    tcb_statuses: tuple[str, ...] = ("UpToDate",)
    vmpl: int = Field(default=0, ge=0, le=3)
    """The least privileged level of a SEV-SNP machine that may ask."""
    migratable: bool = False

    @model_validator(mode="after")
    def _complete(self) -> Self:
        missing = [name for name in _NEEDED[self.technology] if not self.measurements.get(name)]
        if self.technology == "sev-snp":
            missing += [f"minimum_tcb.{name}" for name in _NEEDED_TCB if name not in self.minimum_tcb]
        if missing:
            raise ValueError(f"{self.name} lacks {missing}")
        if NOT_ASSESSED in self.tcb_statuses:
            raise ValueError(f"{self.name} accepts {NOT_ASSESSED}")
        return self

    def objections(self, attested: Attested, today: date) -> list[str]:
        """Return why a verified report is not this workload's, or may not have a key."""
        found = []
        if attested.technology != self.technology:
            return [f"a report of {attested.technology}"]
        for name, allowed in self.measurements.items():
            value = attested.measurements.get(name, "")
            if value not in allowed:
                found.append(f"{name} {value[:16]}… is not allowed")
        if attested.debug:
            found.append("its host may debug it")
        if attested.facts.get("migratable") and not self.migratable:
            found.append("its host may move it")
        if attested.facts.get("vmpl", 0) > self.vmpl:
            found.append(f"asked from privilege level {attested.facts['vmpl']}")
        for name, least in self.minimum_tcb.items():
            if attested.tcb.get(name, -1) < least:
                found.append(f"{name} {attested.tcb.get(name)} is older than {least}")
        bad = sorted(set(attested.statuses) - set(self.tcb_statuses))
        if bad:
            found.append(f"firmware is {', '.join(bad)} {' '.join(attested.advisories)}".rstrip())
        if today >= self.review_by:
            found.append(f"the policy's row was to be reviewed by {self.review_by}")
        return found


class Policy(BaseModel):
    """The whole table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    workload: tuple[Workload, ...] = Field(min_length=1)
    digest: str = ""

    @classmethod
    def load(cls, path: Path) -> Policy:
        """Read a policy; raises InputError that names what in it is not understood or missing."""
        try:
            content = path.read_bytes()
            found = cls.model_validate(tomllib.loads(content.decode()))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InputError("--policy", str(path), f"a TOML file ({error})") from error
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise InputError(f"--policy, {key}", str(path), first["msg"]) from error
        return found.model_copy(update={"digest": hashlib.sha256(content).hexdigest()})

    def judge(self, attested: Attested, dataset: str, at: datetime) -> Workload:
        """Return the workload that a report is of and that may have the data set's key; raises AccessDenied."""
        rows = [row for row in self.workload if dataset in row.datasets or EVERY in row.datasets]
        if not rows:
            raise AccessDenied(f"no workload of the policy may have the key of {dataset[:16]}…")
        reasons = []
        for row in rows:
            objections = row.objections(attested, at.date())
            if not objections:
                return row
            reasons.append(f"{row.name}: {'; '.join(objections)}")
        raise AccessDenied(" | ".join(reasons))
