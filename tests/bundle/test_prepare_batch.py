"""What a network that is asked about lesions is given: prompts of true masks, or another model's map."""

import pytest
import torch

from ultrarefiner_monai.bundle import PreparePrompts, PrepareSequences, balanced
from ultrarefiner_monai.networks.prompts.components import component_boxes

HASHES = [f"{number:064x}" for number in (7, 8, 9)]


@pytest.fixture
def batch():
    masks = torch.zeros(3, 1, 48, 48)
    masks[0, 0, 5:25, 8:30] = masks[0, 0, 30:40, 30:44] = masks[2, 0, 10:30, 10:40] = 1
    image = torch.rand(3, 1, 48, 48, generator=torch.Generator().manual_seed(0))
    return {"image": image, "label": masks, "sha256": HASHES, "coarse": torch.full_like(image, 0.25)}


def of(batch, *numbers):
    return {
        key: value[list(numbers)] if key != "sha256" else [HASHES[n] for n in numbers] for key, value in batch.items()
    }


def test_true_boxes_are_tight_and_moved_ones_belong_to_their_image(batch):
    tight = PreparePrompts("truth_box")(batch)[3]["prompts"]
    assert tight.image.tolist() == [0, 0, 2]
    assert tight.boxes[:2].tolist() == component_boxes(batch["label"][0, 0].numpy() > 0).tolist()
    prepare = PreparePrompts("truth_box_10")
    moved = prepare(batch)[3]["prompts"].boxes
    sides = (tight.boxes[:, 2:] - tight.boxes[:, :2] + 1).repeat(1, 2)
    share = ((moved - tight.boxes) / sides).abs()
    assert share.max() <= 0.1 and (share > 0).all()
    assert torch.equal(moved[2:], prepare(of(batch, 1, 2))[3]["prompts"].boxes)  # in another batch
    assert torch.equal(moved, prepare(batch)[3]["prompts"].boxes)  # in another epoch


def test_a_true_point_lies_inside(batch):
    prompts = PreparePrompts("truth_point")(batch)[3]["prompts"]
    x, y = prompts.points[:, 0].long().T
    assert prompts.boxes is None and (batch["label"][prompts.image, 0, y, x] == 1).all()


def test_training_draws_kinds_of_prompts(batch):
    prepare = PreparePrompts("mixed", mix=(0.5, 0.25, 0.25))
    torch.manual_seed(0)
    drawn = [prepare(batch)[3]["prompts"] for _ in range(20)]
    assert {(one.boxes is None, one.points is None) for one in drawn} == {(False, True), (True, False), (False, False)}
    torch.manual_seed(0)
    again = prepare(batch)[3]["prompts"]
    for value, before in zip(again, drawn[0], strict=True):
        assert (value is None and before is None) or torch.equal(value, before)


def test_with_another_models_map_the_truth_reaches_the_network_in_no_way(batch):
    prepare = PreparePrompts("auto")
    inputs, target, _, extra = prepare(batch)
    noisy = prepare(batch | {"label": torch.rand(3, 1, 48, 48)})
    assert extra == noisy[3] == {} and torch.equal(inputs, noisy[0]) and not torch.equal(target, noisy[1])
    assert torch.equal(inputs, torch.cat([batch["image"], batch["coarse"]], 1))


def test_an_epoch_of_a_combined_data_set_is_balanced_if_asked():
    items = [
        {"id": f"{name}{number}", "dataset": name} for name, count in (("A", 5), ("B", 2)) for number in range(count)
    ]
    assert balanced(items, "image") == items
    assert [item["id"] for item in balanced(items, "dataset")] == [
        "A0",
        "A1",
        "A2",
        "A3",
        "A4",
        "B0",
        "B1",
        "B0",
        "B1",
        "B0",
    ]
    assert [item["repeat"] for item in balanced(items, "dataset")] == [0] * 7 + [1, 1, 2]


def test_sequences_are_numbered_as_the_batch_has_them(batch):
    batch |= {"sequence": ["b", "b", "a"], "position": torch.tensor([4, 6, 0])}
    image, target, args, kwargs = PrepareSequences(return_parts=True)(batch)
    assert torch.equal(image, batch["image"]) and torch.equal(target, batch["label"]) and args == ()
    assert kwargs["sequence"].tolist() == [0, 0, 1] and kwargs["position"].tolist() == [4, 6, 0]
    assert kwargs["sequence"].dtype == kwargs["position"].dtype == torch.int64 and kwargs["return_parts"] is True
    alone = PrepareSequences()({**batch, "label": ["path"] * 3, "position": [4, 6, 0]})
    assert alone[1] is None and alone[3].keys() == {"sequence", "position"}


def test_boxes_of_the_true_labels_are_asked_with_where_that_is_wanted(batch):
    """Corners are inclusive; a label that is not there has none."""
    frames = {**batch, "sequence": ["a", "a", "b"], "position": [0, 1, 0]}
    assert "boxes" not in PrepareSequences()(frames)[3]
    frames["label"][2] *= 2
    boxes = PrepareSequences(true_boxes=True, labels=2)(frames)[3]["boxes"]
    assert boxes[0, 0].tolist() == [8, 5, 43, 39] and boxes[2, 1].tolist() == [10, 10, 39, 29]
    assert boxes.isnan().all(2).tolist() == [[False, True], [True, True], [True, False]]
