"""The way up: shadow, a registered validation, a randomised trial, clinicians; an alarm; institutions, public."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np

from lifechart.core.capability import Phase
from lifechart.data import shards
from lifechart.demo.foundation import HORIZONS
from lifechart.demo.stages import STAFF, Life
from lifechart.demo.ward import STEWARD
from lifechart.evaluate import examine
from lifechart.evaluate.watch import watch
from lifechart.model.forecaster import load_forecaster
from lifechart.release import validation
from lifechart.release.shadow.course import Course
from lifechart.release.shadow.queue import Verdict, adjudicate
from lifechart.release.shadow.sealing import Opener, Seals
from lifechart.release.trial.conduct import Trial
from lifechart.serve.maturing import Matured, mature

ACTS, SOONEST, LATEST = 0.6, 2.0, 20.0
"""The demonstration's one assumption: a clinician who sees the risks orders the test with this probability, within so
many days. The simulated hospital knows what happens to patients, not what reading an answer does to people."""
_MOST_DAYS = 182.0
_SHADOW_DAYS = 35
_TRIAL_DAYS = 30


def shadow(life: Life) -> None:
    """Answer on living charts, sealed until the labels mature."""
    story, shelf, house = life.story, life.shelf, life.served()
    life.calendar.let_pass(30)
    story.chapter(
        "Shadow",
        "Answers are made on living charts and kept from sight: sealed to a key that the ward does not hold, one box a "
        "horizon, each until its time is up.",
    )
    life.approve(Phase.SHADOW, "dr.okafor", "sam.steward")
    story.refused(
        "Into shadow without the ethics board",
        lambda: shelf.set_phase("risk", Phase.SHADOW, actor=STEWARD, reason="it went well"),
    )
    life.enter(Phase.SHADOW, "ethics.chair", reason="it works on test patients")
    living = life.ward.living(life.today, life.newcomers)[: life.scale.answers]
    house.open_records(life.ward.extract("shadow", life.today, [number for number, _ in living]))
    task = life.bar.add_task("shadow: answers", total=len(living))
    shown = 0
    for _, patient in living:
        shown += house.ask(patient).answer is not None
        life.calendar.let_pass(_SHADOW_DAYS / len(living))
        life.bar.advance(task)
    life.bar.remove_task(task)
    story.did(f"{len(living)} patients are asked about over {_SHADOW_DAYS} days", f"answers shown to anybody: {shown}")
    seals, opener = Seals.open(life.settings), Opener.of(life.settings)
    first = next(seals.all())
    story.refused("Opening the first answer before its label is mature", lambda: opener.open(first, life.log.now()))
    story.refused("Into trial on the strength of it", lambda: life.approve(Phase.TRIAL, "dr.okafor"))
    life.page("The steward's page in shadow", "steward-shadow.html", house.page(STEWARD, "/steward"))


def validate(life: Life) -> None:
    """Carry a sealed protocol out on people nobody had looked at."""
    story, folder = life.story, life.folder
    story.chapter(
        "A registered validation",
        "What will be examined, on whom and by what rule is sealed before anybody looks; then it is carried out once.",
    )
    path = life.file("validation", auroc=life.scale.auroc)
    story.refused("A protocol that nobody signed", lambda: life.registry.register(path, actor=STEWARD))
    registered = life.register(path)
    story.did("The protocol is sealed", f"{registered.protocol.title}; {registered.original[:16]}…")
    life.calendar.let_pass(120)
    fhir = life.ward.extract("validation", life.today, life.newcomers)
    dataset = life.ward.ingest(fhir, folder / "datasets" / "validation")
    digest = shards.dataset_digest(dataset)
    validation.prepare(life.registry, registered.original, digest)
    report = examine.examine(
        dataset, load_forecaster(folder / "models/first"), folder / "reports/validation", log=life.log,
        baselines=False, horizons=HORIZONS, registered=registered.original, seed=life.seed, progress=False,
    )  # fmt: skip
    found = validation.conclude(life.log, life.registry, registered, report, actor="dr.li")
    assert found.met, f"demo: the validation was not met: {found.reasons}"
    story.did("Two clinics that the model never saw", f"met: {len(found.verdict.released)} pairs held")
    story.refused(
        "Carrying it out a second time", lambda: validation.prepare(life.registry, registered.original, digest)
    )
    path.write_text(path.read_text().replace(f"at_least = {life.scale.auroc}", "at_least = 0.5"))
    for name in ("ethics.chair", "dr.okafor"):
        life.registry.sign(path, life.keys[name], office=STAFF[name][0], comment="easier")
    story.refused(
        "Amending it now that the data are known",
        lambda: life.registry.amend(registered.original, path, actor=STEWARD, reason="an easier limit"),
    )
    life.page(
        "The validation's report", "report-validation.html", (folder / "reports/validation/report.html").read_bytes()
    )


def labels(life: Life) -> None:
    """Let the labels mature, open the boxes whose time is up, and look at every disagreement."""
    story, house = life.story, life.served()
    seals, opener = Seals.open(life.settings), Opener.of(life.settings)
    due = sorted(seal.until for seal in seals.all() if seal.horizon_days <= 365)
    life.calendar.until(due[-1] + timedelta(days=3))
    story.chapter(
        "Labels mature", "The charts are read again. What was said is opened, and held against what came of it."
    )
    house.open_records(life.ward.extract("follow-up", life.today, life.newcomers))
    log, auditor = life.log, house.house.auditor
    matured = house.run(mature(log, house.house.ehr, seals, opener, auditor, capability="risk", progress=False))
    assert isinstance(matured, Matured)
    story.did(
        f"{matured.labelled} boxes are opened and labelled", f"{matured.sealed} stay sealed: their time is not up"
    )
    model = life.shelf.current("risk").manifest.model_digest
    course = Course(life.log)
    queue = course.of(model).queue
    if queue:
        story.refused(
            "Into trial before anybody looked at the disagreements", lambda: life.approve(Phase.TRIAL, "dr.okafor")
        )
    for each in queue:
        adjudicate(life.log, each.answer, each.outcome, each.horizon_days, Verdict.RECORD_RIGHT, actor="dr.li")
    found = course.of(model)
    story.did(
        f"dr.li looks at {len(queue)} claims that came out otherwise",
        f"uptime {found.uptime:.1%}, {found.alerts_per_100:.0f} alerts for 100 answers, labels known "
        f"{found.lag_days:.0f} days after they were due, {found.observed} came true of {found.expected:.1f} expected",
    )
    life.page("The steward's page when labels are in", "steward-labels.html", house.page(STEWARD, "/steward"))


def trial(life: Life) -> None:
    """Randomise: half of the participants' clinicians see the answers."""
    story, house = life.story, life.served()
    story.chapter(
        "Trial",
        "Who sees answers is drawn by lot. The assumption of the simulation: a clinician who sees them orders the test "
        f"in {ACTS:.0%} of cases, within {SOONEST:.0f} to {LATEST:.0f} days. All else is the patients' own record.",
    )
    life.enter(Phase.TRIAL, "dr.okafor", "sam.steward", "ethics.chair", reason="shadow and validation held")
    registered = life.register(life.file("trial", effect=life.scale.effect))
    running = Trial(registered, life.registry.folder, life.log, life.people)
    manifest = life.shelf.current("risk").manifest.digest
    secret = hashlib.sha256(f"allocation {life.seed}".encode()).digest
    running.open(manifest=manifest, actor="dr.li", entropy=lambda size: secret()[:size])
    story.did(
        "The trial is opened, its allocation drawn and committed to",
        f"{running.design.participants()} participants planned; commitment {running.course.commitment[:16]}…",
    )
    candidates = life.ward.living(life.today, life.residents)
    auditor, rng = house.house.auditor, np.random.default_rng(life.seed)
    needed = running.design.participants()
    assert len(candidates) > needed, f"demo: {len(candidates)} candidates for {needed} places"
    outsider = auditor.patient(candidates[-1][1])
    story.refused("Asking for the arm of somebody who is not enrolled", lambda: running.arm(outsider))
    half = int(np.ceil(running.design.looks[0] * needed))
    task = life.bar.add_task("trial: participants", total=needed)
    for number, (resident, patient) in enumerate(candidates[:needed]):
        who = auditor.patient(patient)
        running.enrol(who, manifest=manifest, actor="dr.li")
        days = life.ward.days_to_next_test(resident, life.calendar.local(), _MOST_DAYS)
        acts, sooner = rng.random() < ACTS, rng.uniform(SOONEST, LATEST)
        if running.arm(who) == 1 and acts:
            days = min(days, sooner)
        running.record(who, days, actor="dr.li")
        life.calendar.let_pass(_TRIAL_DAYS / needed)
        life.bar.advance(task)
        if number == 0:
            story.refused(
                "Enrolling the same person again", partial(running.enrol, who, manifest=manifest, actor="dr.li")
            )
            story.refused("The investigator looks at the arms", lambda: running.look(life.keys["dr.li"]))
            story.refused("The monitoring board looks before it is time", lambda: running.look(life.keys["board.one"]))
        if number == 5:
            _adverse(life, running, who)
        if number + 1 == half:
            look = running.look(life.keys["board.one"])
            story.did("The monitoring board alone sees the interim look", f"the plan says: {look.advice}")
            if look.advice != "continue":
                break
    life.bar.remove_task(task)
    _conclude(life, running)


