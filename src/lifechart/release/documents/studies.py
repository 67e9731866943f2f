"""The sentences that registered protocols can make: validations, the trial of a release, and its change plan."""

from __future__ import annotations

from collections.abc import Callable

from lifechart.core.errors import GateRefused
from lifechart.core.suppression import shown
from lifechart.release.change_control import Envelope
from lifechart.release.documents.evidence import Dossier, Held, Said, Source, entry_source
from lifechart.release.protocol import Registered
from lifechart.release.trial.design import Design

Fact = Callable[[Dossier], list[Said]]


_PLAIN = {
    "stop for efficacy": "Care was better with it.",
    "stop for futility": "It did not show that care was better with it.",
    "stop for harm": "Care was worse with it.",
}


def validated(dossier: Dossier) -> list[Said]:
    """What came of registered validations of this model."""
    found = []
    for entry in dossier.validations:
        said = entry.statement.predicate
        outcome = "met its criteria" if said["met"] else f"did not meet them: {'; '.join(said['reasons'])}"
        text = (
            f"A protocol registered before anybody looked was carried out in {said['stage']} on "
            f"{shown(said['people'])} people, and {outcome}."
        )
        found.append(Said(text, (entry_source("validation", entry), _registration(dossier, said["protocol"]))))
    return found


def _registration(dossier: Dossier, original: str) -> Source:
    found = dossier.log.find(kind="protocol", digest=original)
    if not found:
        raise GateRefused(f"documents: protocol {original[:16]}… was carried out and is not registered")
    return entry_source("protocol", found[0])


def population(dossier: Dossier) -> list[Said]:
    """Say whom registered protocols ask about: of the trial, or that of a validation which was met."""
    if dossier.trial is not None:
        return [Said(f"{dossier.trial.registered.protocol.population}.", dossier.file("trial protocol"))]
    return []


def ethics(dossier: Dossier) -> list[Said]:
    """Who had to sign the trial's protocol before it could be registered."""
    if dossier.trial is None:
        return []
    text = "Its protocol was registered, which takes the signatures of ethics board and medical officer."
    return [Said(text, (entry_source("registration", dossier.trial.registered.first),))]


def in_trial(words: Callable[[Held], str]) -> Fact:
    """Return a fact of the trial's protocol; nothing where there is no trial."""

    def fact(dossier: Dossier) -> list[Said]:
        if dossier.trial is None or not (text := words(dossier.trial)):
            return []
        return [Said(text, dossier.file("trial protocol"))]

    return fact


def trial_course(dossier: Dossier) -> list[Said]:
    """How far the trial has come."""
    if dossier.trial is None or dossier.trial.course.opened is None:
        return []
    course, opened = dossier.trial.course, dossier.trial.course.opened
    last = dossier.log.find(kind="trial", digest=dossier.trial.registered.original)[-1]
    text = (
        f"Opened {opened.statement.created[:10]}. {len(course.enrolled):,} enrolled, "
        f"{len(course.left):,} withdrew, "
        f"{len(course.outcomes):,} outcomes recorded, {len(course.looks):,} interim looks."
    )
    ended = f" Ended: {course.closed}." if course.closed else " It is running."
    return [Said(text + ended, (entry_source("trial", opened), entry_source("trial", last)))]


def trial_result(dossier: Dossier) -> list[Said]:
    """What the trial found."""
    if dossier.trial is None or dossier.trial.concluded is None:
        return []
    said = dossier.trial.concluded.statement.predicate
    low, high = said["interval"]
    effect = f"{said['estimate']:.3f} (95% {low:.3f} to {high:.3f})"
    text = (
        f"Intention to treat, {design_of(dossier.trial).outcome}: difference {effect}; "
        f"{said['num_intervention']:,} under the intervention, {said['num_control']:,} controls, "
        f"{said['num_missing']:,} without an outcome. The plan says: {said['advice']}."
    )
    return [Said(text, (entry_source("trial, concluded", dossier.trial.concluded),))]


def in_plain_words(dossier: Dossier) -> list[Said]:
    """Whether the trial found care better, for the public."""
    if dossier.trial is None or dossier.trial.concluded is None:
        return []
    said = dossier.trial.concluded.statement.predicate
    people = shown(said["num_intervention"] + said["num_control"])
    verdict = _PLAIN.get(said["advice"], "It ended before it could tell.")
    text = f"A trial decided by lot for whom it was used, and compared {people} people. {verdict}"
    return [Said(text, (entry_source("trial, concluded", dossier.trial.concluded),))]


def harms(dossier: Dossier) -> list[Said]:
    """Adverse events of the trial."""
    if dossier.trial is None or dossier.trial.course.opened is None:
        return []
    events = dossier.trial.course.adverse.values()
    text = (
        f"{len(events):,} adverse events reported in the trial, {sum(event.serious for event in events):,} serious, "
        f"{sum(event.serious and event.suspected for event in events):,} of these suspected of the intervention."
    )
    last = dossier.log.find(kind="trial", digest=dossier.trial.registered.original)[-1]
    return [Said(text, (entry_source("trial", dossier.trial.course.opened), entry_source("trial", last)))]


