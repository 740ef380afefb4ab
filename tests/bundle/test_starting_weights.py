"""The card that a training writes."""

from types import SimpleNamespace

import pytest
from untrained import card_of

from ultrarefiner_monai.bundle import model_card, told_apart
from ultrarefiner_monai.models import build_network
from ultrarefiner_monai.systems import find_stage


@pytest.mark.parametrize(
    ("stage", "classes", "labels"),
    [("phase1", "", "lesion"), ("automedsam", "lesion", "lesion"), ("automedsam", "benign+malignant", "classes")],
)
def test_a_card_says_whether_its_masks_are_of_lesions_or_of_classes(stage, classes, labels):
    system, found = find_stage(stage)
    card = card_of(stage)
    if classes:
        card["network"]["sam"]["classes"] = classes
    networks = SimpleNamespace(image_size=64, settings={"variant": "tiny", "image_size": 64})
    plan = SimpleNamespace(
        islands=0.0,
        request=SimpleNamespace(system=system),
        stage=found,
        trained_on={},
        starts={},
        networks=networks,
        classes=told_apart(classes) if classes else (),
        labels=labels,
        data=None,
    )
    written = model_card(plan, build_network(card))
    assert written["labels"] == labels
    assert found.classes_of(written["network"]) == plan.classes
