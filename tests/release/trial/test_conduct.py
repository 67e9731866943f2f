"""A trial's steps: what each demands, what the ledger says after it, and what an outsider can check at the end."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from bench._institution import TRIAL, Institution, same_arms
from lifechart.core.errors import GateRefused, InputError, IntegrityError
from lifechart.release.trial import allocation
from lifechart.release.trial.conduct import Trial

CLUSTERS = [f"ward {number}" for number in range(16)]
CLUSTER = TRIAL.replace(
    'unit = "individual"', f'unit = "cluster"\nclusters = {CLUSTERS}\ncluster_size = 4\nicc = 0.05\nfutility = false'
).replace("[0.5, 1.0]", "[1.0]")
WEDGE = TRIAL.replace(
    'unit = "individual"',
    f'unit = "stepped-wedge"\nclusters = {CLUSTERS[:12]}\ncluster_size = 4\nicc = 0.05\nsteps = 4\nperiod_days = 30',
).replace("[0.5, 1.0]", "[1.0]")


@pytest.fixture
def house(tmp_path: Path) -> Institution:
    return Institution(tmp_path)


def start(house: Institution, content: str = TRIAL, clock: datetime | None = None) -> tuple[Trial, str]:
    release = house.release()
    registered = house.register("trial.toml", content)
    time = [clock or datetime.now(UTC)]
    trial = Trial(registered, house.settings.protocols, house.log, house.people, lambda: time[0])
    trial.open(manifest=release.manifest.digest, actor="dr.li", entropy=same_arms)
    return trial, release.manifest.digest


def test_looks_follow_the_plan_and_the_result_the_arms(house: Institution) -> None:
    trial = house.trial(house.release())
    planned = trial.design.participants()
    house.enrolled(trial, planned // 2, benefit=0.9)
    look = trial.look(house.keys["board.one"])
    assert (look.number, look.advice) == (1, trial.advice(0, look.result.z))
    with pytest.raises(GateRefused, match="interim looks are taken"):
        trial.look(house.keys["board.one"])
    house.enrolled(trial, planned - planned // 2, benefit=0.9)
    trial.close("planned size reached", actor="dr.li")
    result = trial.result()
    assert result.low < 0.9 < result.high
    assert result.num_intervention + result.num_control == planned
    trial.conclude(actor="dr.li")
    assert trial.course.concluded == "stop for efficacy"
    logged = [entry.statement.predicate for entry in house.log.find(kind="trial")]
    shown = [said for said in logged if said["step"] == "look"]
    assert not any("estimate" in said or "z" in said for said in shown), "the board's figures are not in the ledger"
    with pytest.raises(GateRefused, match="concluded already"):
        trial.conclude(actor="dr.li")


def test_an_outsider_recomputes_every_arm_once_the_secret_is_open(house: Institution) -> None:
    trial = house.trial(house.release())
    house.enrolled(trial, 10)
    arms = [trial.arm(who) for who in trial.course.enrolled]
    assert not any("arm" in entry.statement.predicate for entry in house.log.find(kind="trial"))
    trial.pause("sponsor", actor="dr.li")
    trial.close("sponsor", actor="dr.li")
    trial.reveal(actor="dr.li")
    course = trial.course
    secret = bytes.fromhex(course.secret)
    assert allocation.commitment(secret) == course.commitment
    redone = [allocation.arm_of(secret, each.stratum, (4, 6, 8), each.position) for each in course.enrolled.values()]
    assert redone == arms


def test_another_secret_or_outcome_on_disk_is_noticed(house: Institution) -> None:
    trial = house.trial(house.release())
    house.enrolled(trial, 4)
    folder = house.settings.protocols / trial.registered.original
    outcomes = (folder / "outcomes.ndjson").read_text()
    (folder / "outcomes.ndjson").write_text(outcomes.replace('"outcome":', '"outcome":1', 1))
    trial.pause("audit", actor="dr.li")
    trial.close("audit", actor="dr.li")
    with pytest.raises(IntegrityError, match="1 recorded outcome"):
        trial.result()
    (folder / "outcomes.ndjson").write_text(outcomes)
    trial.result()
    (folder / "allocation.secret").write_bytes(b"x" * 32)
    with pytest.raises(IntegrityError, match="committed to"):
        trial.result()


def test_a_serious_suspected_event_pauses_and_its_clock_runs(house: Institution) -> None:
    clock = [datetime.now(UTC)]
    trial = house.trial(house.release())
    trial = Trial(trial.registered, house.settings.protocols, house.log, house.people, lambda: clock[0])
    house.enrolled(trial, 2)
    who = f"{0:064x}"
    about = {"serious": True, "fatal": False, "occurred": clock[0] - timedelta(hours=2), "actor": "dr.li"}
    first = trial.adverse(who, suspected=False, **about)
    assert not trial.course.paused
    trial.adverse(who, suspected=True, **about)
    assert "suspected" in trial.course.paused
    manifest = trial.course.manifest
    with pytest.raises(GateRefused, match="paused"):
        trial.enrol("a" * 64, manifest=manifest, actor="dr.li")
    assert trial.overdue() == []
    clock[0] += timedelta(hours=25)
    assert trial.overdue() == [first.index], "24 hours for any serious event, 15 days for a suspected one"
    trial.reported(first.index, to="sponsor", actor="dr.li")
    assert trial.overdue() == []
    trial.resume(house.keys["board.one"], "reviewed; unrelated after all")
    trial.enrol("a" * 64, manifest=manifest, actor="dr.li")
    with pytest.raises(InputError, match="a time that has come"):
        trial.adverse(who, suspected=True, **(about | {"occurred": clock[0] + timedelta(days=1)}))


def test_clusters_share_an_arm_and_are_compared_as_clusters(house: Institution) -> None:
    trial, manifest = start(house, CLUSTER)
    rng = np.random.default_rng(0)
    for number in range(trial.design.participants()):
        who, ward = f"{number:064x}", CLUSTERS[number % 16]
        trial.enrol(who, manifest=manifest, actor="dr.li", cluster=ward)
        trial.record(who, rng.standard_normal() + 1.5 * trial.arm(who), actor="dr.li")
    course = trial.course
    for ward in CLUSTERS:
        arms = {trial.arm(each.participant) for each in course.enrolled.values() if each.cluster == ward}
        assert len(arms) == 1
    trial.close("planned", actor="dr.li")
    result = trial.result()
    assert result.low < 1.5 < result.high
    assert (result.num_intervention, result.num_control) == (32, 32)


def test_clusters_of_a_stepped_wedge_cross_over_in_their_period(house: Institution) -> None:
    began = datetime.now(UTC)
    release = house.release()
    registered = house.register("trial.toml", WEDGE)
    clock = [began]
    trial = Trial(registered, house.settings.protocols, house.log, house.people, lambda: clock[0])
    trial.open(manifest=release.manifest.digest, actor="dr.li", entropy=same_arms)
    number, shares = 0, []
    for period in range(5):
        clock[0] = datetime.now(UTC) + timedelta(days=30 * period, minutes=1)
        under = []
        for ward in CLUSTERS[:12]:
            trial.enrol(f"{number:064x}", manifest=release.manifest.digest, actor="dr.li", cluster=ward)
            under.append(trial.arm(f"{number:064x}"))
            number += 1
        shares.append(sum(under))
    assert shares == [0, 3, 6, 9, 12]
    clock[0] += timedelta(days=31)
    with pytest.raises(GateRefused, match="5 periods are over"):
        trial.enrol("a" * 64, manifest=release.manifest.digest, actor="dr.li", cluster=CLUSTERS[0])


def test_a_trial_does_not_end_when_the_data_please(house: Institution) -> None:
    trial = house.trial(house.release())
    house.enrolled(trial, 6)
    with pytest.raises(GateRefused, match="let the data choose"):
        trial.close("looks good", actor="dr.li")
    with pytest.raises(GateRefused, match="recorded already"):
        trial.record(f"{0:064x}", 1.0, actor="dr.li")
    with pytest.raises(GateRefused, match="never enrolled"):
        trial.record("f" * 64, 1.0, actor="dr.li")
    with pytest.raises(InputError, match="stratum"):
        trial.enrol("f" * 64, manifest=trial.course.manifest, actor="dr.li", stratum="women")
    trial.enrol("f" * 64, manifest=trial.course.manifest, actor="dr.li")
    with pytest.raises(InputError, match="finite"):
        trial.record("f" * 64, float("nan"), actor="dr.li")
