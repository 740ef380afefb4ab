"""RFMedSAM 2: boxes, adapters, positions and memory, what learns from what, labels, the parts that are exported."""

import numpy as np
import pytest
import torch
from PIL import Image

from ultrarefiner_monai.data.phantom import generate_phantom
from ultrarefiner_monai.losses import StepsLoss
from ultrarefiner_monai.models.inferers import SequenceInferer
from ultrarefiner_monai.networks import lite_medsam_weights
from ultrarefiner_monai.networks.rfmedsam2 import FrameUnet, RfMedSam2, build, describe, exported_parts
from ultrarefiner_monai.networks.rfmedsam2.adapters import PLACES, Adapter, DepthwiseAdapter, read_places
from ultrarefiner_monai.networks.rfmedsam2.boxes import boxes_of_logits, hard_boxes, label_masks
from ultrarefiner_monai.networks.rfmedsam2.memory import WINDOW, remembered
from ultrarefiner_monai.networks.rfmedsam2.steps import Steps
from ultrarefiner_monai.networks.sam2.memory import attend
from ultrarefiner_monai.networks.sam2.students import build_prompted
from ultrarefiner_monai.systems.sequence_keys import LONGEST_WINDOW

SIZE = 64
CPU = torch.device("cpu")


def made(variant="mini", classes=(), features="8+16+16", weights=None, **choices):
    torch.manual_seed(0)
    return RfMedSam2(FrameUnet("2d", features, SIZE, classes), build_prompted(variant, SIZE, weights), **choices)


def moved(network, scale=0.1):
    """The network with last layers that do something."""
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in [*network.trainable()["sam"], network.body.memory.network.memory_temporal_positional_encoding]:
            parameter.add_(scale * torch.randn_like(parameter))
    return network


def frames(count, seed=1):
    return torch.rand(count, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def some_boxes(count, labels=1):
    generator = torch.Generator().manual_seed(3)
    first = torch.randint(4, 20, (count, labels, 2), generator=generator)
    return torch.cat([first, first + torch.randint(15, 40, (count, labels, 2), generator=generator)], 2).float()


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("variant", "by_place"),
    [
        ("large", (9_012_024, 9_012_024, 135_424, 270_848, 266_240, 2_968, 67_712)),
        ("tiny", (1_167_384, 1_167_384, 135_424, 270_848, 266_240, 2_968, 67_712)),
    ],
)
def test_adapters_have_the_published_count(variant, by_place):
    with torch.device("meta"):
        network = RfMedSam2(FrameUnet("2d", "8+16+16", 256), build_prompted(variant, 256))
    assert {place: count(each) for place, each in network.adapters.items()} == dict(zip(PLACES, by_place, strict=True))
    assert sum(by_place) == {"large": 18_767_240, "tiny": 3_077_960}[variant]


def test_parameters_of_an_adapter():
    for width, with_neighbours in {32: 648, 64: 2_320, 144: 10_980, 256: 33_856, 1152: 668_448}.items():
        assert count(DepthwiseAdapter(width, True)) == count(DepthwiseAdapter(width, False)) == with_neighbours
    assert count(Adapter(256)) == 33_088


def test_unets_have_the_published_count():
    with torch.device("meta"):
        flat = FrameUnet("2d", "", 512, [f"organ{number}" for number in range(13)])
        deep = FrameUnet("3d", "", 256, [f"organ{number}" for number in range(13)], frames=32)
    assert (count(flat), count(deep)) == (46_316_184, 45_424_088)
    assert len(flat.network.deep_supervision_heads) == 3


