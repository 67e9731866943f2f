"""A document as PDF (A4), with embedded fonts; the same evidence gives the same bytes."""

from __future__ import annotations

import unicodedata
from functools import cache, partial
from io import BytesIO
from typing import Any
from xml.sax.saxutils import escape

from reportlab.graphics.shapes import Drawing, Line, Rect, String
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import Flowable, KeepTogether, Paragraph, SimpleDocTemplate, Spacer

from lifechart.release.documents import consort
from lifechart.release.documents.checklist import Document, Item
from lifechart.release.documents.consort import Diagram

_MARGIN, _FACE, _BOLD = 20 * mm, "Vera", "VeraBd"
_INK, _QUIET, _WASH, _FAIR = (colors.HexColor(each) for each in ("#212b32", "#4c6272", "#f0f4f5", "#8a4b08"))


def pdf(document: Document) -> bytes:
    """Return the document as PDF."""
    style = _styles()
    story: list[Flowable] = [
        _paragraph(document.title, style["title"]),
        _paragraph(f"{document.subject}. {document.institution}.", style["body"]),
        _paragraph(document.about, style["body"]),
        _paragraph(f"{document.standard}. As of {document.as_of}.", style["from"]),
    ]
    if document.diagram is not None:
        story += [Spacer(1, 4 * mm), _drawing(document.diagram)]
    for section, items in document.sections:
        first, *rest = (_item(item, document.plain) for item in items)
        story.append(KeepTogether([_paragraph(section, style["section"]), *first]))
        story += [flowable for flowables in rest for flowable in flowables]
    story.append(_paragraph("Evidence", style["section"]))
    for source in document.sources:
        where = f", ledger entry {source.entry}" if source.entry is not None else ""
        story.append(_paragraph(f"{source.name}{where}: {source.digest}", style["from"]))
    content = BytesIO()
    made = SimpleDocTemplate(
        content,
        pagesize=A4,
        leftMargin=_MARGIN,
        rightMargin=_MARGIN,
        topMargin=_MARGIN,
        bottomMargin=_MARGIN,
        title=f"{document.title}: {document.subject}",
        author=document.institution,
        lang="en",
        invariant=1,
    )
    foot = partial(_foot, f"{document.title}, {document.subject}. {document.as_of}.")
    made.build(story, onFirstPage=foot, onLaterPages=foot)
    return content.getvalue()


def _item(item: Item, plain: bool) -> list[Flowable]:
    style = _styles()
    head = item.topic if plain else f"{item.number}  {item.topic} [{item.status}]"
    parts: list[Flowable] = [_paragraph(head, style["item"])]
    for said in item.said:
        parts.append(_paragraph(said.text, style["body"]))
        if not plain:
            parts.append(_paragraph("From: " + "; ".join(map(str, said.sources)), style["from"]))
    if item.open is not None:
        wanted = item.open.absent if plain else f"Open, for the {item.open.who}. {item.open.ask}"
        parts.append(_paragraph(wanted, style["open"]))
    return parts


def _drawing(diagram: Diagram) -> Drawing:
    """Draw the flow of participants; a PDF's origin is at the bottom."""
    scale = (A4[0] - 2 * _MARGIN) / consort.WIDTH
    drawing = Drawing(consort.WIDTH * scale, diagram.height * scale)
    drawing.scale(scale, scale)
    for x1, y1, x2, y2 in diagram.arrows:
        drawing.add(Line(x1, diagram.height - y1, x2, diagram.height - y2, strokeColor=_QUIET, strokeWidth=1.5))
    for box in diagram.boxes:
        low = diagram.height - box.y - box.height
        drawing.add(Rect(box.x, low, box.width, box.height, fillColor=_WASH, strokeColor=_QUIET))
        for line, (x, y) in zip(box.lines, consort.positions(box), strict=True):
            drawing.add(
                String(x, diagram.height - y, line, textAnchor="middle", fontName=_FACE, fontSize=13, fillColor=_INK)
            )
    return drawing


def _paragraph(text: str, style: ParagraphStyle) -> Paragraph:
    return Paragraph(escape(_printable(text)), style)


def _printable(text: str) -> str:
    """Return text in characters that the font has: others lose their accent, or become a question mark."""
    known = pdfmetrics.getFont(_FACE).face.charToGlyph
    return "".join(char if ord(char) in known else _nearest(char, known) for char in text)


def _nearest(char: str, known: dict[int, int]) -> str:
    bare = [part for part in unicodedata.normalize("NFKD", char) if ord(part) in known]
    return "".join(bare) or "?"


def _foot(words: str, canvas: Any, template: Any) -> None:
    canvas.saveState()
    canvas.setFont(_FACE, 7)
    canvas.setFillColor(_QUIET)
    canvas.drawString(_MARGIN, 11 * mm, _printable(words))
    canvas.drawRightString(A4[0] - _MARGIN, 11 * mm, str(template.page))
    canvas.restoreState()


@cache
def _styles() -> dict[str, ParagraphStyle]:
    for name in (_FACE, _BOLD):
        pdfmetrics.registerFont(TTFont(name, f"{name}.ttf"))
    body = ParagraphStyle(
        "body", fontName=_FACE, fontSize=9, leading=12.5, textColor=_INK, spaceAfter=3, splitLongWords=1
    )
    return {
        "body": body,
        "title": ParagraphStyle("title", body, fontName=_BOLD, fontSize=18, leading=22, spaceAfter=6),
        "section": ParagraphStyle("section", body, fontName=_BOLD, fontSize=13, leading=16, spaceBefore=12),
        "item": ParagraphStyle("item", body, fontName=_BOLD, spaceBefore=7, spaceAfter=1),
        "from": ParagraphStyle("from", body, fontSize=7, leading=9.5, textColor=_QUIET),
        "open": ParagraphStyle("open", body, textColor=_FAIR, leftIndent=8),
    }
