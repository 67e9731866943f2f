"""Last chapters: a retrained model under a change plan, a rollback against the clock, an incident, the end."""

from __future__ import annotations

import time

from lifechart.core.capability import Phase
from lifechart.core.errors import LifechartError
from lifechart.demo.ascent import _shown
from lifechart.demo.foundation import evaluate
from lifechart.demo.stages import Life
from lifechart.demo.ward import CLINICIAN, STEWARD
from lifechart.ledger import page as trace_page
from lifechart.ledger.trace import trace
from lifechart.model import train
from lifechart.release.documents.evidence import gather
from lifechart.release.documents.write import INDEX, write

MOST_SECONDS = 10.0
"""A rollback may take no longer."""


def retrained(life: Life) -> None:
    """Replace the model inside a change plan's envelope; one outside it goes back to shadow."""
    story, shelf, folder = life.story, life.shelf, life.folder
    story.chapter(
        "A retrained model",
        "A plan that was sealed beforehand says what may change and how much worse no figure may get.",
    )
    plan = life.register(life.file("plan", lost=40))
    story.did("The change plan is sealed", plan.protocol.title)
    life.calendar.let_pass(20)
    fhir = life.ward.extract("retraining", life.today, life.residents)
    life.ward.ingest(fhir, folder / "datasets" / "retraining")
    train.train(
        folder / "datasets/retraining", folder / "models/second", size=life.scale.size, seed=life.seed, log=life.log,
        progress=False, actor="ml.author",
    )  # fmt: skip
    evaluate(life, "retraining", "second")
    _release(life, "second", "retrained on newer records")
    state, found = shelf.replace("risk", plan, actor="sam.steward")
    assert not found, f"demo: the retrained model lies outside the envelope: {found}"
    story.did(
        f"Version {state.version} lies inside the envelope and takes its predecessor's place", f"phase {state.phase}"
    )
    life.page("The retrained model's report", "report-2.html", (folder / "reports/second/report.html").read_bytes())
    _release(life, "first", "somebody trusts the old one more")
    state, found = shelf.replace("risk", plan, actor="sam.steward")
    assert found, "demo: a model outside the envelope was let through"
    assert state.phase is Phase.SHADOW, "demo: it did not go back to shadow"
    story.did(f"Version {state.version}, the model from before the plan, is put forward under it", "; ".join(found))
    story.did("Outside the envelope: the capability goes back", f"phase {state.phase}")
    story.stands(state.phase)
    wider = life.file("plan", lost=4000)
    for name in ("ethics.chair", "dr.okafor"):
        life.registry.sign(wider, life.keys[name], office=life.people.all()[name].offices[0], comment="wider")
    life.registry.amend(plan.original, wider, actor=STEWARD, reason="a wider envelope")
    story.refused(
        "Widening the plan afterwards and trying again",
        lambda: shelf.replace("risk", life.registry.get(plan.original), actor="sam.steward"),
    )


def rollback(life: Life) -> None:
    """Take the version before back, in one command, against the clock."""
    story = life.story
    story.chapter("Rollback", "One command; verified byte by byte before it counts, and a statement like any other.")
    began = time.monotonic()
    before = list(life.shelf.state("risk").manifests)[-2]
    release = life.shelf.rollback("risk", before, actor=STEWARD, reason="the last was put forward in error")
    took = time.monotonic() - began
    if took >= MOST_SECONDS:
        raise LifechartError(f"demo: the rollback took {took:.1f} s, expected less than {MOST_SECONDS:g}")
    state = life.shelf.state("risk")
    story.did(f"Version {release.version} is current again, in {state.phase}", f"it took {took:.2f} s")
    story.stands(state.phase)
    shown = _shown(life, "after-rollback", 6)
    story.did(f"{shown} answers are shown to {CLINICIAN}, by version {release.version}")


