"""AutoMedSAM: identity at the start, what learns, what its masks and classes mean."""

import pytest
import torch

from ultrarefiner_monai.losses import ClassMaskLoss
from ultrarefiner_monai.networks import AutoMedSam, build_sam
from ultrarefiner_monai.networks.automedsam import SINGLE, ClassMasks, build

CLASSES = ("benign", "malignant")


def make(classes=CLASSES, **settings):
    torch.manual_seed(1)
    return AutoMedSam(build_sam("tiny", 64), classes, **settings).eval()


@pytest.fixture
def images():
    return torch.rand(3, 1, 64, 64, generator=torch.Generator().manual_seed(2))


def test_it_begins_as_sam_asked_with_the_whole_image(images):
    network = make()
    with torch.no_grad():
        parts = network(images, return_parts=True)
        box = torch.tensor([[0.0, 0.0, 63.0, 63.0]]).expand(3, -1)
        low, iou = network.sam.decode(network.embed(images), boxes=box, tokens=SINGLE)
        expected = torch.nn.functional.interpolate(low, (64, 64), mode="bilinear")
        published = make(residual=False)(images, return_parts=True)
    for number in range(2):
        assert torch.equal(parts.logits[:, number : number + 1], expected) and torch.equal(parts.iou[:, [number]], iou)
    assert not torch.allclose(published.logits[:, :1], expected)


def test_what_learns_and_what_does_not(images):
    network = make().train()
    frozen = {name: value.clone() for name, value in network.sam.image_encoder.state_dict().items()}
    learned = {
        name.split(".")[0] + "." + name.split(".")[1] for name, p in network.named_parameters() if p.requires_grad
    }
    assert {name for name in learned if name.startswith("sam")} == {"sam.mask_decoder"}
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-2)
    target = torch.zeros(3, 1, 64, 64)
    target[:, :, 10:30, 10:40] = torch.tensor([1.0, 2.0, 1.0]).view(3, 1, 1, 1)
    loss = ClassMaskLoss(network.teach)
    for _ in range(2):
        optimizer.zero_grad()
        loss(network(images, return_parts=True), target).backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.norm() > 0 for name, p in network.encoder.named_parameters())
    after = network.sam.image_encoder.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in frozen.items())
    assert not any(module.training for module in network.sam.image_encoder.modules())


def test_frozen_decoder():
    network = make(freeze_mask_decoder=True)
    learned = {name.split(".")[0] for name, p in network.named_parameters() if p.requires_grad}
    assert learned == {"encoder", "reader", "class_head"}


def test_prompts_alone_learn_from_what_they_show_without_the_decoder(images):
    """A training of the prompts by a tenth of the time; whoever segments is not concerned."""
    network = make().train()
    network.prompts_alone = True
    target = torch.zeros(3, 1, 64, 64)
    target[:, :, 16:48, :32] = torch.tensor([1.0, 2.0, 1.0]).view(3, 1, 1, 1)  # whole patches
    images[:, :, 16:48, :32] /= 4
    loss = ClassMaskLoss(network.teach)
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-3)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        parts = network(images, return_parts=True)
        loss(parts, target).backward()
        losses.append(float(loss.components["region"]))
        optimizer.step()
    assert losses[-1] < 0.8 * losses[0]
    assert all(p.grad is None for p in network.sam.parameters())
    assert all(p.grad is not None and p.grad.norm() > 0 for p in network.encoder.parameters())
    assert parts.logits.shape == (3, 2, 64, 64) and parts.dense.shape == (3, 2, *network.sam.embedding_shape)
    network.eval()
    with torch.no_grad():
        found = network(images)
        network.prompts_alone = False
        torch.nn.init.zeros_(network.reader.weight)
        assert torch.equal(network(images), found)


def test_probabilities_sum_to_one_and_the_lesion_is_their_union():
    logits = 4 * torch.randn(2, 2, 8, 8)
    parts = ClassMasks(logits, torch.ones(2, 2), torch.zeros(2, 2, 2, 4), torch.zeros(2, 2, 4, 2, 2))
    probability = parts.with_background.softmax(1)
    torch.testing.assert_close(probability.sum(1), torch.ones(2, 8, 8))
    torch.testing.assert_close(parts.lesion.sigmoid()[:, 0], 1 - probability[:, 0])
    single = parts._replace(logits=logits[:, :1])
    assert torch.equal(single.lesion, single.logits) and not single.classes
    assert parts.outputs.keys() == {"mask"}
    named = parts._replace(names=CLASSES).classes
    assert list(named) == list(CLASSES)
    torch.testing.assert_close(torch.cat(list(named.values()), 1).sigmoid(), probability[:, 1:])


def test_the_class_is_that_of_the_lesion_or_where_there_is_none_the_likelier_one():
    logits = torch.full((2, 2, 4, 4), -9.0)
    logits[0, 1, :2] = 5.0  # a malignant lesion
    logits[0, 0, 3, 3] = -1.0
    logits[1, 0, 0, 0] = -2.0  # nothing; benign if anything
    parts = ClassMasks(logits, torch.ones(2, 2), torch.zeros(2, 2, 2, 4), torch.zeros(2, 2, 4, 2, 2))
    probability = parts.class_probability
    torch.testing.assert_close(probability.sum(1), torch.ones(2))
    assert probability.argmax(1).tolist() == [1, 0] and probability[0, 1] > 0.99 and probability[1, 0] > 0.9


