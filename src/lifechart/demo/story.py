"""A story as it happens: a calendar that is moved by hand, chapters, deeds, and refusals with their reasons."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path

import jinja2
from markupsafe import Markup
from rich.console import Console

from lifechart.core import durable
from lifechart.core.errors import LifechartError


class Calendar:
    """The simulated hospital's time: it stands until it is moved, but for a second at each look."""

    def __init__(self, start: datetime) -> None:
        self._now = start.astimezone(UTC)

    def __call__(self) -> datetime:
        """Return the time (UTC); never the same twice, never back."""
        self._now += timedelta(seconds=1)
        return self._now

    def local(self) -> datetime:
        """Return the time as a chart has it: naive, at the place of care."""
        return self().replace(tzinfo=None, microsecond=0)

    def let_pass(self, days: float) -> None:
        """Move on."""
        assert days >= 0
        self._now += timedelta(days=days)

    def until(self, moment: datetime) -> None:
        """Move on to a moment, if it has not come yet."""
        self._now = max(self._now, moment.astimezone(UTC))


@dataclass(frozen=True, slots=True)
class Deed:
    """Something that was done, or was tried and refused."""

    what: str
    said: str
    """What came of it, in the product's words."""
    refused: bool = False
    day: str = ""


@dataclass(slots=True)
class Chapter:
    """A part of the story."""

    title: str
    about: str
    day: str
    deeds: list[Deed] = field(default_factory=list)
    phase: str = ""
    """Where the capability stood at its end."""
    pages: list[tuple[str, str]] = field(default_factory=list)
    """(title, file beside the story)."""
    seconds: float = 0.0


class Story:
    """Keeps chapters, and tells each deed on the terminal as it happens."""

    def __init__(self, calendar: Calendar, console: Console) -> None:
        self.calendar, self.console = calendar, console
        self.chapters: list[Chapter] = []
        self._began = time.monotonic()

    def chapter(self, title: str, about: str) -> None:
        """Begin a chapter."""
        self._end()
        self.chapters.append(Chapter(title, about, f"{self.calendar():%d %b %Y}"))
        self.console.print(f"\n[bold]{title}[/bold]  ({self.chapters[-1].day})", highlight=False)

    def did(self, what: str, said: str = "") -> None:
        """Tell what was done, and what came of it."""
        self._tell(Deed(what, said, day=f"{self.calendar():%d %b %Y}"))

    def refused(self, what: str, deed: Callable[[], object]) -> str:
        """Try something that must not succeed; tell why not. Raises AssertionError if it was let through."""
        try:
            deed()
        except LifechartError as error:
            self._tell(Deed(what, str(error), refused=True, day=f"{self.calendar():%d %b %Y}"))
            return str(error)
        raise AssertionError(f"demo: not refused: {what}")

    def stands(self, phase: str) -> None:
        """Note where the capability stands at this point of the chapter."""
        self.chapters[-1].phase = phase

    def page(self, title: str, file: str) -> None:
        """Link a page from the chapter."""
        self.chapters[-1].pages.append((title, file))

    @property
    def num_refused(self) -> int:
        """How many deeds were refused."""
        return sum(deed.refused for chapter in self.chapters for deed in chapter.deeds)

    def write(self, path: Path, **about: object) -> None:
        """Write the story as one HTML file that loads nothing."""
        self._end()
        style = resources.files("lifechart.release.documents").joinpath("templates/style.css").read_text()
        environment = jinja2.Environment(
            loader=jinja2.PackageLoader("lifechart.demo"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        page = environment.get_template("story.html").render(
            chapters=self.chapters, num_refused=self.num_refused, style=Markup(style), **about
        )
        durable.write_bytes(path, page.encode())

    def _tell(self, deed: Deed) -> None:
        self.chapters[-1].deeds.append(deed)
        mark = "[red]refused[/red]" if deed.refused else "[green]done[/green]   "
        self.console.print(f"  {mark} {deed.what}", highlight=False)
        if deed.said:
            self.console.print(f"          {deed.said}", style="dim", highlight=False, markup=False)

    def _end(self) -> None:
        now = time.monotonic()
        if self.chapters and not self.chapters[-1].seconds:
            self.chapters[-1].seconds = now - self._began
        self._began = now
