"""Protocols are sealed with signatures, amended in the open, and refused for what they lack."""

from pathlib import Path

import pytest

from bench._institution import TRIAL, VALIDATION, Institution
from lifechart.core.errors import GateRefused, InputError
from lifechart.release.protocol import load

FEW_CLUSTERS = 'unit = "cluster"\nclusters = ["a", "b", "c", "d"]\ncluster_size = 2\nicc = 0.1'


@pytest.fixture
def house(tmp_path: Path) -> Institution:
    return Institution(tmp_path)


def test_a_seal_needs_signatures_and_is_made_once(house: Institution) -> None:
    path = house.write("v.toml", VALIDATION.format(auroc=0.6))
    with pytest.raises(GateRefused, match="wants the signature of ethics-board, medical-officer"):
        house.registry.register(path, actor="sam.steward")
    house.sign(path)
    registered = house.registry.register(path, actor="sam.steward")
    assert house.registry.get(registered.original).protocol.min_patients == 100
    with pytest.raises(GateRefused, match="registered already"):
        house.registry.register(path, actor="sam.steward")


def test_a_changed_byte_after_signing_needs_new_signatures(house: Institution) -> None:
    path = house.write("v.toml", VALIDATION.format(auroc=0.6))
    house.sign(path)
    path.write_text(path.read_text().replace("min_patients = 100", "min_patients = 10"))
    with pytest.raises(GateRefused, match="wants the signature"):
        house.registry.register(path, actor="sam.steward")


def test_amendments_append(house: Institution) -> None:
    first = house.register("v.toml", VALIDATION.format(auroc=0.6))
    amended = house.amend(first, VALIDATION.format(auroc=0.65))
    assert (amended.original, amended.amendments) == (first.original, 1)
    assert amended.digest != first.digest
    assert amended.first.index == first.entry.index
    assert (house.registry.folder / first.digest / "protocol.toml").exists(), "what was sealed stays readable"
    assert [each.digest for each in house.registry.all()] == [amended.digest]
    with pytest.raises(GateRefused, match="another capability or purpose"):
        house.amend(amended, TRIAL)


def test_a_file_edited_after_its_seal_is_noticed(house: Institution) -> None:
    registered = house.register("v.toml", VALIDATION.format(auroc=0.6))
    path = house.registry.folder / registered.digest / "protocol.toml"
    path.write_text(path.read_text().replace("0.6", "0.5"))
    with pytest.raises(GateRefused, match="not the one that was sealed"):
        house.registry.get(registered.original)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (("min_patients = 100", "min_patients = 0"), "min_patients"),
        (('purpose = "validation"', 'purpose = "trial"'), "trial"),
        (("min_events = 20", "min_event = 20"), "min_event"),
        (("date = 2026-01-01T00:00:00Z", 'date = "soon"'), "date"),
        (('scope = "whole"', 'scope = "half"'), "scope"),
    ],
)
def test_what_is_no_protocol_is_named(change: tuple[str, str], key: str) -> None:
    content = VALIDATION.format(auroc=0.6).replace(*change)
    with pytest.raises(InputError, match=key):
        _ = load(content.encode(), "v.toml").criteria


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("looks = [0.5, 1.0]", "looks = [0.5]"), "end in 1"),
        (('unit = "individual"', 'unit = "cluster"'), "clusters"),
        (("effect = 1.0", "effect = 0.0"), "effect"),
        (
            ('unit = "individual"', 'unit = "cluster"\nclusters = ["a", "b", "c", "d"]\ncluster_size = 2\nicc = 0.1'),
            "power",
        ),
    ],
)
def test_a_trial_that_cannot_work_is_not_registered(change: tuple[str, str], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        load(TRIAL.replace(*change).encode(), "t.toml")


def test_a_protocol_of_tomorrow_is_refused(house: Institution) -> None:
    path = house.write("v.toml", VALIDATION.format(auroc=0.6).replace("2026-01-01", "2099-01-01"))
    house.sign(path)
    with pytest.raises(GateRefused, match="lies ahead"):
        house.registry.register(path, actor="sam.steward")
