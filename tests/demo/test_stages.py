"""The life of a capability, told whole on a very small hospital."""

import re
import shutil
from pathlib import Path

import polars as pl
import pytest

from lifechart.core.capability import Phase
from lifechart.core.errors import InputError
from lifechart.core.forecast import Situated
from lifechart.core.settings import Settings
from lifechart.demo.stages import Scale, tell
from lifechart.demo.story import Story
from lifechart.evaluate.follow_up import follow_up
from lifechart.ledger.log import open_log
from lifechart.model.forecaster import NetworkForecaster, load_forecaster
from lifechart.release.history import History
from lifechart.release.stages import DEFAULT
from tests.browser import launched, window, wrong_with

PHASES = ["off", "simulation", "shadow", "trial", "clinicians", "institutions", "public"]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Story]:
    folder = tmp_path_factory.mktemp("demo")
    # As the product demands, but for how many answers and labels: twenty people are asked about here.
    phases = folder / "phases.toml"
    text = DEFAULT.read_text().replace("answers = 100", "answers = 15").replace("labelled = 50", "labelled = 5")
    phases.write_text(text)
    scale = Scale(
        lives=2600, learners=220, answers=20, weeks=8, effect=40.0, events=16, floor=0.0, auroc=0.0, min_people=5,
        phases=phases,
    )  # fmt: skip
    return folder / "story", tell(folder / "story", scale=scale)


def test_the_capability_goes_from_off_to_public_and_back(told: tuple[Path, Story]) -> None:
    folder, _ = told
    with open_log(Settings(home=folder / "home", institution="Riverbend Hospital (simulated)")) as log:
        changes = History(log).states()["risk"].changes
    phases = [change.what for change in changes if change.kind == "phase"]
    first = [phases.index(phase) for phase in PHASES[1:]]
    assert first == sorted(first), "no stage is skipped"
    assert phases[-1] == Phase.OFF
    lowered = [change for change in changes if change.actor == "monitoring"]
    assert [change.what for change in lowered] == ["shadow"]
    assert {change.kind for change in changes} == {"release", "phase", "switch"}


def test_what_must_not_be_is_refused_with_its_reason(told: tuple[Path, Story]) -> None:
    refused = {deed.what: deed.said for chapter in told[1].chapters for deed in chapter.deeds if deed.refused}
    assert len(refused) >= 25
    reasons = "\n".join(refused.values())
    for reason in (
        "nobody signs as two persons",
        "made the model, so that signature does not count",
        "no stage is skipped",
        "sealed until",
        "carried out on these data already",
        "amendment after data",
        "nobody is randomised twice",
        "for the monitoring board alone",
        "looking earlier is peeking",
        "only a person may raise",
        "wants 180 days there",
        "have not acknowledged its recall",
    ):
        assert reason in reasons, reason


def test_every_page_that_the_story_links_is_there(told: tuple[Path, Story]) -> None:
    folder, _ = told
    story = (folder / "story.html").read_text()
    links = re.findall(r'href="([^"#]+)"', story)
    assert len(links) >= 12
    assert [link for link in links if not (folder / link).is_file()] == []


@pytest.mark.parametrize("width", [1280, 390])
def test_the_story_and_its_pages_are_sound_in_a_browser(told: tuple[Path, Story], width: int) -> None:
    folder, _ = told
    linked = re.findall(r'href="([^"#]+\.html)"', (folder / "story.html").read_text())
    found = {}
    with launched() as browser:
        page = window(browser, width).new_page()
        for name in ("story.html", *sorted(set(linked))):
            page.goto((folder / name).as_uri())
            if wrong := wrong_with(page):
                found[name] = wrong
    assert found == {}


def test_monitoring_can_follow_where_charts_lie_in_the_networks_space(told: tuple[Path, Story]) -> None:
    folder, _ = told
    network = load_forecaster(folder / "models" / "first")
    weeks = folder.parent / "two weeks"
    for name in ("week-01", "week-02"):
        shutil.copytree(folder / "weeks" / name, weeks / name)
    assert isinstance(network, NetworkForecaster)
    assert isinstance(network, Situated)
    follow_up(weeks, network, [(network.outcomes[0], 365)])
    made = pl.read_parquet(weeks / "week-02" / "forecasts.parquet")
    assert made["embedding"].list.len().unique().to_list() == [network.model.size.rank]
    assert made["novelty"].is_between(0, 1).all()


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist yet"):
        tell(tmp_path)