def _adverse(life: Life, running: Trial, who: str) -> None:
    occurred = life.calendar() - timedelta(hours=5)
    receipt = running.adverse(who, serious=True, fatal=False, suspected=True, occurred=occurred, actor="dr.li")
    due = running.course.adverse[receipt.index].due
    life.story.did("A serious adverse event is suspected of the intervention", f"to go further by {due:%d %b %Y}")
    manifest = running.course.manifest
    life.story.refused(
        "Enrolling while the trial is paused", lambda: running.enrol("0" * 64, manifest=manifest, actor="dr.li")
    )
    running.reported(receipt.index, to="ethics board", actor="dr.li")
    running.resume(life.keys["board.one"], "reviewed: a fall at home, before the answer was read")
    life.story.did("The monitoring board reviews it and lets the trial go on")


def _conclude(life: Life, running: Trial) -> None:
    story, house = life.story, life.served()
    story.refused("The allocation is opened while the trial runs", lambda: running.reveal(actor="dr.li"))
    running.close("its planned end, or as the look advised", actor="dr.li")
    running.conclude(actor="dr.li")
    running.reveal(actor="dr.li")
    result = running.result()
    story.did(
        "The trial ends, and its allocation is opened for anybody to recompute",
        f"{result.estimate:+.1f} days ({result.low:+.1f} to {result.high:+.1f}), {result.num_intervention} and "
        f"{result.num_control} participants; the plan says: {running.course.concluded}",
    )
    assert running.course.concluded == "stop for efficacy", "demo: the trial did not find the assumed effect"
    diagram = house.page(STEWARD, "/steward/risk/documents/consort_ai")
    life.page("CONSORT-AI, with the flow of participants", "consort.html", diagram)


