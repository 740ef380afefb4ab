"""Students: their sizes, whose decoder they have, what distillation compares of them, and that they learn masks of a teacher."""

import numpy as np
import pytest
import torch
from PIL import Image
from small_encoder import randomised

from ultrarefiner_monai.data.phantom import PhantomSettings, generate_phantom
from ultrarefiner_monai.losses import DistillationLoss, UltrasoundMaskLoss
from ultrarefiner_monai.networks.prompts.lesions import lesion_prompts
from ultrarefiner_monai.networks.sam2.hiera import HieraEmbedding
from ultrarefiner_monai.networks.sam2.students import build_prompted, copy_decoder, student_of
from ultrarefiner_monai.networks.uniultra import UniUltra, build, describe

SIZE = 64
KERNELS = 12 * 4 * 4 * 4 * 9  # the published code counts four dense Sobel kernels, 4 x 4 x 3 x 3, a block as parameters


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def uniultra(variant, size=SIZE, **settings):
    return UniUltra(build_prompted(variant, size), **settings)


@pytest.mark.parametrize("variant", ["mini", "lite_mini"])
def test_sizes_of_students(variant):
    """An encoder of 820 256 parameters, adapters of 36 772, an edge stem of 580."""
    with torch.device("meta"):
        network = uniultra(variant, 256)
        encoder = network.sam.image_encoder
    assert (count(encoder.adapters.blocks), count(encoder.adapters.stem)) == (36_772, 580)
    assert count(encoder) == 857_608 == 820_256 + 36_772 + 580


def test_size_of_the_whole_student_as_published():
    with torch.device("meta"):
        network = UniUltra(build_prompted("mini", 256, version="2.0"))
    assert count(network) + KERNELS == 12_591_370
    assert (
        round(100 * (1 - (count(network) + KERNELS) / 212_703_280), 2) == 94.08
    )  # against SAM 2 large's image encoder


@pytest.mark.parametrize(
    ("teacher", "student"),
    [("lite_medsam", "lite_mini"), ("large", "mini"), ("mini", "mini"), ("lite_mini", "lite_mini")],
)
def test_the_student_of_a_teacher(teacher, student):
    assert student_of(teacher) == student == student_of(student)