def test_forward_gives_one_plane_for_one_class_and_background_first_for_several(images):
    with torch.no_grad():
        assert make(())(images).shape == (3, 1, 64, 64)
        logits = make()(images)
    assert logits.shape == (3, 3, 64, 64) and not logits[:, 0].any()


def test_a_known_embedding_takes_the_encoders_place(images):
    network = make()
    with torch.no_grad():
        assert torch.equal(network(images), network(images, network.embed(images)))


def test_a_card_builds_it_again(images):
    network = make(stride=2, class_mode="scalar", steps=100, drift="sum", residual=False)
    again = build({"sam": network.settings}).eval()
    again.load_state_dict(network.state_dict())
    assert again.settings == network.settings
    with torch.no_grad():
        assert torch.equal(again(images), network(images))


def test_learning_all_classes_does_not_collapse():
    """One random class an image with an empty target for the absent one keeps every mask blank for epochs."""
    torch.manual_seed(0)
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    target = torch.zeros(8, 1, 64, 64)
    for number in range(8):
        disc = (rows - 20 - 3 * number) ** 2 + (columns - 44 + 3 * number) ** 2 < (8 + number) ** 2
        target[number, 0][disc] = 1 + number % 2
    images = (0.6 - 0.45 * (target > 0) + 0.1 * torch.rand(8, 1, 64, 64)).clamp(0, 1)
    network = make().train()
    loss = ClassMaskLoss(network.teach)
    rates = [
        {"params": [p for p in network.parameters() if p.requires_grad]},
        {"params": loss.parameters(), "lr": 1e-2},
    ]
    optimizer = torch.optim.AdamW(rates, lr=2e-3)
    for _ in range(60):
        optimizer.zero_grad()
        loss(network(images, return_parts=True), target).backward()
        optimizer.step()
    with torch.no_grad():
        found = network.eval()(images, return_parts=True).lesion > 0
    dice = 2 * (found & (target > 0)).sum((1, 2, 3)) / (found.sum((1, 2, 3)) + (target > 0).sum((1, 2, 3)))
    assert dice.mean() > 0.5


def test_while_prompts_learn_alone_a_tuned_encoder_does_not():
    network = AutoMedSam(build_sam("tiny", 64), freeze_image_encoder=False).train()
    network.prompts_alone = True
    for parameter in network.encoder.parameters():  # the last layers begin at zero
        torch.nn.init.normal_(parameter, std=0.1)
    network(torch.rand(2, 1, 64, 64)).square().mean().backward()
    assert any(p.grad is not None and p.grad.any() for p in network.encoder.parameters())
    assert all(p.grad is None for p in network.sam.image_encoder.parameters())


def test_a_tuned_image_encoder_learns_and_keeps_the_statistics_of_its_norms():
    sam = build_sam("lite_medsam", 64)
    network = AutoMedSam(sam, freeze_image_encoder=False).train()
    before = {name: buffer.clone() for name, buffer in sam.image_encoder.named_buffers()}
    optimizer = torch.optim.SGD(network.parameters(), 1e-3)
    for _ in range(2):  # in the first step the prompts, whose last layers are zero, tell the encoder nothing
        optimizer.zero_grad()
        network(torch.rand(2, 1, 64, 64)).square().mean().backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.any() for p in sam.image_encoder.neck.parameters())
    assert any("running_mean" in name for name in before)
    assert all(torch.equal(buffer, before[name]) for name, buffer in sam.image_encoder.named_buffers())


def test_the_class_head_shares_the_lesion_out_and_leaves_it_as_it_is(images):
    """At first it says nothing; one sure of a class gives it the whole lesion, whatever the decoder's masks say."""
    network = make()
    with torch.no_grad():
        plain = network(images, return_parts=True)
        head, network.class_head = network.class_head, None
        without = network(images, return_parts=True)
        network.class_head = head
        head[1].bias[1] = 30.0
        sure = network(images, return_parts=True)
    assert torch.equal(plain.logits, without.logits)
    torch.testing.assert_close(sure.lesion, plain.lesion, atol=1e-4, rtol=1e-4)
    assert sure.class_probability[:, 1].min() > 0.999


def test_the_class_head_sees_the_lesion_and_the_whole_image():
    """Means by hand of an embedding whose lesion is a corner, weighed by the lesion's probability on the embedding's grid."""
    network = make()
    channels, *grid = network.sam.embedding_shape
    embedding = torch.randn(2, channels, *grid)
    logits = torch.full((2, 2, *grid), -20.0)
    logits[0, :, : grid[0] // 2, : grid[1] // 2] = 20.0
    seen = []
    network.class_head.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    network._shared_out(logits, embedding)
    corner = embedding[0, :, : grid[0] // 2, : grid[1] // 2].mean((1, 2))
    torch.testing.assert_close(seen[0][0], torch.cat([corner, embedding[0].mean((1, 2))]), atol=1e-5, rtol=1e-5)
    assert seen[0].isfinite().all()