def clinicians(life: Life) -> None:
    """Show it to the roles that it is for."""
    story, house = life.story, life.served()
    life.calendar.let_pass(14)
    story.chapter(
        "Clinicians",
        "A randomised trial found care better. Those whom it is for see answers, and say what they make of them.",
    )
    life.enter(Phase.CLINICIANS, "dr.okafor", "sam.steward", "ethics.chair", reason="the trial found care better")
    shown = _shown(life, "clinicians", 12)
    story.did(f"{shown} answers are shown to dr.reyes", "each a statement in the ledger before it is on the page")
    story.refused("Other institutions, after a fortnight", lambda: life.approve(Phase.INSTITUTIONS, "dr.okafor"))
    life.page("A patient's page", "patient.html", house.page("dr.reyes", f"/patients/{_some(life)[0][1]}"))


def alarm(life: Life) -> None:
    """Plant a shift; monitoring lowers the phase without a human, and the way back wants signatures of its own."""
    story, scale = life.story, life.scale
    life.calendar.let_pass(7)
    story.chapter(
        "An alarm",
        "Week by week the hospital is held against the weeks before. Then the laboratory begins to send glucose in "
        "mmol/L and does not say so.",
    )
    weeks = _weeks(life, scale.weeks + 6, shifted_from=scale.weeks + 2)
    policy = life.file("monitoring", weeks=scale.weeks, people=scale.min_people)
    found = watch(life.log, life.shelf, "risk", weeks, policy=policy)
    assert found.alarms, "demo: the planted shift was not found"
    first = found.alarms[0]
    story.did(f"An alarm in {first.week}: {first.said}", f"most likely: {found.cause}")
    state = life.shelf.state("risk")
    assert state.phase is Phase.SHADOW, "demo: the alarm did not lower the phase"
    story.did("The capability is taken down without a human", f"{state.changes[-1].actor}: {state.changes[-1].reason}")
    story.stands(state.phase)
    shelf = life.shelf
    story.refused(
        "Monitoring raises it again by itself",
        lambda: shelf.set_phase("risk", Phase.TRIAL, actor="monitoring", reason="all quiet", automatic=True),
    )
    story.refused(
        "The signatures of before are used once more",
        lambda: shelf.set_phase("risk", Phase.TRIAL, actor=STEWARD, reason="the feed is repaired"),
    )
    life.page("The steward's page after the alarm", "steward-alarm.html", life.served().page(STEWARD, "/steward"))
    life.calendar.let_pass(10)
    names = ("dr.okafor", "sam.steward", "ethics.chair")
    life.enter(Phase.TRIAL, *names, reason="the feed is repaired; charts are as they were")
    life.enter(Phase.CLINICIANS, *names, reason="the trial of this very release stands")


