"""The model card as XML by the schema of the Coalition for Health AI (applied model card v0.2)."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree

import orjson

from lifechart.core.report import EVERYONE
from lifechart.core.suppression import small
from lifechart.release.documents import worth
from lifechart.release.documents.checklist import Document, Item
from lifechart.release.documents.evidence import Dossier, Open

NAMESPACE = "https://mc.chai.org/v0.2/schema.xsd"
_METRICS = ("UsefulnessUsabilityEfficacy", "FairnessEquity", "SafetyReliability")
_PERCENT = 95


def xml(document: Document, dossier: Dossier) -> bytes:
    """Return the card; the numbers of the document's items are the paths of its elements."""
    ElementTree.register_namespace("", NAMESPACE)
    root = ElementTree.Element(_name("AppliedModelCard"))
    for item in document.items:
        element = _at(root, item.number)
        if item.number.endswith("/Results"):
            _results(element, item.number.split("/")[1], dossier)
        elif item.number.endswith("/Keywords"):
            for keyword in _keywords(dossier):
                ElementTree.SubElement(element, _name("Keyword")).text = keyword
        else:
            element.text = text_of(item)
    sources = "\n".join(str(source) for source in document.sources)
    _at(root, "Bibliography").text = f"Evidence behind this card, {document.as_of}:\n{sources}"
    ElementTree.indent(root)
    content: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return content + b"\n"


def text_of(item: Item) -> str:
    """Return what stands in an element: what is known, and what is open and for whom."""
    return " ".join([*(said.text for said in item.said), *([open_words(item.open)] if item.open else [])])


def open_words(left: Open) -> str:
    """Return the mark of something that only a human can fill in.

    >>> open_words(Open("data steward", "Name who paid."))
    '[Open, for the data steward: Name who paid.]'
    """
    return f"[Open, for the {left.who}: {left.ask}]"


def _keywords(dossier: Dossier) -> list[str]:
    names = dossier.report.outcome_names
    outcomes = sorted({names.get(outcome, outcome) for outcome, _ in dossier.manifest.released})
    return [dossier.declaration.title, *outcomes]


def _results(element: ElementTree.Element, part: str, dossier: Dossier) -> None:
    """Add every figure of a part; one that says so where nothing was measured."""
    figures = list(_figures(part, dossier)) or [("Nothing measured", {"kind": "open"})]
    for label, value in figures:
        result = ElementTree.SubElement(element, _name("MetricResult"))
        ElementTree.SubElement(result, _name("Label")).text = label
        ElementTree.SubElement(result, _name("ValueJson")).text = orjson.dumps(value).decode()


def _figures(part: str, dossier: Dossier) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield (label, value as the card's JSON) of the Report's figures."""
    assert part in _METRICS, f"{part}: no part of a card's key metrics"
    released = set(dossier.manifest.released)
    name = {_METRICS[0]: "auroc", _METRICS[1]: "auroc", _METRICS[2]: "observed_expected"}[part]
    for row in dossier.report.select(name=name, forecaster=dossier.model, onset="new"):
        whole = row.subgroup == EVERYONE
        if (row.outcome, row.horizon_days) not in released or whole == (part == _METRICS[1]) or small(row.num_prompts):
            continue
        about = dossier.report.outcome_names.get(row.outcome, row.outcome)
        group = "" if whole else f", {row.subgroup.replace('=', ' ').replace('_', ' ')}"
        kind = "AUROC" if name == "auroc" else "Observed over expected"
        label = f"{kind}: {about} within {worth.days(row.horizon_days)}{group}"
        if row.interval is None:
            yield label, {"kind": "single", "value": row.value}
        else:
            bounds = {"lower": row.interval.low, "upper": row.interval.high, "level": _PERCENT}
            yield label, {"kind": "estimate_ci", "estimate": row.value, **bounds}


def _at(root: ElementTree.Element, path: str) -> ElementTree.Element:
    """Return the element at a path, made if it is not there."""
    element = root
    for part in path.split("/"):
        found = element.find(_name(part))
        element = found if found is not None else ElementTree.SubElement(element, _name(part))
    return element


def _name(tag: str) -> str:
    return f"{{{NAMESPACE}}}{tag}"
