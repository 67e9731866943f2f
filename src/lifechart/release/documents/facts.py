"""The sentences that evidence can make, by name. A fact without evidence is an empty list, never a guess."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lifechart.core.capability import Phase
from lifechart.core.suppression import shown
from lifechart.ledger.lineage import contribution_of
from lifechart.release.documents import studies, use, worth
from lifechart.release.documents.evidence import Dossier, Said, entry_source

Fact = Callable[[Dossier], list[Said]]

_PHASES = {
    Phase.OFF: "It is not in use.",
    Phase.SIMULATION: "It is shown for test patients only.",
    Phase.SHADOW: "It runs on living charts, and its answers are shown to nobody.",
    Phase.TRIAL: "It is shown within a randomised trial only.",
    Phase.CLINICIANS: "It is shown to the staff that it is for.",
    Phase.INSTITUTIONS: "It is shown here and in partner institutions.",
    Phase.PUBLIC: "It is shown to staff, partner institutions and the public.",
}


def _declared(text: Callable[[Dossier], str]) -> Fact:
    return lambda dossier: [Said(words, dossier.file("declaration"))] if (words := text(dossier)) else []


def _limits(dossier: Dossier) -> list[Said]:
    return [Said(limit, dossier.file("declaration")) for limit in dossier.declaration.limits]


def _identity(dossier: Dossier) -> list[Said]:
    manifest = dossier.manifest
    text = f"{dossier.declaration.title}, version {manifest.version}, model {manifest.model_digest}."
    return [Said(text, dossier.file("declaration", "manifest"))]


def _developer(dossier: Dossier) -> list[Said]:
    text = f"Trained at {dossier.institution}, whose ledger states its training."
    if dossier.trained.statement.kind == "adapt":
        text = (
            f"Adapted at {dossier.institution}, whose ledger states it, from a released model that its owner trained."
        )
    return [Said(text, (entry_source("training", dossier.trained),))]


def _released(dossier: Dossier) -> list[Said]:
    return [Said(f"{dossier.manifest.created[:10]}", dossier.file("manifest"))]


def _version(dossier: Dossier) -> list[Said]:
    return [Said(dossier.manifest.version, dossier.file("manifest"))]


def _stage(dossier: Dossier) -> list[Said]:
    return [
        Said(f"Phase {dossier.state.phase.value}. {each.text}", each.sources) for each in _where_it_is_used(dossier)
    ]


def _where_it_is_used(dossier: Dossier) -> list[Said]:
    state = dossier.state
    last = state.changes[-1]
    source = entry_source(last.kind, dossier.log.read([last.index])[0])
    switched = "" if state.on else " It is switched off at the moment."
    return [Said(f"{_PHASES[state.phase]}{switched}", (source,))]


def _training(dossier: Dossier) -> list[Said]:
    said = dossier.trained.statement.predicate
    if dossier.trained.statement.kind == "adapt":
        return _adapted(dossier)
    known = {"size": "size {}", "parameters": "{:,} parameters", "events": "{:,} training events", "seed": "seed {}"}
    parts = [words.format(said[key]) for key, words in known.items() if said.get(key) is not None]
    text = f"Trained on data set {dossier.manifest.data_digests['train'][:16]}…" + "".join(
        f", {part}" for part in parts
    )
    told = [Said(f"{text}.", (entry_source("training", dossier.trained), *dossier.file("data")))]
    if privacy := said.get("privacy"):
        spent = privacy["spent"]
        promise = (
            f"Trained with differential privacy for each patient's whole record: epsilon {spent['train']:.2f} for "
            f"those trained on and {spent['tuning']:.2f} for those tuned on, at delta {privacy['delta']:g}. It covers "
            f"{privacy['covers']}; it does not cover {privacy['does_not_cover']}."
        )
        told.append(Said(promise, (entry_source("training", dossier.trained),)))
    return told


def _adapted(dossier: Dossier) -> list[Said]:
    """What an adapted model was made of, and what is promised to whom."""
    said = dossier.trained.statement.predicate
    source = (entry_source("adaptation", dossier.trained),)
    text = (
        f"Adapted by method {said['method']} to {said['lives']:,} lives of data set "
        f"{dossier.manifest.data_digests['train'][:16]}…, seed {said['seed']}, from model {said['base'][:16]}…, "
        f"without the data that this one was trained on. {said['reading']['read_events']:.1%} of the local events are "
        f"read as themselves, {said['reading']['unread_events']:.1%} not at all."
    )
    told = [Said(text, (*source, *dossier.file("data")))]
    if privacy := said.get("base_privacy"):
        spent = privacy["spent"]["train"]
        told.append(Said(f"For the patients of the model that it was adapted from, epsilon {spent:.2f} at delta "
                         f"{privacy['delta']:g} still holds: nothing of them was read again.", source))  # fmt: skip
    told.append(Said("For the patients that it was adapted to nothing is promised: the adapter was learnt without "
                     "differential privacy.", source))  # fmt: skip
    return told


def _contribution(dossier: Dossier) -> list[Said]:
    found = contribution_of(dossier.log, dossier.manifest.model_digest, dossier.declaration.name)
    if found is None:
        return []
    entry, rows = found
    listed = "; ".join(f"{row['source']} {row['gain']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})" for row in rows)
    text = f"What each source of the data added to the mean AUROC, by training without it: {listed}."
    return [Said(text, (entry_source("contribution", entry),))]


def _architecture(dossier: Dossier) -> list[Said]:
    said = dossier.trained.statement.predicate
    if said.get("parameters") is None or said.get("code_version") is None:
        return []
    text = f"The network of Lifechart {said['code_version']}, size {said['size']}, {said['parameters']:,} parameters."
    return [Said(text, (entry_source("training", dossier.trained),))]


def _records(dossier: Dossier) -> list[Said]:
    digests = dossier.manifest.data_digests
    parts = {digest: [part for part in digests if digests[part] == digest] for digest in digests.values()}
    found = []
    for digest, uses in parts.items():
        made = dossier.log.find(kind="ingest", digest=digest)
        if made:
            said: dict[str, Any] = made[-1].statement.predicate
            subjects = said.get("account", {}).get("subjects")
            people = f" of {shown(int(subjects))} people" if isinstance(subjects, int) else ""
            files = f"{said['inputs']['files']:,} files"
            text = f"Data set {digest[:16]}…{people}, de-identified from {files}; used to {' and to '.join(uses)}."
            found.append(Said(text, (entry_source("ingest", made[-1]),)))
    return found


def _records_in_plain_words(dossier: Dossier) -> list[Said]:
    made = dossier.log.find(kind="ingest", digest=dossier.manifest.data_digests["train"])
    if not made:
        return []
    subjects = made[-1].statement.predicate.get("account", {}).get("subjects")
    people = f"{shown(int(subjects))} people" if isinstance(subjects, int) else "people"
    text = f"It learned from the records of {people}, after names and other marks of identity were taken out of them."
    return [Said(text, (entry_source("ingest", made[-1]),))]


def _privacy(dossier: Dossier) -> list[Said]:
    found = dossier.log.find(kind="risk", digest=dossier.manifest.data_digests["train"])
    signed = [entry for entry in found if entry.statement.predicate.get("what") == "signed"]
    if not signed:
        return []
    said = signed[-1].statement.predicate
    text = f"Re-identification risk was held against a threshold of {said['threshold']}, and signed by {said['name']}."
    return [Said(text, (entry_source("assessment of risk", signed[-1]),))]


def _gate(dossier: Dossier) -> list[Said]:
    limits = dict.fromkeys((check.criterion, check.limit) for check in dossier.manifest.checks)
    listed = "; ".join(f"{name} ({limit})" for name, limit in limits)
    text = f"Held against the criteria of its gate; what may be shown met all that are asked of it: {listed}."
    return [Said(text, dossier.file("manifest", "criteria"))]


def _integrity(dossier: Dossier) -> list[Said]:
    text = f"{len(dossier.manifest.files)} files, each under its SHA-256 in a signed manifest, verified for this page."
    return [Said(text, dossier.file("manifest"))]


def _approvals(dossier: Dossier) -> list[Said]:
    found = []
    for change in dossier.state.changes:
        if change.kind != "phase" or change.manifest != dossier.manifest.digest:
            continue
        entry = dossier.log.read([change.index])[0]
        signed = entry.statement.predicate.get("approvals", [])
        if signed:
            names = ", ".join(f"{each['name']} ({each['office']})" for each in signed)
            text = f"Phase {change.what}, {change.time[:10]}: signed by {names}."
            found.append(Said(text, (entry_source("phase", entry),)))
    return found


def _history(dossier: Dossier) -> list[Said]:
    made = [change for change in dossier.state.changes if change.kind == "release"]
    sources = tuple(entry_source("release", entry) for entry in dossier.log.read([change.index for change in made]))
    return [Said(f"Versions released so far: {len(dossier.state.manifests)}.", sources)]


FACTS: Mapping[str, Fact] = {
    "identity": _identity,
    "title": _declared(lambda dossier: dossier.declaration.title),
    "intended use": _declared(lambda dossier: dossier.declaration.intended_use),
    "users": _declared(lambda dossier: ", ".join(role.value for role in dossier.declaration.users)),
    "inputs": _declared(lambda dossier: "From the chart: " + ", ".join(dossier.declaration.inputs) + "."),
    "tasks": _declared(lambda dossier: "Evaluation tasks: " + ", ".join(dossier.declaration.evidence_tasks) + "."),
    "limits": _limits,
    "developer": _developer,
    "release date": _released,
    "version": _version,
    "stage": _stage,
    "where it is used": _where_it_is_used,
    "training": _training,
    "contribution": _contribution,
    "architecture": _architecture,
    "records": _records,
    "records in plain words": _records_in_plain_words,
    "privacy": _privacy,
    "gate": _gate,
    "integrity": _integrity,
    "approvals": _approvals,
    "history": _history,
    "outputs": worth.outputs,
    "left out": worth.left_out,
    "numbers": worth.numbers,
    "discrimination": worth.discrimination,
    "calibration": worth.calibration,
    "worst calibrated": worth.worst_calibrated,
    "by group": worth.by_group,
    "weakest groups": worth.weakest,
    "who was in it": worth.who_was_in_it,
    "in plain words": worth.in_plain_words,
    "weak in plain words": worth.weak_in_plain_words,
    "in use": use.in_use,
    "disagreement": use.disagreement,
    "signals": use.signals,
    **studies.TRIAL_FACTS,
    **studies.PLAN_FACTS,
}
"""Every fact that an item may name."""
