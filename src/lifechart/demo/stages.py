"""The whole life of a capability on a simulated hospital, off to public and back, with its refusals.

    tell(folder)        # writes folder/story.html and the pages that it links

Deeds are the product's own functions, on a ledger, shelf and registry in `folder`/home. The simulated hospital adds
its calendar, its patients, and one assumption: what seeing an answer does to a clinician (`ascent.ACTS`).
"""

from __future__ import annotations

import hashlib
import time
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from importlib import resources
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from lifechart.core import durable
from lifechart.core.capability import Phase
from lifechart.core.errors import InputError
from lifechart.core.settings import Settings
from lifechart.demo.story import Calendar, Story
from lifechart.demo.ward import Bedside, Ward
from lifechart.ledger.keys import Signer
from lifechart.ledger.log import Log, open_log
from lifechart.release.people import Office, People
from lifechart.release.protocol import Registered, Registry, open_registry
from lifechart.release.shelf import Shelf, open_shelf

INSTITUTION = "Riverbend Hospital (simulated)"
DAYS_OF_STORY = 1_260
"""From the first extract to the last page; the simulated record goes on until the story's end."""
STAFF = {
    "dr.okafor": (Office.MEDICAL_OFFICER,),
    "sam.steward": (Office.DATA_STEWARD,),
    "ethics.chair": (Office.ETHICS_BOARD,),
    "safety.lead": (Office.SAFETY_OFFICER,),
    "board.one": (Office.MONITORING_BOARD,),
    "dr.li": (Office.INVESTIGATOR,),
    "two.hats": (Office.MEDICAL_OFFICER, Office.DATA_STEWARD),
    "ml.author": (Office.MEDICAL_OFFICER, Office.DATA_STEWARD),
}


@dataclass(frozen=True, slots=True)
class Scale:
    """How large the hospital is, and how much of everything happens in it."""

    lives: int = 4_600
    """In the city. One in ten is held out by lot; so that a small hospital has enough of them, all of those are its
    patients, and of the others `learners`."""
    learners: int = 560
    size: str = "xs"
    answers: int = 110
    """Asked in shadow."""
    weeks: int = 10
    """Of monitoring's reference."""
    effect: float = 22.0
    """Days that the trial is to find."""
    events: int = 20
    """Asked of each pair at the gate: fewer come from a handful of people, by whose luck no envelope should judge."""
    floor: float = 0.5
    """What the lower end of its AUROC has to reach there."""
    auroc: float = 0.6
    """Asked of the validation."""
    min_people: int = 11
    phases: Path | None = None
    """Demands for each phase; by default the product's own."""