@pytest.mark.parametrize("variant", ["mini", "lite_medsam"])
def test_adapters_are_nothing_at_first_and_learn_alone(variant):
    network = made(variant).train()
    plain = made(variant, adapters="none").train()
    image, boxes = frames(1), some_boxes(1)
    found, bare = (each(image, boxes=boxes, return_parts=True).masks for each in (network, plain))
    assert all((found[name] - bare[name]).abs().max() == 0 for name in ("unet", "step1", "step2"))
    frozen = {name: p.clone() for name, p in network.named_parameters() if not p.requires_grad}
    learning = [p for group in network.trainable().values() for p in group]
    optimizer = torch.optim.SGD(learning, 0.1)
    for _ in range(2 if variant == "mini" else 3):  # in the first only last layers, which are zero, have a gradient
        optimizer.zero_grad()
        parts = network(image, boxes=boxes, return_parts=True)
        sum(mask.square().mean() for mask in (*parts.masks.values(), *parts.heads)).backward()
        optimizer.step()
    assert all(p.grad is not None for p in learning)
    assert all(p.grad.abs().sum() > 0 for name, p in network.adapters.named_parameters() if "norm" not in name)
    assert all(p.grad is None and torch.equal(p, frozen[n]) for n, p in network.named_parameters() if n in frozen)


def test_a_hard_box_has_inclusive_corners():
    masks = torch.zeros(1, 4, 16, 16, dtype=torch.bool)
    masks[0, 0, 3:8, 4:11] = True
    masks[0, 1, 5, 6] = True
    masks[0, 2] = True
    boxes = hard_boxes(masks)
    assert boxes[0, :3].tolist() == [[4, 3, 10, 7], [6, 5, 6, 5], [0, 0, 15, 15]]
    assert boxes[0, 3].isnan().all()


def test_an_empty_box_is_no_point_for_either_sam():
    nothing, box = torch.full((1, 4), torch.nan), torch.tensor([[4.0, 3.0, 10.0, 7.0]])
    sam = build_prompted("mini", SIZE)
    sparse, _ = sam.encode_prompts(1, boxes=nothing)
    assert (sparse == sam.network.prompt_encoder.not_a_point_embed.weight).all()
    lite = made("lite_medsam").eval()
    with torch.no_grad():
        features = lite.body.encode(lite.sam.normalise(frames(1)))
        missing, given = (lite.body.ask(features, each).logits for each in (nothing, box))
        points = torch.zeros(1, 2, 2), torch.full((1, 2), -1)
        expected, _ = lite.sam.decode(features, *points, tokens=slice(0, 1))
        known, _ = lite.sam.decode(features, boxes=box, tokens=slice(0, 1))
    assert torch.equal(given, known)  # as LiteMedSAM itself takes it
    assert missing.isfinite().all() and expected.shape == missing.shape and not torch.equal(missing, given)


def test_label_masks_are_of_the_likeliest():
    logits = torch.tensor([[1.0, -1.0, 2.0], [0.5, -2.0, 3.0]]).reshape(1, 2, 1, 3)
    assert label_masks(logits)[0, :, 0].tolist() == [[True, False, False], [False, False, True]]


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (0, {0: 0}),
        (2, {2: 0, 1: 1, 0: 2}),
        (6, {6: 0, 5: 1, 4: 2, 3: 3, 2: 4, 1: 5, 0: 6}),
        (7, {7: 0, 6: 1, 5: 2, 4: 3, 3: 4, 2: 5, 1: 6}),
        (10, {10: 0, 9: 1, 8: 2, 7: 3, 6: 4, 5: 5, 4: 6}),
    ],
)
def test_frames_before_are_remembered_by_their_distance(frame, expected):
    groups = remembered(12, torch.zeros(12), torch.arange(12), 6, CPU)
    assert recalled(groups)[frame] == expected
    assert max(len(group.distances) for group in groups) == 7


def recalled(groups):
    return {
        int(frame): dict(zip(sources.tolist(), group.distances.tolist(), strict=True))
        for group in groups
        for frame, sources in zip(group.frames, group.sources.T, strict=True)
    }


def test_distances_are_true_ones_and_sequences_apart():
    groups = remembered(5, torch.tensor([0, 1, 0, 1, 0]), torch.tensor([3, 3, 6, 4, 20]), 6, CPU)
    assert recalled(groups) == {0: {0: 0}, 1: {1: 0}, 2: {2: 0, 0: 3}, 3: {3: 0, 1: 1}, 4: {4: 0}}
    with pytest.raises(ValueError, match="positions must differ within a sequence"):
        remembered(2, torch.zeros(2), torch.zeros(2), 6, CPU)
    with pytest.raises(ValueError, match=r"window must be in 0\.\.6, found 7"):
        remembered(1, None, None, 7, CPU)


