"""A capability's way from off to clinicians and back: each phase by its evidence and signatures, none without."""

from pathlib import Path

import pytest

from bench._institution import OTHER_DATA, PLAN, SHADOW_DATA, VALIDATION, Institution
from lifechart.core.capability import Phase
from lifechart.core.errors import GateRefused, InputError
from lifechart.release import validation
from lifechart.release.stages import DEFAULT, Stages
from lifechart.release.trial.conduct import Trial


@pytest.fixture
def house(tmp_path: Path) -> Institution:
    return Institution(tmp_path)


def run(house: Institution, trial: Trial, benefit: float) -> None:
    house.enrolled(trial, trial.design.participants(), benefit=benefit)
    trial.close("planned size reached", actor="dr.li")
    trial.conclude(actor="dr.li")


def test_the_whole_way_up_and_down_again(house: Institution) -> None:
    release = house.release()
    house.enter(Phase.SIMULATION)
    house.enter(Phase.SHADOW)
    assert house.validate(release).met
    house.enter(Phase.TRIAL)
    with pytest.raises(GateRefused, match="none of risk 1 has been concluded"):
        house.enter(Phase.CLINICIANS)
    run(house, house.trial(release), benefit=1.5)
    house.enter(Phase.CLINICIANS)
    with pytest.raises(GateRefused, match="institutions wants 90 days there"):
        house.enter(Phase.INSTITUTIONS)
    (entry, *_) = [entry for entry in house.log.find(kind="phase") if entry.statement.predicate["what"] == "clinicians"]
    said = entry.statement.predicate
    assert set(said["evidence"]) == {
        "manifest", "model", "report", "protocol", "validation", "trial", "trial protocol", "standing",
    }  # fmt: skip
    assert {each["name"] for each in said["approvals"]} == {"dr.okafor", "sam.steward", "ethics.chair"}
    house.shelf.set_phase("risk", Phase.SHADOW, actor="monitor", reason="calibration drifted", automatic=True)
    assert house.shelf.phase("risk") is Phase.SHADOW


def test_a_trial_that_does_not_help_opens_nothing(house: Institution) -> None:
    release = house.release()
    house.enter(Phase.SIMULATION)
    house.enter(Phase.SHADOW)
    house.validate(release)
    house.enter(Phase.TRIAL)
    run(house, house.trial(release), benefit=0.0)
    with pytest.raises(GateRefused, match="without showing that care is better"):
        house.enter(Phase.CLINICIANS)


def test_signatures_for_one_release_do_not_carry_to_the_next(house: Institution) -> None:
    house.release(0)
    house.enter(Phase.SIMULATION)
    house.release(1)
    with pytest.raises(GateRefused, match="wants the signature of data-steward, medical-officer"):
        house.shelf.set_phase("risk", Phase.SIMULATION, actor="sam.steward", reason="as before")


def test_a_validation_counts_for_its_model_once_and_on_unseen_data(house: Institution) -> None:
    first = house.release(0)
    house.enter(Phase.SIMULATION)
    house.enter(Phase.SHADOW)
    assert not house.validate(first, auroc=0.62).met
    with pytest.raises(GateRefused, match="1 carried out, none met"):
        house.enter(Phase.TRIAL)
    again = house.register("again.toml", VALIDATION.format(auroc=0.55))
    with pytest.raises(GateRefused, match="outside the protocol, before its seal"):
        validation.prepare(house.registry, again.original, SHADOW_DATA)
    validation.prepare(house.registry, again.original, OTHER_DATA)
    report = house.examine(first.manifest.model_digest, OTHER_DATA, registered=again.original)
    assert validation.conclude(house.log, house.registry, again, report, actor="sam.steward").met
    with pytest.raises(GateRefused, match="carried out on these data already"):
        validation.prepare(house.registry, again.original, OTHER_DATA)
    house.enter(Phase.TRIAL)


def test_a_report_made_outside_the_protocol_concludes_nothing(house: Institution) -> None:
    release = house.release()
    registered = house.register("v.toml", VALIDATION.format(auroc=0.6))
    report = house.examine(release.manifest.model_digest, SHADOW_DATA)
    with pytest.raises(GateRefused, match="no evaluation of these data under protocol"):
        validation.conclude(house.log, house.registry, registered, report, actor="sam.steward")


def test_a_retrained_model_inside_the_plan_takes_its_predecessors_place(house: Institution) -> None:
    house.release(0)
    house.enter(Phase.SIMULATION)
    house.enter(Phase.SHADOW)
    plan = house.register("plan.toml", PLAN.format(drop=0.02))
    house.release(1, auroc=0.74)
    state, found = house.shelf.replace("risk", plan, actor="sam.steward")
    assert (state.version, state.phase, found) == ("2", Phase.SHADOW, [])
    with pytest.raises(GateRefused, match="and this is none"):
        house.shelf.replace("risk", plan, actor="sam.steward")


@pytest.mark.parametrize(
    ("auroc", "size", "reason"), [(0.70, "s", "AUROC 0.750 became 0.700"), (0.75, "m", "size changed from 's' to 'm'")]
)
def test_one_outside_goes_back_to_shadow(house: Institution, auroc: float, size: str, reason: str) -> None:
    release = house.release(0)
    house.enter(Phase.SIMULATION)
    house.enter(Phase.SHADOW)
    house.validate(release)
    house.enter(Phase.TRIAL)
    plan = house.register("plan.toml", PLAN.format(drop=0.02))
    house.release(1, auroc=auroc, size=size)
    state, found = house.shelf.replace("risk", plan, actor="sam.steward")
    assert state.phase is Phase.SHADOW
    assert any(reason in breach for breach in found)


def test_the_policy_that_comes_along_covers_every_phase_and_a_bad_one_is_refused(house: Institution) -> None:
    policy = Stages(house.log, house.people).policy
    assert [demand.name for demand in policy.phase] == [phase for phase in Phase if phase is not Phase.OFF]
    assert all(demand.persons >= 2 for demand in policy.phase)
    bad = house.write("phases.toml", DEFAULT.read_text().replace('"gate"', '"goodwill"'))
    with pytest.raises(InputError, match="goodwill"):
        Stages(house.log, house.people, bad)
    with pytest.raises(InputError, match="phases"):
        Stages(house.log, house.people, house.folder / "absent.toml")
