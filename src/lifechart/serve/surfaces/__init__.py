"""One file an outlet, each with a `surface`: a name and its routes. How to add one: docs/how-to-add/surface.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from fastapi import APIRouter


@runtime_checkable
class Surface(Protocol):
    """The contract of an outlet. Its routes find what they need with `bedside.house_of(request)`."""

    @property
    def name(self) -> str:
        """A short name, as in the entry point."""

    @property
    def router(self) -> APIRouter:
        """The routes; every one asks for a role or a client, by `sign_in.signed_in` or its like."""


@dataclass(frozen=True, slots=True)
class Outlet:
    """A surface that is its routes and nothing more."""

    name: str
    router: APIRouter
