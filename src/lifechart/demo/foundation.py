"""First chapters: records, a model, the people who may sign, and the gate."""

from __future__ import annotations

import shutil

from lifechart.care.risk import policy
from lifechart.core.capability import Phase
from lifechart.demo.stages import STAFF, Life
from lifechart.demo.ward import STEWARD
from lifechart.evaluate import examine
from lifechart.ledger.keys import Signer
from lifechart.model import train
from lifechart.model.forecaster import load_forecaster
from lifechart.release.people import Office
from lifechart.simulate import hospital

HORIZONS = (90, 365)
"""Days ahead that are asked about: longer ones do not mature within the story."""


def records_and_a_model(life: Life) -> None:
    """Simulate the hospital, take the residents' records as of the first day, train and evaluate a model."""
    story, scale = life.story, life.scale
    story.chapter(
        "Records and a model",
        "A hospital is simulated to its end. What the product gets to see is what an export holds on the day; the "
        "future stays where it is.",
    )
    end = life.start.fromordinal(life.start.toordinal() + 1_260)
    made = hospital.write_truth(life.ward.truth, scale.lives, life.seed, end)
    story.did(
        f"{made.lives:,} lives of a city are simulated",
        f"{made.events:,} events until {end:%d %b %Y}; {len(life.residents)} people are the hospital's patients",
    )
    fhir = life.ward.extract("development", life.start, life.residents)
    life.ward.ingest(fhir, life.folder / "datasets" / "development")
    story.did(
        "The residents' records as of today are exported as FHIR and de-identified", f"{len(life.residents)} people"
    )
    model = life.folder / "models" / "first"
    learnt = train.train(
        life.folder / "datasets" / "development", model, size=scale.size, seed=life.seed, log=life.log,
        progress=False, actor="ml.author",
    )  # fmt: skip
    story.did(
        "ml.author trains a model of their timelines", learnt.summary().splitlines()[0].replace(f"{life.folder}/", "")
    )
    evaluate(life, "development", "first")
    story.did("It is evaluated on people whom it never saw", "report, fairness and curves: see the page")
    life.page("The evaluation's report", "report-1.html", (life.folder / "reports/first/report.html").read_bytes())


def people(life: Life) -> None:
    """Register who may sign; nobody becomes two."""
    story = life.story
    story.chapter(
        "Who may sign", "Offices are held by named persons, each with a key of their own. One human is one person."
    )
    for number, (name, offices) in enumerate(STAFF.items()):
        login = name if name == "ml.author" else ""
        life.people.register(
            life.keys[name].public, offices, staff_number=f"{1000 + number}", actor="root", login=login
        )
        story.did(f"{name}: {', '.join(offices)}")
    twin = Signer.generate("dr.okafor.too")
    story.refused(
        "dr.okafor registers a second name with the same staff number",
        lambda: life.people.register(twin.public, (Office.DATA_STEWARD,), staff_number="1000", actor="root"),
    )


def gate(life: Life) -> None:
    """Put the model through the gate; what was not trained or examined here does not pass."""
    story, folder = life.story, life.folder
    story.chapter(
        "The gate", "A release is judged by its Report, and holds the very bytes that were trained and examined."
    )
    criteria, report = (
        life.file("criteria", events=life.scale.events, floor=life.scale.floor),
        folder / "reports/first/report.json",
    )
    changed = folder / "models" / "changed"
    shutil.copytree(folder / "models/first", changed)
    weights = changed / "weights.npz"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    story.refused(
        "A model whose file was swapped after training",
        lambda: life.shelf.release("risk", changed, report, actor="sam.steward", criteria=criteria),
    )
    strict = folder / "files" / "strict.toml"
    strict.write_text(criteria.read_text().replace("at_least = 1\n", "at_least = 1000\n"))
    story.refused(
        "A gate that demands a thousand pairs",
        lambda: life.shelf.release("risk", folder / "models/first", report, actor="sam.steward", criteria=strict),
    )
    release, verdict = life.shelf.release(
        "risk", folder / "models/first", report, actor="sam.steward", criteria=criteria, reason="first release"
    )
    story.did(
        f"Version {release.version} is put on the shelf",
        f"{len(verdict.released)} of {len(verdict.released) + len(verdict.left_out)} outcome-horizon pairs may be "
        f"shown; manifest {release.manifest.digest[:16]}…",
    )
    story.stands(Phase.OFF)


def simulation(life: Life) -> None:
    """Let it out to test patients."""
    story, shelf = life.story, life.shelf
    life.calendar.let_pass(7)
    story.chapter(
        "Simulation", "Test patients alone have answers. Even that wants two persons who did not make the model."
    )
    life.approve(Phase.SIMULATION, "ml.author")
    story.refused(
        "ml.author, who made the model, signs as medical officer",
        lambda: shelf.set_phase("risk", Phase.SIMULATION, actor=STEWARD, reason="the author is sure"),
    )
    for office in STAFF["two.hats"]:
        shelf.approve("risk", Phase.SIMULATION, life.keys["two.hats"], office=office, comment="both hats on")
    story.refused(
        "two.hats signs in both offices, as one human",
        lambda: shelf.set_phase("risk", Phase.SIMULATION, actor=STEWARD, reason="two signatures"),
    )
    story.refused(
        "From off straight to clinicians",
        lambda: shelf.set_phase("risk", Phase.CLINICIANS, actor=STEWARD, reason="the ward is impatient"),
    )
    life.enter(Phase.SIMULATION, "dr.okafor", "sam.steward", reason="first stage of validation")
    wards = life.ward.living(life.today, life.newcomers)
    some = [number for number, _ in wards[:8]]
    life.served().open_records(life.ward.extract("simulation", life.today, some))
    shown = [life.served().ask(patient) for _, patient in wards[:8]]
    answered = [each for each in shown if each.answer is not None and each.answer.claims]
    story.did(f"{len(shown)} test patients are asked about", f"{len(answered)} answers with risks, shown to dr.reyes")


def evaluate(life: Life, dataset: str, model: str) -> None:
    """Evaluate a model of the story on a data set of it."""
    examine.examine(
        life.folder / "datasets" / dataset,
        load_forecaster(life.folder / "models" / model),
        life.folder / "reports" / model,
        log=life.log,
        baselines=False,
        horizons=HORIZONS,
        seed=life.seed,
        abstains_from=policy()["abstain_novelty"],
        progress=False,
    )


CHAPTERS = (records_and_a_model, people, gate, simulation)
