"""The diagram's counts are those of the ledger, and say nothing of arms before the trial does."""

import re
from dataclasses import replace

import pytest

from bench._institution import TRIAL, same_arms
from lifechart.core.errors import IntegrityError
from lifechart.release.documents import consort
from lifechart.release.documents.evidence import Held
from lifechart.release.trial.conduct import Trial
from tests.release.documents.conftest import House


def ended(house: House) -> Trial:
    """A trial with withdrawals and missing outcomes, closed, concluded and opened."""
    trial = house.trial(house.shelf.current("risk"))
    planned = trial.design.participants()
    house.enrolled(trial, planned, benefit=1.0)
    manifest = house.shelf.current("risk").manifest.digest
    for place in range(planned, planned + 5):
        trial.enrol(f"{place:064x}", manifest=manifest, actor="dr.li")
    trial.leave(f"{3:064x}", actor="dr.li")
    trial.leave(f"{planned:064x}", actor="dr.li")
    trial.close("planned end", actor="dr.li")
    trial.conclude(actor="dr.li")
    return trial


def held(house: House) -> Held:
    found = house.dossier().trial
    assert found is not None
    return found


def test_arms_are_not_told_before_they_are_opened(house: House) -> None:
    ended(house)
    flow = consort.flow_of(held(house), house.log)
    assert not flow.told
    assert [arm.name for arm in flow.arms] == ["Both arms"]


def test_counts_reconcile_with_the_course_and_the_result(house: House) -> None:
    trial = ended(house)
    trial.reveal(actor="dr.li")
    flow = consort.flow_of(held(house), house.log)
    course, result = trial.course, trial.result()
    assert flow.told
    assert flow.concluded
    assert flow.enrolled == len(course.enrolled) == sum(arm.allotted for arm in flow.arms)
    assert [arm.analysed for arm in flow.arms] == [result.num_intervention, result.num_control]
    assert sum(arm.missing for arm in flow.arms) == result.num_missing == 5
    assert sum(arm.withdrew for arm in flow.arms) == len(course.left) == 2
    told = {who: trial.arm(who) for who in course.enrolled}
    assert flow.arms[0].allotted == sum(told.values())


def test_the_drawing_holds_every_count_in_its_words_and_boxes(house: House) -> None:
    trial = ended(house)
    trial.reveal(actor="dr.li")
    diagram = consort.draw(consort.flow_of(held(house), house.log))
    drawn = [int(each) for each in re.findall(r">[^<]*\(n = (\d+)\)<", consort.svg(diagram))]
    arms = diagram.flow.arms
    expected = [diagram.flow.enrolled]
    for arm in arms:
        expected += [arm.allotted, arm.withdrew, arm.missing, arm.analysed]
    assert drawn == expected
    words = consort.in_words(diagram.flow)
    assert all(str(number) in words for number in expected)
    for box in diagram.boxes:
        assert box.x >= 0
        assert box.x + box.width <= consort.WIDTH
        assert box.y + box.height <= diagram.height


def test_a_course_that_does_not_bear_out_the_conclusion_is_not_drawn(house: House) -> None:
    trial = ended(house)
    trial.reveal(actor="dr.li")
    flow, found = consort.flow_of(held(house), house.log), held(house)
    first, second = flow.arms
    swapped = replace(flow, arms=(replace(first, analysed=first.analysed + 1, missing=first.missing - 1), second))
    with pytest.raises(IntegrityError, match="conclusion"):
        consort.reconcile(swapped, found)
    with pytest.raises(IntegrityError, match="add up"):
        consort.reconcile(replace(flow, enrolled=flow.enrolled + 1), found)
    with pytest.raises(IntegrityError, match="are not the"):
        consort.reconcile(replace(flow, arms=(replace(first, analysed=first.analysed + 1), second)), found)
    other = replace(first, allotted=first.allotted - 1, analysed=first.analysed - 1)
    moved = replace(second, allotted=second.allotted + 1, analysed=second.analysed + 1)
    with pytest.raises(IntegrityError, match="recomputed"):
        consort.reconcile(replace(flow, arms=(other, moved)), found)


def test_clusters_are_counted_by_their_arm(house: House) -> None:
    wards = [f"ward-{number:02}" for number in range(12)]
    content = TRIAL.replace('unit = "individual"', 'unit = "cluster"').replace("looks = [0.5, 1.0]", "looks = [1.0]")
    content += f"clusters = {wards}\ncluster_size = 6\nicc = 0.02\n"
    registered = house.register("clusters.toml", content)
    trial = Trial(registered, house.settings.protocols, house.log, house.people)
    manifest = house.shelf.current("risk").manifest.digest
    trial.open(manifest=manifest, actor="dr.li", entropy=same_arms)
    for place in range(72):
        who = f"{place:064x}"
        trial.enrol(who, manifest=manifest, actor="dr.li", cluster=wards[place % 11])
        trial.record(who, float(place % 7), actor="dr.li")
    trial.close("planned end", actor="dr.li")
    trial.conclude(actor="dr.li")
    told = sum(trial.arm(f"{place:064x}") for place in range(72))
    trial.reveal(actor="dr.li")
    flow = consort.flow_of(held(house), house.log)
    assert [arm.allotted for arm in flow.arms] == [told, 72 - told]


def test_another_secret_is_refused(house: House) -> None:
    trial = ended(house)
    with pytest.raises(IntegrityError, match="committed"):
        consort.arms_of(b"another secret", trial.design, trial.course)


def test_outcomes_that_came_after_the_conclusion_are_not_in_the_diagram(house: House) -> None:
    trial = ended(house)
    before = consort.flow_of(held(house), house.log)
    late = next(who for who in trial.course.enrolled if who not in trial.course.outcomes)
    trial.record(late, 0.5, actor="dr.li")
    assert consort.flow_of(held(house), house.log) == before
