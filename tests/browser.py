"""A real browser for tests of pages, and what any page must pass in it. Where there is none, tests skip and say so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

CHROMIUM = next((path for path in map(Path, ("/usr/bin/chromium", "/usr/bin/chromium-browser")) if path.exists()), None)
AXE = Path(__file__).parents[1] / "web" / "node_modules" / "axe-core" / "axe.min.js"
_PATIENCE = 180_000
"""Milliseconds that a page may take: a busy machine is not a fault of the page."""


@contextmanager
def launched() -> Iterator[Browser]:
    """Start a browser; it ends with the block."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None or not AXE.exists():
        pytest.skip("no chromium, or web/build.py has not run")
    with playwright.sync_playwright() as driver:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=arguments, timeout=_PATIENCE)
        yield browser
        browser.close()


def window(browser: Browser, width: int, **more: object) -> BrowserContext:
    """Open a window of that many pixels, with cookies of its own."""
    context = browser.new_context(viewport={"width": width, "height": 900}, **more)  # type: ignore[arg-type]
    context.set_default_timeout(_PATIENCE)
    return context


def wrong_with(page: Page) -> list[tuple[str, list[str]]]:
    """Return what axe finds, and whether the page is wider than its window."""
    page.evaluate(AXE.read_text())
    found = [
        (each["id"], [str(node["target"]) for node in each["nodes"]])
        for each in page.evaluate("axe.run()")["violations"]
    ]
    wider = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    if wider > 0:
        found.append(("wider than the screen", [f"{wider} pixels"]))
    return found