def institutions_and_public(life: Life) -> None:
    """Wait a quarter of a year, then half a year; each step wants more persons."""
    story = life.story
    names = ("dr.okafor", "sam.steward", "ethics.chair")
    life.calendar.let_pass(91)
    story.chapter("Institutions, then the public", "What others rely on has to have held for a while.")
    life.enter(Phase.INSTITUTIONS, *names, reason="it has held for a quarter of a year")
    story.refused("The public, on the same day", lambda: life.approve(Phase.PUBLIC, "dr.okafor"))
    life.calendar.let_pass(181)
    life.approve(Phase.PUBLIC, *names)
    story.refused(
        "The public, without the safety officer",
        lambda: life.shelf.set_phase("risk", Phase.PUBLIC, actor=STEWARD, reason="half a year went by"),
    )
    life.enter(Phase.PUBLIC, "safety.lead", reason="half a year without a harm")
    life.page(
        "About this tool, in plain language",
        "public.html",
        life.served().page(STEWARD, "/steward/risk/documents/public"),
    )


def _some(life: Life) -> list[tuple[int, str]]:
    return life.ward.living(life.today, life.newcomers)[:12]


def _shown(life: Life, name: str, most: int) -> int:
    """Ask about some patients on today's records; return how many answers were shown."""
    some = _some(life)[:most]
    house = life.served()
    house.open_records(life.ward.extract(name, life.today, [number for number, _ in some]))
    return sum(house.ask(patient).answer is not None for _, patient in some)


def _weeks(life: Life, number: int, *, shifted_from: int) -> Path:
    """Make the last `number` weeks' data sets; from one of them on, glucose comes in another unit."""
    folder, ward = life.folder / "weeks", life.ward
    first = life.today - timedelta(days=7 * number)
    task = life.bar.add_task("alarm: weekly extracts", total=number)
    for week in range(number):
        start, stop = first + timedelta(days=7 * week), first + timedelta(days=7 * (week + 1))
        name = f"week-{week + 1:02}"
        factor = ("glucose", 1 / 18.016) if week >= shifted_from else ("", 1.0)
        fhir = ward.extract(name, stop, ward.seen_between(start, stop), since=start, factor=factor)
        # Ingestion ends each record a keyed 1 to 180 days before the export; a live week is followed to its end.
        as_of = life.calendar.local() + timedelta(days=181)
        ward.ingest(fhir, folder / name, as_of=as_of)
        life.bar.advance(task)
    life.bar.remove_task(task)
    return folder


CHAPTERS = (shadow, validate, labels, trial, clinicians, alarm, institutions_and_public)
