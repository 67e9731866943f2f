"""The risk page in a real browser: axe finds nothing wrong, nothing is wider than the screen, nothing is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lifechart.data import shards
from lifechart.data.deidentify.risk import assess, page
from tests.browser import launched, window, wrong_with
from tests.data.deidentify.risk.test_assess import people_events

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CASES = {"sample of a city": {"population": 40_000}, "its own population": {}, "a loose threshold": {"threshold": 0.9}}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as started:
        yield started


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("town") / "dataset"
    shards.write_dataset(folder, people_events(300, 5), {})
    return folder


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("case", CASES)
def test_the_page_is_sound(browser: Browser, dataset: Path, tmp_path: Path, case: str, width: int) -> None:
    page.write(assess(dataset, **CASES[case]), tmp_path, "Riverbend Hospital")
    asked: list[str] = []
    opened = window(browser, width).new_page()
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto((tmp_path / page.PAGE).as_uri())
    for folded in opened.query_selector_all("details:not([open]) > summary"):
        folded.click()
    assert wrong_with(opened) == []
    assert asked == [(tmp_path / page.PAGE).as_uri()]
    opened.context.close()
