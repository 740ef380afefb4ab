"""The made samples send every branch on data both ways."""

import pytest
import torch

from ultrarefiner_monai.deploy.export.formats import parts_of
from ultrarefiner_monai.models import load_segmenter
from ultrarefiner_monai.networks import PromptGenerator
from ultrarefiner_monai.networks.export_parts import made_samples, whole_network
from ultrarefiner_monai.networks.sam.pixels import valid_area


@pytest.mark.parametrize("size", [64, 256])
def test_the_samples_are_two_lesions_nothing_and_everything(size):
    image, coarse = made_samples(size)
    assert image.shape == coarse.shape == (3, 1, size, size)
    assert image.min() >= 0 and image.max() <= 1
    assert PromptGenerator()(coarse).empty.tolist() == [False, True, True]
    lesion = coarse[0, 0] > 0.5
    columns = lesion.any(0).int()
    assert (columns.diff() == 1).sum() == 2  # a gap between them
    assert not lesion[size * 3 // 4 :].any()
    assert valid_area(image).flatten(1).float().mean(1).tolist() == pytest.approx([0.75, 0, 1], abs=0.01)


@pytest.mark.parametrize(
    ("phase", "expected"),
    [("phase1", {"model": (1,)}), ("phase2", {"model": (2,)}), ("phase3", {"model": (1,)})],
)
def test_the_parts_of_each_phase_run_on_their_samples(phase, expected, make_model):
    parts = parts_of(load_segmenter(make_model(phase)[0], amp=False, device="cpu"))
    assert list(parts) == (["model"] if phase == "phase1" else ["model", "encoder", "decoder"])
    assert tuple(sample.shape[1] for sample in parts["model"].samples) == expected["model"]
    for part in parts.values():
        assert not any(parameter.requires_grad for parameter in part.network.parameters())
        with torch.no_grad():
            result = part.network(*part.samples)
        assert len(result) == 3 and result.isfinite().all()
        assert len(part.inputs) == len(part.samples)


def test_what_is_exported_has_no_noise_and_no_image_encoder_in_its_decoder(make_model):
    segmenter = load_segmenter(make_model("automedsam", lora_rank=2)[0], amp=False, device="cpu")
    image, _ = made_samples(64)
    with torch.no_grad():
        expected = segmenter.network(image)
    segmenter.network.train()
    parts = parts_of(segmenter)
    assert [(name, part.inputs, part.outputs) for name, part in parts.items()] == [
        ("model", ("image",), ("logits",)),
        ("encoder", ("image",), ("embedding",)),
        ("decoder", ("embedding",), ("logits",)),
    ]
    assert not any(module.training for part in parts.values() for module in part.network.modules())
    with torch.no_grad():
        torch.testing.assert_close(parts["model"].network(image), expected, rtol=0, atol=1e-4)  # adapters are merged
        whole = parts["model"].network(image)
        assert torch.equal(parts["decoder"].network(parts["encoder"].network(image)), whole)
    names = {name for part in parts.values() for name, _ in part.network.named_parameters()}
    assert not any("lora_" in name for name in names)
    assert not any("image_encoder" in name for name, _ in parts["decoder"].network.named_parameters())


def test_a_system_with_nothing_to_take_apart_exports_its_network():
    network = torch.nn.Conv2d(1, 1, 1)
    ((name, part),) = whole_network(network, 64).items()
    assert (name, part.inputs, part.outputs) == ("model", ("image",), ("logits",))
    assert part.network is network and part.samples[0].shape == (3, 1, 64, 64)