def incident(life: Life) -> None:
    """Report a harm, recall the model's answers, and close it on the safety officer's signature."""
    story, log, house = life.story, life.log, life.served()
    life.calendar.let_pass(3)
    story.chapter(
        "An incident",
        "Whoever is signed in can report a harm. Nothing of it is taken back; a recall reaches who was shown it.",
    )
    incidents = house.house.incidents
    model = life.shelf.current("risk").manifest.model_digest
    given = [each for each in log.find(kind="answer", digest=model) if each.statement.predicate["showing"] == "shown"]
    answer = given[-1].statement.subjects[0].digest
    case = incidents.report(
        "acted-on", "harm", "A medicine was stopped after this risk was read.", actor=CLINICIAN, answers=[answer]
    )
    story.did(
        f"{CLINICIAN} reports incident {case.number}", "the answer, its model and the patient are linked by digest"
    )
    number = str(case.number)
    story.refused(
        "The root cause, before anybody has judged how bad it is",
        lambda: incidents.investigate(number, "model", "too sure", actor=STEWARD),
    )
    incidents.triage(number, "harm", "Confirmed with the ward.", actor=STEWARD, pause=True)
    story.did("Triage switches the capability off at once", life.shelf.state("risk").reason)
    version = life.shelf.state("risk").version or ""
    recall = incidents.recall(
        number, incidents.release_scope("risk", version), "Do not rely on these risks until told.", actor=STEWARD
    )
    reached = incidents.recalls.tally(recall)
    story.did("A recall goes out", f"{len(reached.people)} account was shown such answers, and has the notice")
    life.page("What the clinician sees", "recall.html", house.page(CLINICIAN, "/patients"))
    incidents.investigate(number, "model", "The risk was taken for a finding.", actor=STEWARD)
    incidents.correct(number, "The page says before each risk that it is none.", actor=STEWARD)
    for regulator in incidents.get(number).regulator_due(incidents.policy):
        incidents.submitted(number, regulator, f"2026-{case.number:04}", actor=STEWARD)
        story.did(f"{regulator} is told")
    story.refused(
        "Closing it before the recall is acknowledged",
        lambda: incidents.sign(number, life.keys["safety.lead"], comment="all done"),
    )
    incidents.recalls.acknowledge(recall.digest, CLINICIAN)
    story.refused("Closing it without the safety officer", lambda: incidents.close(number, actor=STEWARD))
    incidents.sign(number, life.keys["safety.lead"], comment="steps read, ward visited")
    incidents.close(number, actor=STEWARD)
    story.did("The safety officer signs over exactly these steps, and it is closed")
    life.page("The incident", "incident.html", house.page(STEWARD, f"/incidents/{number}"))


def and_back(life: Life) -> None:
    """Write the documents, trace an answer to its sources, and take the capability back to off."""
    story, log, folder = life.story, life.log, life.folder
    life.calendar.let_pass(2)
    story.chapter(
        "And back",
        "Every document is made from evidence; every sentence on a page leads back to its sources. Down needs a reason "
        "alone.",
    )
    house = life.served().house
    declaration = house.predictor.capabilities["risk"].declaration
    second, first = life.shelf.state("risk").version or "", next(iter(life.shelf.state("risk").manifests))
    for version, name in ((second, "documents"), (first, "documents-trial")):
        if life.shelf.state("risk").version != version:
            life.shelf.rollback("risk", version, actor=STEWARD, reason="its documents are asked for")
        dossier = gather(life.shelf, log, life.registry, declaration, life.settings.institution)
        written = write(dossier, folder / "pages" / name, actor=STEWARD)
        story.page(f"Documents of version {version}: model card, checklists, public page", f"pages/{name}/{INDEX}")
        story.did(
            f"Documents of version {version}",
            f"{len(written.documents)} written, {len(written.refused)} refused for want of evidence",
        )
    model = life.shelf.current("risk").manifest.model_digest
    answers = [each for each in log.find(kind="answer", digest=model) if each.statement.predicate["showing"] == "shown"]
    graph = trace(log, answers[-1].statement.subjects[0].digest)
    life.page("An answer, traced to the extracts", "trace.html", trace_page.render(graph, log.head()))
    life.shelf.set_phase("risk", Phase.OFF, actor=STEWARD, reason="retired; a successor is being built")
    story.did("The capability is taken back to off", "retired; a successor is being built")
    story.stands(Phase.OFF)
    story.did("The ledger holds all of it", f"{log.size} entries, root {log.root[:16]}…")
    life.page("The steward's page at the end", "steward-end.html", life.served().page(STEWARD, "/steward"))


def _release(life: Life, model: str, reason: str) -> None:
    folder = life.folder
    criteria = folder / "files" / "criteria.toml"
    report = folder / "reports" / model / "report.json"
    life.shelf.release("risk", folder / "models" / model, report, actor="sam.steward", criteria=criteria, reason=reason)


CHAPTERS = (retrained, rollback, incident, and_back)
