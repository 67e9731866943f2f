"""The flow of a trial's participants (CONSORT 2010), counted from the ledger; it reconciles or is not drawn.

Arms are told only once the trial has opened its secret: each is recomputed here from it, and must bear out what the
trial concluded. Before that the diagram shows both arms together, so that it gives nothing away.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from lifechart.core.errors import IntegrityError
from lifechart.ledger.log import Log
from lifechart.release.documents.evidence import Held
from lifechart.release.trial import allocation
from lifechart.release.trial.course import Course
from lifechart.release.trial.design import Design, Unit

WIDTH, _TOP, _BOX, _GAP, _LINE = 720, 10, 84, 34, 17
_INTERVENTION, _CONTROL = "Intervention", "Control"


@dataclass(frozen=True, slots=True)
class Arm:
    """What became of those in one arm, or of all while the arms are secret."""

    name: str
    allotted: int
    withdrew: int
    missing: int
    """Without an outcome when the arms were compared, or until now."""
    analysed: int


@dataclass(frozen=True, slots=True)
class Flow:
    """A trial's participants, from enrolment to analysis."""

    enrolled: int
    arms: tuple[Arm, ...]
    told: bool
    """Whether the arms are known to everybody."""
    concluded: bool


@dataclass(frozen=True, slots=True)
class Box:
    """A box of the drawing: its corner, size and lines of text."""

    x: float
    y: float
    width: float
    height: float
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Diagram:
    """The drawing: boxes, and arrows between points."""

    flow: Flow
    boxes: tuple[Box, ...]
    arrows: tuple[tuple[float, float, float, float], ...]
    height: float


def flow_of(held: Held, log: Log) -> Flow:
    """Count a trial's participants; raises IntegrityError where the counts do not bear each other out."""
    course = Course()
    for entry in log.find(kind="trial", digest=held.registered.original):
        said = entry.statement.predicate
        if said["protocol"] == held.registered.original and not course.concluded:
            course.take(entry, said)
    if strangers := len((course.outcomes.keys() | course.left) - course.enrolled.keys()):
        raise IntegrityError(f"trial: {strangers} people have an outcome or withdrew, and were never enrolled")
    secret = held.course.secret
    if secret:
        design = held.registered.protocol.trial
        assert design is not None, "a trial has a design"
        arms = arms_of(bytes.fromhex(secret), design, course)
        parts = [(name, [who for who, arm in arms.items() if arm == number]) for number, name in _NAMES]
    else:
        parts = [("Both arms", list(course.enrolled))]
    flow = Flow(
        len(course.enrolled),
        tuple(_arm(name, people, course) for name, people in parts),
        bool(secret),
        bool(course.concluded),
    )
    reconcile(flow, held)
    return flow


def reconcile(flow: Flow, held: Held) -> None:
    """Raise IntegrityError unless every count is the sum of its parts, and what the trial concluded says the same."""
    if sum(arm.allotted for arm in flow.arms) != flow.enrolled:
        raise IntegrityError(f"trial: {flow.enrolled} enrolled, but the arms add up to another number")
    for arm in flow.arms:
        if arm.analysed + arm.missing != arm.allotted:
            raise IntegrityError(f"trial: {arm.name}: analysed and missing are not the {arm.allotted} allotted")
    if held.concluded is None:
        return
    said = held.concluded.statement.predicate
    analysed, missing = sum(arm.analysed for arm in flow.arms), sum(arm.missing for arm in flow.arms)
    concluded = said["num_intervention"] + said["num_control"]
    if (analysed, missing) != (concluded, said["num_missing"]):
        raise IntegrityError(
            f"trial: the ledger counts {analysed} outcomes and {missing} missing, the conclusion says {concluded} and "
            f"{said['num_missing']}"
        )
    by_name = {arm.name: arm.analysed for arm in flow.arms}
    if flow.told and (by_name[_INTERVENTION], by_name[_CONTROL]) != (said["num_intervention"], said["num_control"]):
        raise IntegrityError("trial: arms recomputed from the opened secret are not those that the trial compared")


