"""A document as one self-contained HTML file in the look of the house, and the page that lists them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources

import jinja2
from markupsafe import Markup

from lifechart.release.documents import consort
from lifechart.release.documents.checklist import IN_PART, OPEN, STATED, Document

_CLASSES = {STATED: "stated", IN_PART: "part", OPEN: "open"}


def render(document: Document) -> str:
    """Return a document's HTML. It loads nothing: style and drawing are inside."""
    drawing = Markup(consort.svg(document.diagram)) if document.diagram else ""
    shown = {"document": document, "drawing": drawing, "classes": _CLASSES, "style": _style()}
    return _environment().get_template("document.html").render(shown)


def render_index(
    documents: Sequence[Document],
    refused: Sequence[tuple[str, str]],
    others: Mapping[str, Sequence[tuple[str, str]]],
) -> str:
    """Return the list of documents, the other forms of each ((ending, name) by document), and what was refused."""
    first = documents[0]
    about = {"subject": first.subject, "institution": first.institution, "as_of": first.as_of, "style": _style()}
    shown = {"documents": documents, "refused": refused, "others": others}
    return _environment().get_template("index.html").render(shown, **about)


@cache
def _style() -> Markup:
    return Markup(resources.files("lifechart.release.documents").joinpath("templates/style.css").read_text())


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lifechart.release.documents"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = lambda number: f"{number:,}"
    return environment