def test_memories_have_codes_of_their_distance_and_no_order():
    network = moved(made()).eval()
    sam, generator = network.sam, torch.Generator().manual_seed(4)
    own = torch.randn(1, 256, 4, 4, generator=generator)
    memories, pointers = (torch.randn(3, 1, *shape, generator=generator) for shape in ((64, 4, 4), (256,)))
    distances, order = torch.tensor([0, 1, 4]), torch.tensor([2, 0, 1])
    with torch.no_grad():
        found = attend(sam, own, memories, distances, pointers, distances)
        mixed = attend(sam, own, memories[order], distances[order], pointers[order], distances[order])
        moved_away = torch.tensor([0, 3, 4])
        other = attend(sam, own, memories, moved_away, pointers, distances)
    torch.testing.assert_close(mixed, found, atol=1e-5, rtol=1e-5)
    assert (other - found).abs().max() > 1e-4


@pytest.mark.parametrize("variant", ["mini", "lite_medsam"])
def test_sequences_look_back_and_not_at_each_other(variant):
    network = moved(made(variant)).eval()
    image, boxes = frames(5), some_boxes(5)
    sequence, position = torch.tensor([0, 0, 1, 0, 1]), torch.tensor([0, 1, 5, 2, 7])

    def masks(chosen, image=image):
        chosen = torch.tensor(chosen)
        about = {"sequence": sequence[chosen], "position": position[chosen], "boxes": boxes[chosen]}
        with torch.no_grad():
            return network(image[chosen], return_parts=True, **about).masks["step2"]

    together = masks([0, 1, 2, 3, 4])
    apart = torch.cat([masks([0, 1, 3]), masks([2, 4])])[[0, 1, 3, 2, 4]]
    torch.testing.assert_close(together, apart, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        masks([3, 1, 0])[[2, 1, 0]], masks([0, 1, 3]), atol=1e-4, rtol=1e-4
    )  # any order in a batch
    changed = image.clone()
    changed[3] = 0.5 * changed[3] + 0.2
    after = masks([0, 1, 3], changed)
    assert torch.equal(after[:2], masks([0, 1, 3])[:2]) and not torch.equal(after[2], masks([0, 1, 3])[2])
    earlier = image.clone()
    earlier[0] = 0.5 * earlier[0] + 0.2
    assert (masks([0, 1, 3], earlier)[1:] - together[[1, 3]]).abs().amax((1, 2, 3)).min() > 1e-6
    alone = torch.cat([masks([frame]) for frame in (0, 2)])
    torch.testing.assert_close(
        alone, together[[0, 2]], atol=1e-4, rtol=1e-4
    )  # streamed: the first ones remember nothing


def test_sequences_in_pieces_are_the_whole():
    """What is streamed needs no more than the frames of the window before it; pieces of two are cut within both sequences."""
    network = moved(made(window=2), 0.5).eval()
    about = {"sequence": torch.tensor([0, 0, 0, 0, 1, 1, 1]), "position": torch.tensor([0, 1, 2, 4, 0, 1, 2])}
    with torch.no_grad():
        whole = network(frames(7), return_parts=True, **about).masks["step2"]
        pieces = SequenceInferer(window=2, frames=2)(frames(7), network, **about)
        forgetful = SequenceInferer(window=0, frames=2)(frames(7), network, **about)
    torch.testing.assert_close(pieces[:, 2:], whole, atol=1e-5, rtol=1e-5)
    assert (forgetful[:, 2:] - whole).abs().max() > 10 * (pieces[:, 2:] - whole).abs().max()


def test_the_longest_window_is_that_which_there_are_codes_for():
    assert WINDOW == LONGEST_WINDOW == made().sam.network.memory_temporal_positional_encoding.shape[0] - 1


