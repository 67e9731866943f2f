"""In phase `trial` an answer is made for everybody and shown for participants who were allotted the intervention."""

from pathlib import Path

from bench._institution import STAFF, TRIAL, same_arms
from lifechart.core.capability import Phase
from lifechart.ledger.keys import Signer
from lifechart.release.people import People
from lifechart.release.protocol import open_registry
from lifechart.release.trial.conduct import Trial
from tests.serve.house import Hospital


def open_trial(hospital: Hospital, folder: Path) -> Trial:
    house = hospital.house
    people, registry = People(house.ledger), open_registry(house.settings, house.ledger)
    path = folder / "trial.toml"
    path.write_text(TRIAL)
    for number, name in enumerate(("ethics.chair", "dr.okafor")):
        signer = Signer.generate(name)
        people.register(signer.public, STAFF[name], staff_number=str(number), actor="root")
        registry.sign(path, signer, office=STAFF[name][0], comment="weighed")
    trial = Trial(registry.register(path, actor="root"), registry.folder, house.ledger, people)
    trial.open(manifest=house.shelf.current("risk").manifest.digest, actor="root", entropy=same_arms)
    return trial


def test_only_the_intervention_arm_sees_answers(ward: Hospital, tmp_path: Path) -> None:
    ward.phase(Phase.TRIAL)
    trial, house = open_trial(ward, tmp_path), ward.house

    def is_shown(patient: str) -> bool:
        page = ward.client.get(f"/patients/{patient}").text
        is_withheld = ward.statements("answer")[-1].predicate["showing"] == "shadow"
        assert ("not shown yet" in page) == is_withheld
        return not is_withheld

    for patient in ("ines", "tom"):
        assert not is_shown(patient), "nobody is enrolled"
        who = house.auditor.patient(patient)
        trial.enrol(who, manifest=trial.course.manifest, actor="root")
        assert is_shown(patient) == (trial.arm(who) == 1)
    trial.pause("enough", actor="root")
    trial.close("enough", actor="root")
    assert not is_shown("ines"), "a closed trial shows nothing"