def test_the_students_embedding_is_where_the_teachers_is():
    images = torch.rand(2, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = [uniultra(variant).eval().features(images) for variant in ("lite_medsam", "lite_mini")]
    assert found[0].shape == found[1].shape == (2, 256, SIZE // 4, SIZE // 4)


def test_every_stage_reaches_the_embedding():
    torch.manual_seed(0)
    encoder = HieraEmbedding("mini", SIZE)
    encoder(torch.rand(1, 3, SIZE, SIZE)).square().mean().backward()
    assert {name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.any()} == set()


@pytest.mark.parametrize(("teacher", "student"), [("lite_medsam", "lite_mini"), ("mini", "mini")])
def test_a_student_has_its_teachers_decoder_and_its_own_encoder(teacher, student):
    torch.manual_seed(0)
    taught, sam = randomised(build_prompted(teacher, SIZE)), build_prompted(student, SIZE)
    before = {name: value.clone() for name, value in sam.image_encoder.state_dict().items()}
    copy_decoder(taught, sam)
    assert all(torch.equal(value, before[name]) for name, value in sam.image_encoder.state_dict().items())
    inside = {id(p) for p in sam.image_encoder.parameters()}
    expected = dict(taught.named_parameters())
    outside = {name: p for name, p in sam.named_parameters() if id(p) not in inside}
    assert outside and all(torch.equal(p, expected[name]) for name, p in outside.items())


def test_a_student_of_sam_2_0_takes_what_it_shares():
    taught = randomised(build_prompted("mini", SIZE, version="2.0"))
    sam = build_prompted("mini", SIZE)
    copy_decoder(taught, sam)
    expected = taught.network.mask_decoder.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in sam.network.mask_decoder.state_dict().items())


@pytest.mark.parametrize("variant", ["mini", "lite_mini"])
def test_a_student_is_built_again_from_its_card(variant):
    network = uniultra(variant, freeze_encoder=False)
    assert all(parameter.requires_grad for parameter in network.sam.image_encoder.parameters())
    again = build(describe(network, {}))
    again.load_state_dict(network.state_dict())
    assert again.settings == network.settings and again.settings["variant"] == variant


def test_nine_maps_of_sam_2_are_compared_and_all_stages_learn():
    torch.manual_seed(0)
    images = torch.rand(2, 1, SIZE, SIZE)
    student = uniultra("mini", freeze_encoder=False)
    randomised(student.sam.image_encoder.adapters)
    teacher = uniultra("mini").eval().requires_grad_(False)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    loss = DistillationLoss()
    loss(student.encode(images)[0], teacher.encode(images)[0]).backward()
    assert len(loss.components) == 9
    for block, stride in zip(teacher.encode(images)[0].blocks, (4, 8, 16), strict=True):
        assert {value.shape for value in block.compared().values()} == {(2, 256, SIZE // stride, SIZE // stride)}
    encoder = student.sam.image_encoder
    assert {name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.any()} == set()
    inside = {id(p) for p in encoder.parameters()}
    assert all(p.grad is None for p in student.parameters() if id(p) not in inside)
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def phantoms(folder):
    """Eight phantom images and masks (8, 1, S, S)."""
    generate_phantom(folder, count=8, settings=PhantomSettings(normal=0, size=(96, 120)))

    def read(kind, mode):
        paths = sorted((folder / kind).glob("*.png"))[:8]
        planes = [np.asarray(Image.open(path).convert("L").resize((SIZE, SIZE), mode)) for path in paths]
        return torch.from_numpy(np.stack(planes))[:, None] / 255

    return read("images", Image.Resampling.BILINEAR), (read("masks", Image.Resampling.NEAREST) > 0.5).float()


def dice(network, images, masks):
    with torch.no_grad():
        found = (network.eval()(images, lesion_prompts(masks)) > 0).float()
    return (2 * (found * masks).sum() / (found.sum() + masks.sum())).item()


def steps(network, value, rate, number):
    """Values of so many steps of Adam."""
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], rate)
    course = []
    for _ in range(number):
        optimizer.zero_grad()
        found = value()
        found.backward()
        optimizer.step()
        course.append(found.item())
    return course


@pytest.mark.slow
@pytest.mark.parametrize("levels", ["deep", "fpn", "embedding"])
def test_sixty_steps_halve_the_loss_and_masks_get_better(levels, tmp_path):
    """A teacher, itself small, that has learnt eight phantoms; LiteMedSAM's embedding in the place of SAM 2's for `embedding`."""
    torch.manual_seed(0)
    images, masks = phantoms(tmp_path / "phantoms")
    kinds = ("lite_medsam", "lite_mini") if levels == "embedding" else ("mini", "mini")
    teacher = uniultra(kinds[0])
    prompts, task = lesion_prompts(masks), UltrasoundMaskLoss()
    steps(teacher, lambda: task(teacher(images, prompts), masks), 1e-3, 40)
    teacher.eval().requires_grad_(False)
    sam = build_prompted(kinds[1], SIZE)
    copy_decoder(teacher.sam, sam)
    student, loss = UniUltra(sam, freeze_encoder=False), DistillationLoss(levels)
    for name, parameter in student.named_parameters():
        parameter.requires_grad_("image_encoder" in name or "vision_encoder" in name)
    start = dice(student, images, masks)
    with torch.no_grad():
        taught, _ = teacher.encode(images)
    course = steps(student, lambda: loss(student.encode(images)[0], taught), 1e-3, 60)
    assert course[-1] < course[0] / 2
    assert dice(student, images, masks) > start