@pytest.mark.parametrize("size", [1, 3])
def test_boxes_move_alike_however_a_batch_is_cut(size, monkeypatch):
    """Noise of boxes is drawn image by image, one without a box among them, as a training in micro-batches needs it."""
    network = made(box_jitter=0.2, classes=("benign", "malignant")).train()
    left, right = (
        torch.cat([rectangle(first, 10 + number, last, 30) for number in range(4)])
        for first, last in ((5, 20), (35, 55))
    )
    unet = torch.cat([left, right], 1)
    unet[1, 1] = -3.0
    asked, ask = [], network.body.ask

    def record(features, boxes, masks=None, attended=None):
        if attended is None:
            asked.append(boxes)
        return ask(features, boxes, masks, attended)

    monkeypatch.setattr(network.body, "ask", record)

    def boxes_in_pieces(size):
        asked.clear()
        torch.manual_seed(5)
        with torch.no_grad():
            for piece in unet.split(size):
                features = network.encode(frames(len(piece)))
                network.refine(features, piece, remembered(len(piece), None, None, 0, CPU))
        return torch.cat(asked)

    whole, pieces = boxes_in_pieces(4), boxes_in_pieces(size)
    assert whole.isnan().sum() == 4 and not torch.equal(whole[0], hard_boxes(unet > 0)[0, 0])
    torch.testing.assert_close(pieces, whole, atol=0, rtol=0, equal_nan=True)


def test_a_sequence_of_one_is_finite_and_told_from_sam2_by_its_position():
    network = moved(made(), 0.5).eval()
    image, boxes = frames(3), some_boxes(3)
    numbered = {"sequence": torch.zeros(3, dtype=torch.long), "position": torch.arange(3), "boxes": boxes}
    with torch.no_grad():
        single = network(image, boxes=boxes)
        found = network(image, **numbered)
        network.positions = "sam2"
        other = network(image, **numbered)
    assert single.isfinite().all()
    torch.testing.assert_close(other[:1], found[:1], atol=1e-5, rtol=1e-5)
    assert (other[1:] - found[1:]).abs().max() > 1e-6


