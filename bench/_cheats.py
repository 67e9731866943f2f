"""Ways to cheat, each tried for real on an institution that otherwise does everything right.

A cheat is a function that tries; it has to end in a refusal whose message says why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from bench._institution import PLAN, SHADOW_DATA, TRIAL, VALIDATION, Institution
from lifechart.core.capability import Phase
from lifechart.core.errors import GateRefused
from lifechart.ledger.keys import Signer
from lifechart.ledger.log import open_log
from lifechart.release import validation
from lifechart.release.people import Office
from lifechart.release.protocol import check_clock
from lifechart.release.shelf import open_shelf


def peek(house: Institution) -> None:
    """The investigator looks at the arms on the way, and the board looks before its time."""
    trial = house.trial(house.release())
    house.enrolled(trial, 10)
    _refused(lambda: trial.look(house.keys["dr.li"]), "monitoring board alone")
    _refused(trial.result, "before its end")
    trial.look(house.keys["board.one"])


def randomise_again(house: Institution) -> None:
    """Somebody got the arm that was not wanted: enrol them once more, or draw the list anew."""
    release = house.release()
    trial = house.trial(release)
    house.enrolled(trial, 1)
    _refused(lambda: trial.open(manifest=release.manifest.digest, actor="dr.li"), "opened already")
    trial.enrol(f"{0:064x}", manifest=release.manifest.digest, actor="dr.li")


def amend_after_data(house: Institution) -> None:
    """The outcome looks bad, so the protocol gets another one."""
    trial = house.trial(house.release())
    house.enrolled(trial, 4)
    house.amend(trial.registered, TRIAL.replace("weeks to treatment", "weeks to referral"))


def enrol_after_reveal(house: Institution) -> None:
    """Enrol where the list is known already, or ask for the arm before enrolling."""
    release = house.release()
    trial = house.trial(release)
    _refused(lambda: trial.arm(f"{0:064x}"), "only after irrevocable enrolment")
    _refused(lambda: trial.reveal(actor="dr.li"), "still open")
    house.enrolled(trial, 4)
    trial.pause("a word with the sponsor", actor="dr.li")
    trial.close("the sponsor ends it", actor="dr.li")
    trial.reveal(actor="dr.li")
    trial.enrol(f"{99:064x}", manifest=release.manifest.digest, actor="dr.li")


def swap_the_model(house: Institution) -> None:
    """Exchange the weights under a signed release, or the release under a running trial."""
    trial = house.trial(house.release(0))
    other = house.release(1)
    _refused(lambda: trial.enrol("0" * 64, manifest=other.manifest.digest, actor="dr.li"), "is not the one on trial")
    weights = other.model / "weights.bin"
    weights.write_bytes(weights.read_bytes()[::-1])
    house.enter(Phase.SIMULATION)


def sign_twice(house: Institution) -> None:
    """One person holds two offices, or takes a second name."""
    twin = Signer.generate("dr.okafor.again")
    _refused(
        lambda: house.people.register(twin.public, (Office.DATA_STEWARD,), staff_number="0000", actor="root"),
        "nobody signs as two persons",
    )
    house.people.register(
        house.keys["dr.okafor"].public,
        (Office.MEDICAL_OFFICER, Office.DATA_STEWARD),
        staff_number="0000",
        actor="root",
    )
    house.release()
    for office in (Office.MEDICAL_OFFICER, Office.DATA_STEWARD):
        house.shelf.approve("risk", Phase.SIMULATION, house.keys["dr.okafor"], office=office, comment="fine by me")
    house.shelf.set_phase("risk", Phase.SIMULATION, actor="dr.okafor", reason="signed in both offices")


def sign_ones_own_model(house: Institution) -> None:
    """The author of the model signs for it."""
    house.release()
    house.approve(Phase.SIMULATION, "dr.okafor")
    house.shelf.approve(
        "risk", Phase.SIMULATION, house.keys["ml.author"], office=Office.DATA_STEWARD, comment="it is good"
    )
    house.shelf.set_phase("risk", Phase.SIMULATION, actor="ml.author", reason="it is good")


def skip_a_stage(house: Institution) -> None:
    """From simulation to clinicians at once; or to a trial without the validation it wants."""
    house.release()
    house.enter(Phase.SIMULATION)
    _refused(lambda: house.enter(Phase.CLINICIANS), "no stage is skipped")
    house.enter(Phase.SHADOW)
    house.enter(Phase.TRIAL)


def widen_the_envelope(house: Institution) -> None:
    """The retrained model is worse than the plan allows, so the plan allows more."""
    house.release(0)
    house.enter(Phase.SIMULATION)
    plan = house.register("plan.toml", PLAN.format(drop=0.01))
    house.release(1, auroc=0.70)
    wider = house.amend(plan, PLAN.format(drop=0.1).replace("0.02", "0.1"))
    _, found = house.shelf.replace("risk", wider, actor="sam.steward")
    if found:
        raise GateRefused("; ".join(found))


def back_date(house: Institution) -> None:
    """Look at the data, write the protocol that they fit, and date it before the look; or set the clock back."""
    release = house.release()
    _refused(lambda: check_clock(house.log, datetime.now(UTC) - timedelta(days=30)), "nothing is back-dated")
    house.examine(release.manifest.model_digest, SHADOW_DATA)
    registered = house.register("validation.toml", VALIDATION.format(auroc=0.6))
    validation.prepare(house.registry, registered.original, SHADOW_DATA)


def edit_the_log(house: Institution) -> None:
    """Change what the ledger says about a phase, on disk."""
    house.release()
    house.enter(Phase.SIMULATION)
    house.log.close()
    journal = house.settings.ledger / "journal"
    content = journal.read_bytes()
    at = content.rindex(b"payload")
    journal.write_bytes(content[: at + 40] + bytes([content[at + 40] ^ 1]) + content[at + 41 :])
    for path in (house.settings.ledger / "tile").rglob("*"):
        if path.is_file() and "entries" in path.parts:
            tile = path.read_bytes()
            at = tile.rindex(b"payload")
            path.write_bytes(tile[: at + 40] + bytes([tile[at + 40] ^ 1]) + tile[at + 41 :])
    open_shelf(house.settings, open_log(house.settings)).state("risk")


CHEATS: Mapping[str, tuple[Callable[[Institution], None], str]] = {
    "peek": (peek, "peeking"),
    "re-randomise": (randomise_again, "nobody is randomised twice"),
    "amend after data": (amend_after_data, "amendment after data"),
    "enrol after reveal": (enrol_after_reveal, "allocation has been revealed"),
    "swap the model file": (swap_the_model, "not the file that was released"),
    "sign twice as one person": (sign_twice, "wants 2"),
    "sign one's own model": (sign_ones_own_model, "made the model"),
    "skip a stage": (skip_a_stage, "no registered protocol has been met"),
    "widen an envelope": (widen_the_envelope, "not widened around a candidate"),
    "back-date": (back_date, "whoever has looked cannot confirm"),
    "edit the log": (edit_the_log, "ledger|journal|head|entr"),
}
"""Name to the attempt, and what its refusal has to say."""


def _refused(attempt: Callable[[], object], reason: str) -> None:
    """Make sure that a first, lesser attempt is refused too, for its own reason."""
    try:
        attempt()
    except Exception as error:
        if reason not in str(error):
            raise AssertionError(f"refused for another reason than {reason!r}: {error}") from error
        return
    raise AssertionError(f"not refused: {reason}")
