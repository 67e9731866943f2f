"""All documents of a release in a folder: HTML and PDF, the card's XML, the diagram's SVG; stated in the ledger."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lifechart.core import durable
from lifechart.core.errors import InputError
from lifechart.ledger.statement import Statement, Subject
from lifechart.release.documents import card, consort, page
from lifechart.release.documents import print as printing
from lifechart.release.documents.checklist import Document, fill, load
from lifechart.release.documents.evidence import Dossier

INDEX = "index.html"
_CARD, _TRIAL, _PLAN, _PUBLIC = "model_card", "consort_ai", "change_plan", "public"
NAMES = (_PUBLIC, _CARD, "source_attributes", "tripod_ai", _TRIAL, "decide_ai", _PLAN)
"""Every document, in the order that the list shows them."""

_WANTED: dict[str, tuple[Callable[[Dossier], bool], str]] = {
    _TRIAL: (lambda dossier: dossier.trial is not None, "no trial of this release has been opened"),
    _PLAN: (lambda dossier: dossier.plan is not None, "no change plan is registered"),
}
"""What must be in evidence before a document means anything, and the reason given where it is not."""


@dataclass(frozen=True, slots=True)
class Written:
    """What came of writing."""

    documents: tuple[Document, ...]
    refused: tuple[tuple[str, str], ...]
    """(title, reason)."""


def make(dossier: Dossier, name: str) -> Document:
    """Return one document; raises InputError where it does not exist or has no evidence to be about."""
    if name not in NAMES:
        raise InputError("document", name, f"one of {list(NAMES)}")
    if reason := refusal(dossier, name):
        raise InputError("document", name, f"one with evidence behind it; {reason}")
    diagram = None
    if name == _TRIAL and dossier.trial is not None:
        diagram = consort.draw(consort.flow_of(dossier.trial, dossier.log))
    return fill(name, dossier, diagram=diagram, plain=name == _PUBLIC)


def refusal(dossier: Dossier, name: str) -> str:
    """Return why a document cannot be written, or nothing."""
    there, reason = _WANTED.get(name, (lambda _: True, ""))
    return "" if there(dossier) else reason


def make_all(dossier: Dossier) -> Written:
    """Return every document that has evidence behind it, and why the others have none."""
    refused = [(str(load(name)["title"]), reason) for name in NAMES if (reason := refusal(dossier, name))]
    made = tuple(make(dossier, name) for name in NAMES if not refusal(dossier, name))
    return Written(made, tuple(refused))


def write(dossier: Dossier, out: Path, *, actor: str) -> Written:
    """Write all documents into `out` and state their digests in the ledger."""
    written = make_all(dossier)
    files: dict[str, bytes] = {}
    others: dict[str, list[tuple[str, str]]] = {}
    for document in written.documents:
        files[f"{document.name}.html"] = page.render(document).encode()
        files[f"{document.name}.pdf"] = printing.pdf(document)
        others[document.name] = [("pdf", "PDF")]
        if document.name == _CARD:
            files[f"{document.name}.xml"] = card.xml(document, dossier)
            others[document.name].append(("xml", "XML"))
        if document.diagram is not None:
            files[f"{document.name}.svg"] = consort.svg(document.diagram).encode()
            others[document.name].append(("svg", "diagram"))
    files[INDEX] = page.render_index(written.documents, written.refused, others).encode()
    for name, content in files.items():
        durable.write_bytes(out / name, content)
    subjects = tuple(Subject(name, durable.file_digest(out / name)) for name in sorted(files))
    said = {
        "capability": dossier.declaration.name,
        "version": dossier.manifest.version,
        "manifest": dossier.manifest.digest,
        "refused": [title for title, _ in written.refused],
        "actor": actor,
    }
    dossier.log.append(Statement("document", subjects, said))
    return written