def test_the_second_box_is_that_of_step_1(monkeypatch):
    network = made().eval()
    asked, ask = [], network.body.ask

    def stub(features, boxes, masks=None, attended=None):
        asked.append(boxes)
        decoded = ask(features, boxes, masks, attended)
        plane = torch.full_like(decoded.logits, -5.0)
        plane[:, :, 3:8, 4:11] = 5.0
        return decoded._replace(logits=plane)

    monkeypatch.setattr(network.body, "ask", stub)
    monkeypatch.setattr(network.unet, "segment", lambda *args: (rectangle(10, 30, 20, 50), ()))
    network(frames(1))
    rectangular = torch.full((1, 1, SIZE // 4, SIZE // 4), -5.0)
    rectangular[:, :, 3:8, 4:11] = 5.0
    assert asked[0].tolist() == [[10, 30, 20, 50]]
    assert asked[1].tolist() == boxes_of_logits(rectangular, SIZE)[0].tolist() == [[16, 12, 43, 31]]
    network.second_box = False
    network(frames(1))
    assert asked[3].tolist() == [[10, 30, 20, 50]]


def rectangle(left, top, right, bottom):
    logits = torch.full((1, 1, SIZE, SIZE), -3.0)
    logits[:, :, top : bottom + 1, left : right + 1] = 3.0
    return logits


@pytest.mark.parametrize("prompt_grad", [True, False])
def test_gradient_of_later_steps_in_the_unet(prompt_grad):
    network = moved(made(prompt_grad=prompt_grad)).train()
    nothing = torch.full((1, 1, 4), torch.nan)
    for boxes in (some_boxes(1), nothing):
        network.zero_grad()
        network(frames(1), boxes=boxes, return_parts=True).masks["step2"].square().mean().backward()
        reached = sum(p.grad.abs().sum() for p in network.unet.parameters() if p.grad is not None)
        assert (reached > 0) == prompt_grad


@pytest.mark.parametrize("memory_grad", [True, False])
def test_gradient_of_a_frame_in_another(memory_grad):
    network = moved(made(memory_grad=memory_grad)).eval()
    image = frames(2).requires_grad_()
    about = {"sequence": torch.zeros(2, dtype=torch.long), "position": torch.arange(2), "boxes": some_boxes(2)}
    network(image, return_parts=True, **about).masks["step2"][1].square().mean().backward()
    assert image.grad[1].abs().sum() > 0
    assert (image.grad[0].abs().sum() > 0) == memory_grad


def test_a_missed_label_keeps_the_unets_mask_unless_it_is_remembered():
    network = moved(made()).eval()
    boxes = some_boxes(2)
    boxes[1] = torch.nan
    image = frames(2)
    with torch.no_grad():
        alone = network(image, boxes=boxes, return_parts=True).masks
        numbered = {"sequence": torch.zeros(2, dtype=torch.long), "position": torch.arange(2)}
        together = network(image, boxes=boxes, return_parts=True, **numbered).masks
    for masks in (alone, together):
        assert torch.equal(masks["step1"][1], masks["unet"][1])
    assert torch.equal(alone["step2"][1], alone["unet"][1])
    assert not torch.equal(together["step2"][1], together["unet"][1])


def test_one_class_is_the_lesion_and_two_have_a_background():
    single, double = made().eval(), made(classes=("benign", "malignant")).eval()
    image = frames(2)
    with torch.no_grad():
        parts = single(image, return_parts=True)
        assert torch.equal(single(image), parts.outputs["step2"]) and parts.classes == {}
        told = double(image, return_parts=True)
        planes = double(image).softmax(1)
    assert list(parts.outputs) == list(told.outputs) == ["unet", "step1", "step2"]
    assert single(image).shape == (2, 1, SIZE, SIZE) and planes.shape == (2, 3, SIZE, SIZE)
    torch.testing.assert_close(told.outputs["step2"].sigmoid(), 1 - planes[:, :1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(told.classes["malignant"].sigmoid(), planes[:, 2:], atol=1e-5, rtol=1e-4)


def test_a_volume_is_segmented_as_a_whole():
    torch.manual_seed(0)
    network = FrameUnet("3d", "8+16+16", 32, frames=4).train()
    image = torch.rand(5, 1, 32, 32)
    sequence, position = torch.tensor([0, 1, 0, 0, 1]), torch.tensor([2, 0, 0, 1, 1])
    parts = network(image, sequence, position, return_parts=True)
    assert parts.last.shape == (5, 1, 32, 32) and parts.heads[0].shape == (5, 1, 16, 16)
    network.eval()
    with torch.no_grad():
        both = network(image, sequence, position)
        torch.testing.assert_close(network(image[[2, 3, 0]]), network(image[[2, 3, 0]], torch.arange(3)))
        volume = network(image[[2, 3, 0]], torch.zeros(3))
    torch.testing.assert_close(both[[2, 3, 0]], volume, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", ["mini", "lite_medsam"])
def test_a_card_builds_the_network_again(variant):
    network = moved(made(variant, ("benign", "malignant"), adapters="mlp+decoder", window=3)).eval()
    again = build(describe(network, {})).eval()
    again.load_state_dict(network.state_dict())
    image = frames(2)
    with torch.no_grad():
        assert torch.equal(again(image), network(image))
    unet = build(describe(network.unet, {}))
    assert isinstance(unet, FrameUnet) and unet.settings == network.unet.settings


@pytest.mark.parametrize(("variant", "classes"), [("mini", ()), ("lite_medsam", ("benign", "malignant"))])
def test_exported_parts_are_the_network(variant, classes):
    network = moved(made(variant, classes)).eval()
    parts = exported_parts(network, SIZE)
    assert parts.keys() == {"model", "encoder", "decoder"}
    image = frames(2)
    with torch.no_grad():
        features = parts["encoder"].network(image)
        features = (features,) if isinstance(features, torch.Tensor) else features
        unet, _ = network.unet.segment(image)
        assert unet.amax() > 0  # some box is asked about
        assert torch.equal(parts["decoder"].network(*features, unet), network(image))
        for name, given in (
            ("model", (image,)),
            ("decoder", (*features, unet)),
        ):  # once LiteMedSAM's could not be traced
            traced = torch.jit.trace(parts[name].network, parts[name].samples)
            torch.testing.assert_close(traced(*given), network(image), atol=1e-5, rtol=1e-5)
    size = {name: count(part.network) for name, part in parts.items()}
    assert size["decoder"] < size["model"] and size["encoder"] < size["model"]
    assert exported_parts(network.unet, SIZE).keys() == {"model"}


def test_what_is_refused():
    with pytest.raises(ValueError, match="adapters necks: expected all, none, or some of attention"):
        read_places("necks")
    with pytest.raises(ValueError, match="unet_features '8': expected three or more numbers"):
        FrameUnet("2d", "8", SIZE)
    with pytest.raises(ValueError, match="image_size 72: 5 stages need a multiple of 16"):
        FrameUnet("2d", "8+8+8+8+8", 72)
    with pytest.raises(ValueError, match="must be the same"):
        RfMedSam2(FrameUnet("2d", "8+16+16", 32), build_prompted("mini", SIZE))
    with pytest.raises(ValueError, match=r"window must be in 0\.\.6, found 7"):
        made(window=7)


def phantom(folder, count):
    """Images and masks (count, 1, S, S) of the phantom that have a lesion."""
    generate_phantom(folder, 2 * count, seed=5)
    images, masks = (
        torch.stack(
            [
                torch.from_numpy(np.array(Image.open(file).convert("L").resize((SIZE, SIZE))) / np.float32(255))[None]
                for file in sorted((folder / kind).iterdir())
            ]
        )
        for kind in ("images", "masks")
    )
    masks = (masks > 0.5).float()
    lesions = masks.flatten(1).any(1)
    return images[lesions][:count], masks[lesions][:count]


def shifted(boxes):
    """Boxes (N, 1, 4) moved by 30 % of their sides, to any of four corners."""
    signs = torch.randint(0, 2, (len(boxes), 1, 2)) * 2.0 - 1
    return (boxes + (0.3 * signs * (boxes[..., 2:] - boxes[..., :2] + 1)).repeat(1, 1, 2)).clamp(0, SIZE - 1)


def overlap(boxes, true):
    """IoU (N,) of boxes (N, 1, 4) with inclusive corners; of none 0."""
    both = torch.cat([torch.maximum(boxes, true)[..., :2], torch.minimum(boxes, true)[..., 2:]], -1)
    common, first, second = ((each[..., 2:] - each[..., :2] + 1).clamp(min=0).prod(-1) for each in (both, boxes, true))
    return (common / (first + second - common)).nan_to_num()[:, 0]


@pytest.mark.slow
def test_second_boxes_are_better_than_bad_first_ones(tmp_path):
    """150 steps on the phantom, whose first boxes are all moved by 30 %: most boxes of other images get nearer to the truth."""
    images, masks = phantom(tmp_path, 96)
    true = hard_boxes(masks > 0)
    network = made("lite_medsam", weights=str(lite_medsam_weights()), box_jitter=0.0, prompt_grad=False)
    loss = StepsLoss((0, 1, 1))
    optimizer = torch.optim.AdamW(network.trainable()["sam"], lr=1e-3)
    network.train()
    for _ in range(150):
        drawn = torch.randint(0, 64, (4,))
        optimizer.zero_grad()
        loss(network(images[drawn], boxes=shifted(true[drawn]), return_parts=True), masks[drawn]).backward()
        optimizer.step()
    network.eval()
    first = shifted(true[64:])
    with torch.no_grad():
        step1 = network(images[64:], boxes=first, return_parts=True).masks["step1"]
    better = overlap(boxes_of_logits(step1, SIZE), true[64:]) > overlap(first, true[64:])
    assert better.float().mean() >= 0.7


def test_the_boxes_that_sam_was_asked_with_are_told():
    logits = torch.full((2, 1, 8, 8), -1.0)
    logits[1, 0, 2:4, 3:7] = 1  # the first frame has no box
    found = Steps({"unet": logits, "step1": logits}).asked
    assert found.image.tolist() == [1] and found.boxes.tolist() == [[3, 2, 6, 3]]
    true = torch.tensor([[[0.0, 1.0, 2.0, 3.0]], [[torch.nan] * 4]])
    found = Steps({"unet": logits, "step1": logits}, boxes=true).asked
    assert found.image.tolist() == [0] and found.boxes.tolist() == [[0, 1, 2, 3]]
    assert Steps({"unet": logits}).asked is None
