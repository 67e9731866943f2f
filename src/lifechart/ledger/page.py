"""A trace as HTML: the part that both the steward's page and a file of its own show, and that file."""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import resources

import jinja2
from markupsafe import Markup

from lifechart.ledger.checkpoint import Checkpoint
from lifechart.ledger.drawing import BOX_HEIGHT, BOX_WIDTH, draw
from lifechart.ledger.graph import Graph


def body(graph: Graph, link: Callable[[str], str]) -> Markup:
    """Return drawing and tables; `link` gives the address of a digest."""
    template = _environment().get_template("trace_body.html")
    shown = {"graph": graph, "drawing": draw(graph), "link": link}
    return Markup(template.render(shown, box_width=BOX_WIDTH, box_height=BOX_HEIGHT))


def render(graph: Graph, head: Checkpoint) -> str:
    """Return a page of its own that loads nothing; its links lead to its own tables."""
    node = graph.nodes[graph.start]
    return (
        _environment()
        .get_template("trace.html")
        .render(
            graph=graph,
            title=f"What {node.name} rests on, and what rests on it",
            css=Markup(resources.files("lifechart.ledger").joinpath("templates/trace.css").read_text()),
            body=body(graph, lambda digest: f"#n-{digest[:12]}"),
            origin=head.origin,
            size=f"{head.size:,}",
        )
    )


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lifechart.ledger"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["capitalize_first"] = lambda text: text[:1].upper() + text[1:]
    return environment
