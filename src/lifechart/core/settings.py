"""Where things live and how this institution runs them: environment variables `LIFECHART_*`, checked at start."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from lifechart.core.errors import SettingError


class Settings(BaseSettings):
    """Every setting, with its default. Documented in docs/guides/settings.md, which a test holds to this list."""

    model_config = SettingsConfigDict(env_prefix="LIFECHART_", extra="ignore", frozen=True)

    home: Path = Field(default=Path("lifechart-home"), description="folder of ledger, keys, shelf and database")
    institution: str = Field(default="Example Hospital", description="name shown on pages and written into statements")
    database_url: str = Field(default="", description="SQLAlchemy URL; empty: SQLite under home")
    fhir_url: str = Field(default="http://127.0.0.1:8801/fhir", description="base URL of the EHR's FHIR R4 server")
    fhir_token: SecretStr = Field(default=SecretStr(""), description="bearer token for the EHR, if it wants one")
    fhir_client_id: str = Field(default="", description="id under which the EHR knows our key, for bulk exports")
    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(default=8800, ge=1, le=65535, description="port to listen on")
    session_minutes: int = Field(default=30, ge=1, description="idle minutes before signing in again")
    phases: Path | None = Field(default=None, description="the institution's own demands for each phase (TOML)")
    incidents: Path | None = Field(default=None, description="the institution's own incident policy (TOML)")
    cookie_secure: bool = Field(default=False, description="HTTPS-only session cookie: for production")
    ray_address: str = Field(default="", description="Ray cluster for ingest; empty: one of this machine alone")
    vault_identity: str = Field(default="", description="age identity file; empty: keys/vault.key under home")
    kms_command: str = Field(default="", description="command that wraps and unwraps keys in a key service")

    @property
    def vault_key(self) -> Path:
        """File of the keys that open encrypted data sets."""
        return Path(self.vault_identity) if self.vault_identity else self.keys / "vault.key"

    consent_policy: Literal["opt-out", "opt-in"] = Field(
        default="opt-out", description="whether a patient who decided nothing is in data sets"
    )

    @property
    def ledger(self) -> Path:
        """Folder of the append-only log."""
        return self.home / "ledger"

    @property
    def keys(self) -> Path:
        """Folder of this institution's private keys."""
        return self.home / "keys"

    @property
    def fhir_key(self) -> Path:
        """Private key by which the EHR knows us; its public half is registered there."""
        return self.keys / "fhir-client.jwk"

    @property
    def shelf(self) -> Path:
        """Folder of released models."""
        return self.home / "shelf"

    @property
    def protocols(self) -> Path:
        """Folder of registered protocols and of what trials under them recorded."""
        return self.home / "protocols"

    @property
    def database(self) -> str:
        """The application database's SQLAlchemy URL."""
        return self.database_url or f"sqlite:///{self.home / 'lifechart.db'}"


def load_settings() -> Settings:
    """Read the environment; raises SettingError that names the variable, its value and what was expected."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        key = "LIFECHART_" + "_".join(str(part) for part in first["loc"]).upper()
        raise SettingError(key, first["input"], first["msg"]) from error
