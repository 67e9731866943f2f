"""An alarm is stated, lowers a phase by policy without a human, and never raises one."""

from dataclasses import replace
from pathlib import Path

import pytest

from lifechart.core.capability import Phase
from lifechart.core.errors import InputError
from lifechart.release import monitoring
from lifechart.release.monitoring import ACTOR, Alarm, Policy
from tests.release.institution import Institution

ASSAY = Alarm("week 60", "week 59", "value", "LOINC//4548-4", "all", 5.5, 6.05, "median from 5.5 to 6.05")
POLICY, DIGEST = monitoring.load()


def respond(house: Institution, *alarms: Alarm, policy: Policy = POLICY) -> Phase:
    return monitoring.respond(house.log, house.shelf, "risk", alarms, policy=policy, digest=DIGEST, cause="assay").phase


def stand(house: Institution, phase: Phase) -> None:
    house.shelf.set_phase("risk", phase, actor="steward", reason="tests")


def stated(house: Institution) -> list[dict[str, object]]:
    return [dict(entry.statement.predicate) for entry in house.log.find(kind="alarm")]


def test_an_alarm_lowers_the_phase_and_says_what_shifted(institution: Institution) -> None:
    institution.release(0)
    stand(institution, Phase.CLINICIANS)
    assert respond(institution, ASSAY) is Phase.SHADOW
    (said,) = stated(institution)
    assert (said["kind"], said["what"], said["where"], said["since"]) == ("value", "LOINC//4548-4", "all", "week 59")
    assert (said["policy"], said["cause"], said["version"]) == (DIGEST, "assay", "1")
    last = institution.shelf.state("risk").changes[-1]
    assert (last.actor, last.what) == (ACTOR, "shadow")
    assert "6.05" in last.reason


def test_the_lowest_of_several_holds(institution: Institution) -> None:
    institution.release(0)
    stand(institution, Phase.PUBLIC)
    older = replace(ASSAY, kind="population", what="age")
    assert respond(institution, older) is Phase.TRIAL
    assert respond(institution, replace(older, week="week 61"), replace(ASSAY, week="week 61")) is Phase.SHADOW


@pytest.mark.parametrize("phase", [Phase.OFF, Phase.SIMULATION, Phase.SHADOW])
def test_it_never_raises(phase: Phase, institution: Institution) -> None:
    institution.release(0)
    stand(institution, phase)
    before = len(institution.shelf.state("risk").changes)
    assert respond(institution, ASSAY) is phase
    assert len(institution.shelf.state("risk").changes) == before
    assert len(stated(institution)) == 1


def test_a_kind_without_a_phase_is_stated_only(institution: Institution) -> None:
    institution.release(0)
    stand(institution, Phase.CLINICIANS)
    assert respond(institution, replace(ASSAY, kind="unseen code")) is Phase.CLINICIANS
    assert stated(institution)[0]["lower_to"] is None


def test_it_is_stated_once_and_a_person_has_the_last_word(institution: Institution) -> None:
    institution.release(0)
    stand(institution, Phase.CLINICIANS)
    respond(institution, ASSAY)
    stand(institution, Phase.CLINICIANS)
    assert respond(institution, ASSAY) is Phase.CLINICIANS
    assert len(stated(institution)) == 1


def test_a_run_cut_off_between_statement_and_phase_is_made_good(
    institution: Institution, monkeypatch: pytest.MonkeyPatch
) -> None:
    institution.release(0)
    stand(institution, Phase.CLINICIANS)

    def cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(institution.shelf, "set_phase", cut)
        with pytest.raises(KeyboardInterrupt):
            respond(institution, ASSAY)
    assert institution.shelf.phase("risk") is Phase.CLINICIANS
    assert respond(institution, ASSAY) is Phase.SHADOW
    assert len(stated(institution)) == 1


def test_a_policy_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "monitoring.toml"
    with pytest.raises(InputError, match="monitoring policy"):
        monitoring.load(path)
    path.write_text(monitoring.DEFAULT.read_text() + '[[action]]\nkind = "value"\nwhy = "twice"\n')
    with pytest.raises(InputError, match="one action a kind"):
        monitoring.load(path)


def test_every_kind_of_signal_has_an_action() -> None:
    from lifechart.evaluate.signals import KINDS

    assert {action.kind for action in POLICY.action} == set(KINDS)