@dataclass
class Life:
    """Everything that the chapters work with."""

    folder: Path
    scale: Scale
    seed: int
    calendar: Calendar
    start: date
    story: Story
    settings: Settings
    log: Log
    bar: Progress
    shelf: Shelf = field(init=False)
    people: People = field(init=False)
    registry: Registry = field(init=False)
    ward: Ward = field(init=False)
    keys: dict[str, Signer] = field(init=False)
    bedside: Bedside | None = None

    def __post_init__(self) -> None:
        self.shelf, self.people = open_shelf(self.settings, self.log), People(self.log)
        self.registry, self.ward = open_registry(self.settings, self.log), Ward(self.folder, self.settings, self.log)
        self.keys = {name: Signer.open(self.folder / "people" / f"{name}.pem", name) for name in STAFF}

    @property
    def residents(self) -> list[int]:
        """Lives of the hospital whose records the model learns from, and of those held out from it."""
        train, held_out = self.ward.lots()
        return sorted([*train[: self.scale.learners], *held_out[: len(held_out) // 2]])

    @property
    def newcomers(self) -> list[int]:
        """Lives of the clinics that join for the shadow period: of those whom the lot holds out from learning."""
        held_out = self.ward.lots()[1]
        return held_out[len(held_out) // 2 :]

    @property
    def today(self) -> date:
        """The day by the calendar."""
        return self.calendar().date()

    def served(self) -> Bedside:
        """Return the house that answers, opened when it is first asked for."""
        if self.bedside is None:
            self.bedside = Bedside(self.settings, self.log, self.calendar.local)
        return self.bedside

    def approve(self, phase: Phase, *names: str) -> None:
        """Let these people sign for a phase, each in the first of their offices."""
        for name in names:
            self.shelf.approve(
                "risk", phase, self.keys[name], office=STAFF[name][0], comment="evidence and limits read"
            )

    def enter(self, phase: Phase, *names: str, reason: str) -> None:
        """Have a phase signed by these people, and enter it."""
        self.approve(phase, *names)
        self.shelf.set_phase("risk", phase, actor="sam.steward", reason=reason)
        self.story.did(f"{', '.join(names)} sign; the capability enters {phase}", reason)
        self.story.stands(phase)

    def file(self, name: str, **values: object) -> Path:
        """Write one of the institution's own files from its template, dated today."""
        text = resources.files("lifechart.demo").joinpath(f"files/{name}.toml").read_text()
        for key, value in {"date": f"{self.calendar():%Y-%m-%dT%H:%M:%SZ}", **values}.items():
            text = text.replace("{" + key + "}", str(value))
        path = self.folder / "files" / f"{name}.toml"
        durable.write_bytes(path, text.encode())
        return path

    def register(self, path: Path) -> Registered:
        """Have a protocol signed by ethics board and medical officer, and seal it."""
        for name in ("ethics.chair", "dr.okafor"):
            self.registry.sign(path, self.keys[name], office=STAFF[name][0], comment="population and analysis agreed")
        return self.registry.register(path, actor="sam.steward")

    def page(self, title: str, name: str, content: str | bytes) -> None:
        """Keep a page beside the story, and link it from the chapter."""
        durable.write_bytes(self.folder / "pages" / name, content.encode() if isinstance(content, str) else content)
        self.story.page(title, f"pages/{name}")


def tell(
    folder: Path, *, scale: Scale | None = None, seed: int = 7, end: date | None = None, console: Console | None = None
) -> Story:
    """Tell the story in `folder`, which must not exist yet; return it. `end`: the day that the simulated record ends.

    The same seed tells the same story: dates, figures and refusals; keys and so digests are drawn anew. Raises
    InputError for a folder that is there, AssertionError where something was not refused that has to be.
    """
    from lifechart.demo import ascent, change, foundation

    if folder.exists():
        raise InputError("--out", str(folder), "a folder that does not exist yet")
    scale, end, began = scale or Scale(), end or date(2026, 11, 1), time.monotonic()
    start = end - timedelta(days=DAYS_OF_STORY)
    settings = Settings(home=folder / "home", institution=INSTITUTION, fhir_url=_base(), phases=scale.phases)
    # Drawn from the seed, so that who is held out and how dates move is the same each time it is told.
    durable.write_bytes(settings.keys / "deidentify.key", hashlib.sha256(f"demo {seed}".encode()).digest())
    calendar = Calendar(datetime(start.year, start.month, start.day, 8, tzinfo=UTC))
    shown = console or Console()
    with closing(open_log(settings, calendar)) as log, _bar() as bar:
        life = Life(folder, scale, seed, calendar, start, Story(calendar, shown), settings, log, bar)
        chapters = [*foundation.CHAPTERS, *ascent.CHAPTERS, *change.CHAPTERS]
        task = bar.add_task("stages", total=len(chapters))
        try:
            for chapter in chapters:
                bar.update(task, description=f"stages: {chapter.__name__.replace('_', ' ')}")
                chapter(life)
                bar.advance(task)
        finally:
            if life.bedside is not None:
                life.bedside.close()
        about = (
            "The whole life of one capability, from off to public and back, on a simulated hospital whose future is "
            "known and told a day at a time. Every deed, and every refusal, is the product's own."
        )
        life.story.write(folder / "story.html", title="The life of a capability", institution=INSTITUTION, about=about)
    shown.print(
        f"\n{len(life.story.chapters)} chapters, {life.story.num_refused} refusals, {time.monotonic() - began:.0f} s: "
        f"{folder / 'story.html'}",
        highlight=False,
    )
    return life.story


def _base() -> str:
    from lifechart.demo.ward import BASE

    return BASE


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)
