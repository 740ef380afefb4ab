"""Distillation: the nine terms by hand, what has a gradient, and that a student does learn."""

from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from small_encoder import SmallEncoder, randomised

from ultrarefiner_monai.data.phantom import PhantomSettings, generate_phantom
from ultrarefiner_monai.losses import DistillationLoss
from ultrarefiner_monai.networks.adapters import EncoderFeatures

LEVELS = ("deep", "fpn", "embedding")


@cache
def images():
    return torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(1))


def teacher():
    return randomised(SmallEncoder(width=8)).eval()


def test_nine_terms_by_hand():
    features = teacher().features(images())
    student = randomised(SmallEncoder(), seed=1).features(images())
    loss = DistillationLoss(weights=(1.0, 0.5, 2.0))
    total = loss(student, features)
    expected = {}
    for number, (found, taught) in enumerate(zip(student.blocks, features.blocks, strict=True), 1):

        def adapter(block):
            return torch.einsum("cd,bhwd->bchw", block.lateral.weight[:, :, 0, 0], block.adapted)

        pairs = {"sum": lambda b: b.map, "block": lambda b: b.map - adapter(b), "adapter": adapter}
        for name, mapped in pairs.items():
            expected[f"{name}_{number}"] = F.mse_loss(mapped(found), mapped(taught))
    assert list(loss.components) == list(expected) and len(expected) == 9
    for name, value in expected.items():
        torch.testing.assert_close(loss.components[name], value.detach(), rtol=1e-4, atol=1e-5)
    weights = {"sum": 1.0, "block": 0.5, "adapter": 2.0}
    assert total.item() == pytest.approx(
        sum(weights[name.split("_")[0]] * value.item() for name, value in expected.items()), rel=1e-4
    )


def test_the_sum_is_block_and_adapter_on_three_grids():
    for stride, block in zip((4, 8, 16), teacher().features(images()).blocks, strict=True):
        found = block.compared()
        assert all(value.shape == (2, 8, 32 // stride, 48 // stride) for value in found.values())
        torch.testing.assert_close(found["sum"], found["block"] + found["adapter"])
        assert found["adapter"].abs().max() > 1e-2


@pytest.mark.parametrize("levels", LEVELS)
def test_identical_networks_differ_by_nothing(levels):
    network = teacher()
    loss = DistillationLoss(levels)
    assert loss(network.features(images()), network.features(images())).item() == 0
    assert len(loss.components) == {"deep": 9, "fpn": 3, "embedding": 1}[levels]


@pytest.mark.parametrize("levels", LEVELS)
def test_the_student_alone_has_gradients(levels):
    student, taught = randomised(SmallEncoder(), seed=1).requires_grad_(), teacher().requires_grad_()
    DistillationLoss(levels)(student.features(images()), taught.features(images())).backward()
    assert all(parameter.grad is None for parameter in taught.parameters())
    without = {name for name, parameter in student.named_parameters() if parameter.grad is None}
    assert without == set()


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms") / "phantoms"
    generate_phantom(folder, count=8, settings=PhantomSettings(size=(96, 120)))
    paths = sorted((folder / "images").glob("*.png"))[:8]
    grey = [np.asarray(Image.open(path).convert("L").resize((48, 48))) / np.float32(255) for path in paths]
    return torch.from_numpy(np.stack(grey))[:, None].expand(-1, 3, -1, -1)


@pytest.mark.parametrize("levels", LEVELS)
def test_sixty_steps_halve_the_loss(levels, phantoms):
    torch.manual_seed(0)
    taught = teacher()
    student = SmallEncoder().requires_grad_()
    with torch.no_grad():
        features = taught.features(phantoms)
    loss, optimizer, course = DistillationLoss(levels), torch.optim.Adam(student.parameters(), 1e-2), []
    for _ in range(60):
        optimizer.zero_grad()
        value = loss(student.features(phantoms), features)
        value.backward()
        optimizer.step()
        course.append(value.item())
    assert course[-1] < course[0] / 2


def test_wrong_requests_are_named():
    with pytest.raises(ValueError, match="levels must be one of deep, fpn, embedding, found 'all'"):
        DistillationLoss("all")
    with pytest.raises(ValueError, match=r"expected three values >= 0, found \(1.0, -1.0, 1.0\)"):
        DistillationLoss(weights=(1.0, -1.0, 1.0))
    with pytest.raises(ValueError, match="need levels='deep', found levels='fpn'"):
        DistillationLoss("fpn", weights=(1.0, 1.0, 0.5))
    some = torch.zeros(1, 8, 4, 4)
    with pytest.raises(ValueError, match="found embedding of the student and none of the teacher"):
        DistillationLoss("embedding")(EncoderFeatures(some), EncoderFeatures(maps=(some,)))
    with pytest.raises(ValueError, match=r"map_2: expected the teacher's \(1, 8, 4, 4\), found \(1, 8, 2, 2\)"):
        DistillationLoss("fpn")(EncoderFeatures(maps=(some, some[..., ::2, ::2])), EncoderFeatures(maps=(some, some)))