def change_plan(dossier: Dossier) -> list[Said]:
    """What may be changed without a new trial."""
    if dossier.plan is None or dossier.plan.protocol.envelope is None:
        return []
    allowed = "; ".join(dossier.plan.protocol.envelope.modifications)
    text = f"Under a registered change plan: {allowed}."
    return [Said(text, dossier.file("change plan"))]


def of_plan(words: Callable[[Registered], str]) -> Fact:
    """Return a fact of the change plan; nothing where there is none."""

    def fact(dossier: Dossier) -> list[Said]:
        return [Said(words(dossier.plan), dossier.file("change plan"))] if dossier.plan is not None else []

    return fact


def plan_registered(dossier: Dossier) -> list[Said]:
    """When and as what the plan was sealed."""
    if dossier.plan is None:
        return []
    plan = dossier.plan
    text = f"Registered {plan.first.statement.created[:10]}, amended {plan.amendments} times, sealed as {plan.digest}."
    return [Said(text, (entry_source("registration", plan.first), entry_source("seal", plan.entry)))]


def bounds(plan: Registered) -> str:
    """How much worse no figure may get."""
    envelope = _envelope(plan)
    return (
        f"No released pair may lose more than {envelope.max_auroc_drop:g} AUROC against its predecessor, nor the mean "
        f"more than {envelope.max_mean_auroc_drop:g}; |log of observed over expected| stays within "
        f"{envelope.max_calibration_gap:g}; at most {envelope.max_pairs_lost} pairs are lost; kept fixed: "
        f"{', '.join(envelope.fixed) or 'nothing'}."
    )


def design(held: Held) -> str:
    """How participants come to an arm."""
    design = design_of(held)
    return (
        f"Randomised by {design.unit.value}, one to one, strata: {', '.join(design.strata)}; primary outcome: "
        f"{design.outcome}; one-sided alpha {design.alpha:g}, power {design.power:g} for a difference of "
        f"{design.effect:g}."
    )


def size(held: Held) -> str:
    """Sample size and looks."""
    looks = ", ".join(f"{look:g}" for look in design_of(held).looks)
    return f"{design_of(held).participants():,} participants planned, looks at information {looks}."


def blocks(held: Held) -> str:
    """How allocation is made unforeseeable."""
    if design_of(held).clusters:
        return "Clusters are allotted by lot from a secret that was drawn once."
    sizes = ", ".join(map(str, design_of(held).blocks))
    return f"Permuted blocks of random size ({sizes}) within strata, from a secret that was drawn once."


def concealment(dossier: Dossier) -> list[Said]:
    """How the list was kept from those who enrol."""
    if dossier.trial is None or dossier.trial.course.opened is None:
        return []
    text = (
        "The list follows from a secret that the trial committed to by hash before the first enrolment: "
        f"{dossier.trial.course.commitment}."
    )
    return [Said(text, (entry_source("trial, opened", dossier.trial.course.opened),))]


def trial_registered(dossier: Dossier) -> list[Said]:
    """When and as what the protocol was sealed, and the amendments."""
    if dossier.trial is None:
        return []
    held = dossier.trial.registered
    text = f"Registered {held.first.statement.created[:10]} as {held.original}, amended {held.amendments} times."
    return [Said(text, (entry_source("registration", held.first), entry_source("seal", held.entry)))]


def _envelope(plan: Registered) -> Envelope:
    envelope = plan.protocol.envelope
    assert envelope is not None, "a change plan has an envelope"
    return envelope


def design_of(held: Held) -> Design:
    """Return the design that the trial's protocol states."""
    design = held.registered.protocol.trial
    assert design is not None, "a trial has a design"
    return design


TRIAL_FACTS = {
    "validated": validated,
    "population": population,
    "ethics": ethics,
    "trial title": in_trial(lambda held: held.registered.protocol.title),
    "trial population": in_trial(lambda held: f"{held.registered.protocol.population}."),
    "trial design": in_trial(design),
    "trial size": in_trial(size),
    "trial analysis": in_trial(lambda held: f"{held.registered.protocol.analysis}."),
    "trial stopping": in_trial(lambda held: f"{held.registered.protocol.stopping}."),
    "trial subgroups": in_trial(lambda held: ", ".join(held.registered.protocol.subgroups)),
    "trial blocks": in_trial(blocks),
    "trial concealment": concealment,
    "trial registered": trial_registered,
    "trial course": trial_course,
    "trial result": trial_result,
    "trial in plain words": in_plain_words,
    "harms": harms,
}
PLAN_FACTS = {
    "change plan": change_plan,
    "plan registered": plan_registered,
    "plan title": of_plan(lambda plan: plan.protocol.title),
    "plan modifications": of_plan(lambda plan: "; ".join(_envelope(plan).modifications) + "."),
    "plan bounds": of_plan(bounds),
    "plan impact": of_plan(lambda plan: _envelope(plan).impact),
    "plan population": of_plan(lambda plan: f"{plan.protocol.population}."),
    "plan analysis": of_plan(lambda plan: f"{plan.protocol.analysis}."),
    "plan sample": of_plan(
        lambda plan: f"At least {plan.protocol.min_patients:,} patients and {plan.protocol.min_events:,} events."
    ),
}