def arms_of(secret: bytes, design: Design, course: Course) -> dict[str, int]:
    """Return everybody's arm from the opened secret; raises IntegrityError if it is not the one committed to."""
    if allocation.commitment(secret) != course.commitment:
        raise IntegrityError("trial: the opened secret is not the one that it committed to")
    if design.unit is Unit.CLUSTER:
        allotted = allocation.clusters(secret, design.clusters)
        return {who.participant: allotted[who.cluster] for who in course.enrolled.values()}
    if design.unit is Unit.STEPPED_WEDGE:
        steps = allocation.steps(secret, design.clusters, design.steps)
        return {who.participant: int(who.period >= steps[who.cluster]) for who in course.enrolled.values()}
    return {
        who.participant: allocation.arm_of(secret, who.stratum, design.blocks, who.position)
        for who in course.enrolled.values()
    }


def draw(flow: Flow) -> Diagram:
    """Lay the diagram out: enrolment, allocation, follow-up, analysis."""
    top = Box(WIDTH / 2 - 150, _TOP, 300, 44, (f"Enrolled and randomised (n = {flow.enrolled:,})",))
    boxes, arrows = [top], []
    width = 330.0 if len(flow.arms) > 1 else 360.0
    for place, arm in enumerate(flow.arms):
        middle = WIDTH / 2 if len(flow.arms) == 1 else (10 + width / 2, WIDTH - 10 - width / 2)[place]
        end = "Analysed" if flow.concluded else "With an outcome so far"
        stages = (
            (f"{arm.name}: allotted (n = {arm.allotted:,})",),
            (f"Withdrew (n = {arm.withdrew:,})", f"Without an outcome (n = {arm.missing:,})"),
            (f"{end} (n = {arm.analysed:,})",),
        )
        above = (WIDTH / 2, top.y + top.height)
        for number, lines in enumerate(stages):
            y = _TOP + 44 + _GAP + number * (_BOX + _GAP)
            boxes.append(Box(middle - width / 2, y, width, _BOX, lines))
            arrows.append((*above, middle, y))
            above = (middle, y + _BOX)
    return Diagram(flow, tuple(boxes), tuple(arrows), _TOP + 44 + 3 * (_GAP + _BOX) + _TOP)


def svg(diagram: Diagram) -> str:
    """Return the drawing as SVG with its text as text; it says in words what it shows."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {diagram.height:g}" role="img" '
        f'aria-label="{escape(in_words(diagram.flow))}" font-family="Arial, sans-serif" font-size="14">',
        '<defs><marker id="tip" markerWidth="9" markerHeight="9" refX="8" refY="4" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z" fill="#4c6272"/></marker></defs>',
    ]
    for x1, y1, x2, y2 in diagram.arrows:
        parts.append(
            f'<path d="M{x1:g} {y1:g} L{x2:g} {y2:g}" stroke="#4c6272" stroke-width="1.5" marker-end="url(#tip)"/>'
        )
    for box in diagram.boxes:
        parts.append(
            f'<rect x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" height="{box.height:g}" fill="#f0f4f5" '
            'stroke="#4c6272" stroke-width="1.5"/>'
        )
        for line, (x, y) in zip(box.lines, positions(box), strict=True):
            parts.append(f'<text x="{x:g}" y="{y:g}" text-anchor="middle" fill="#212b32">{escape(line)}</text>')
    return "".join([*parts, "</svg>"])


def positions(box: Box) -> list[tuple[float, float]]:
    """Return where each line's middle stands on its base line."""
    first = box.y + box.height / 2 - _LINE * (len(box.lines) - 1) / 2 + 5
    return [(box.x + box.width / 2, first + _LINE * number) for number in range(len(box.lines))]


def in_words(flow: Flow) -> str:
    """Return the diagram as sentences."""
    end = "analysed" if flow.concluded else "with an outcome so far"
    arms = " ".join(
        f"{arm.name}: {arm.allotted:,} allotted, {arm.withdrew:,} withdrew, {arm.missing:,} without an outcome, "
        f"{arm.analysed:,} {end}."
        for arm in flow.arms
    )
    return f"{flow.enrolled:,} enrolled and randomised. {arms}"


_NAMES = ((1, _INTERVENTION), (0, _CONTROL))


def _arm(name: str, people: list[str], course: Course) -> Arm:
    with_outcome = sum(who in course.outcomes for who in people)
    withdrew = sum(who in course.left for who in people)
    return Arm(name, len(people), withdrew, len(people) - with_outcome, with_outcome)
