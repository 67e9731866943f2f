"""A live chart's notes are read with tags in the place of identifiers; de-identified ones as they are."""

from dataclasses import replace
from datetime import datetime

from lifechart.core.timeline import Timeline
from lifechart.model.live_notes import as_learnt
from lifechart.model.vocabulary import Vocabulary

TEXT = "Mrs. Eleanor Whitfield was seen on 3/14/2019. Phone (555) 201-4433. Sleeps badly."


def chart(reference: str | None) -> Timeline:
    row = {"time": datetime(2019, 3, 14), "code": "LOINC//11506-3", "kind": "note", "text_value": TEXT}
    return Timeline.of(1, [row | {"reference": reference}, {"time": datetime(2019, 3, 14), "code": "X//1"}])


def test_only_what_is_live_is_de_identified(vocabulary: Vocabulary) -> None:
    with_tags = replace(vocabulary, modalities={"note": {"pieces": ["a", "[NAME]</w>"], "merges": []}})
    found = as_learnt(chart("DocumentReference/1"), with_tags).events
    told = found.filter(found["kind"] == "note")["text_value"][0]
    assert "Whitfield" not in told
    assert "201-4433" not in told
    assert "Sleeps badly." in told
    assert found.height == 2
    for timeline, known in (
        (chart(None), with_tags),
        (chart("DocumentReference/1"), vocabulary),
        (chart("D/1"), replace(vocabulary, modalities={"note": {"pieces": ["a", "[</w>"], "merges": []}})),
    ):
        assert as_learnt(timeline, known).events.equals(timeline.events)
