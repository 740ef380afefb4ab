"""A batch that does not fit into memory is taken in pieces: the same gradients, and a clear end at one image."""

import logging
import resource
from pathlib import Path

import pytest
import torch
from ignite.engine import Events
from interrupted import in_child, losses, record, same, saved, train
from torch import nn

from ultrarefiner_monai.devices import out_of_memory
from ultrarefiner_monai.handlers.steps import TrainingStep
from ultrarefiner_monai.handlers.steps.micro_batches import pieces
from ultrarefiner_monai.losses import ClassMaskLoss, DiceCELoss, JointLoss, RefinedLoss
from ultrarefiner_monai.models.inferers import AutocastInferer, OutOfMemoryError, memory_errors
from ultrarefiner_monai.networks import AutoMedSam, build_sam
from ultrarefiner_monai.networks.automedsam import ClassMasks
from ultrarefiner_monai.networks.prompts.class_prompts import PromptEmbeddings
from ultrarefiner_monai.networks.refiner import Refinement

MIB = 2**20
EACH = 256 * MIB  # what an image costs: much beside all that a step needs otherwise


def hold(_, inputs):
    torch.empty(len(inputs[0]) * EACH, dtype=torch.uint8)


def room_for(images):
    """Leave address space for so many images."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (int(used + (images + 0.5) * EACH),) * 2)


@pytest.mark.fault(7)
def test_errors_of_memory_are_known(tmp_path):
    def ask():
        room_for(1)
        for allocate in (
            lambda: torch.empty(2**40),
            lambda: bytearray(2**40),
            lambda: torch.ones(1).expand(2**38).clone(),
        ):
            try:
                allocate()
            except (RuntimeError, MemoryError) as error:
                assert out_of_memory(error), error
            else:
                raise AssertionError

    assert in_child(ask) == 0
    assert out_of_memory(torch.cuda.OutOfMemoryError("CUDA out of memory"))
    assert not out_of_memory(RuntimeError("expected 3 channels, found 2"))


@pytest.mark.fault(7)
@pytest.mark.parametrize(("room", "size"), [(4, 3), (2, 1)])
def test_pieces_of_a_batch_teach_what_the_batch_teaches(make_run, tmp_path, monkeypatch, caplog, room, size):
    """Weights after three epochs: of a run that had memory, and of one that had too little from the second epoch on."""
    whole = make_run(3, batch_size=6, dropout=0.0)
    whole.trainer.run()
    (tmp_path / "run").mkdir()

    def disturbed():
        run = make_run(3, batch_size=6, dropout=0.0)
        run.network.register_forward_pre_hook(hold)
        run.trainer.add_event_handler(Events.EPOCH_STARTED(once=2), lambda _: room_for(room))
        log = logging.FileHandler(tmp_path / "log")
        logging.getLogger("ultrarefiner_monai").addHandler(log)
        run.trainer.run()
        torch.save([run.network.state_dict(), run.losses, run.step.state_dict()], tmp_path / "result.pt")

    assert in_child(disturbed) == 0
    weights, trace, state = torch.load(tmp_path / "result.pt", weights_only=True)
    assert state["micro_batch"] == size and state["skipped"] == 0
    assert trace == pytest.approx(whole.losses, rel=1e-5)
    for name, value in whole.network.state_dict().items():
        torch.testing.assert_close(weights[name], value, rtol=1e-4, atol=1e-5)
    told = (tmp_path / "log").read_text().splitlines()
    learnt = [line for line in told if "images at once: from now on" in line]
    assert 1 <= len(learnt) <= 4  # each size once, in the training and in the validation
    assert "out of memory on cpu with 6 images at once: from now on 3 at once" in learnt


@pytest.mark.fault(7)
def test_without_memory_for_one_image_the_end_names_what_to_do(make_run, tmp_path):
    def starve():
        run = make_run(1)
        run.network.register_forward_pre_hook(hold)
        room_for(0)
        try:
            run.trainer.run()
        except OutOfMemoryError as error:
            (tmp_path / "said").write_text(str(error))

    assert in_child(starve) == 0
    assert (tmp_path / "said").read_text() == (
        "out of memory on cpu with a single image; choose a smaller image_size or variant, or fewer workers, end what else "
        "uses the memory, or take another device"
    )


def test_pieces_cover_the_batch_with_its_shares():
    batch = {"image": torch.arange(10).reshape(5, 2), "id": list("abcde"), "note": "x", "spacing": torch.arange(5)}
    found = pieces(batch, 2)
    assert [piece["id"] for piece, _ in found] == [["a", "b"], ["c", "d"], ["e"]]
    assert [share for _, share in found] == [0.4, 0.4, 0.2] and found[2][0]["spacing"].tolist() == [4]
    assert found[1][0]["image"].tolist() == [[4, 5], [6, 7]] and found[1][0]["note"] == "x"
    assert pieces(batch, 5)[0][0] is batch


def test_the_smaller_size_is_kept_by_a_resumed_training():
    step = TrainingStep(micro_batch=4)
    step.load_state_dict({"micro_batch": 2, "skipped": 1, "in_a_row": 0})
    assert (step.micro_batch, step.skipped) == (2, 1)
    step = TrainingStep(micro_batch=1)
    step.load_state_dict({"micro_batch": None, "skipped": 0, "in_a_row": 0})
    assert step.micro_batch == 1


def refinement(logits):
    """The parts that a loss of the refiner takes, all of them from `logits` (B, 1, H, W)."""
    candidates = torch.cat((logits, 2 * logits, -logits), 1)
    values = {name: logits * (number + 1) for number, name in enumerate(Refinement._fields)}
    return Refinement(**{**values, "candidates": candidates, "iou": candidates.sigmoid().mean((2, 3))})


def class_masks(logits):
    """The parts that a loss of classes takes, all of them from `logits` (B, 1, H, W)."""
    corner = logits[..., :2, :4]
    both = torch.cat((logits, -logits), 1)
    return ClassMasks(both, both.mean((2, 3)), torch.cat((corner, -corner), 1), torch.stack((logits, -logits), 1))


def teacher(boxes, masks):
    return PromptEmbeddings(boxes[:, None].expand(-1, 2, -1), masks.float())


@pytest.mark.fault(7)
@pytest.mark.parametrize(
    ("loss", "parts"),
    [
        (ClassMaskLoss(teacher, image_class=1.0), class_masks),
        (DiceCELoss(), lambda x: x),
        (RefinedLoss(0.3), refinement),
        (JointLoss(), refinement),
        (JointLoss("fixed"), refinement),
    ],
)
def test_every_loss_is_a_mean_over_images(loss, parts):
    """What pieces of unequal size add up to is the loss, and the gradient, of the batch."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 1, 8, 8, generator=generator, dtype=torch.float64).float().requires_grad_()
    target = (torch.rand(5, 1, 8, 8, generator=generator) > 0.6).float()
    target[3] = 0
    whole = loss(parts(logits), target)
    expected = torch.autograd.grad(whole, [logits, *loss.parameters()])
    batch = {"image": logits, "label": target}
    added = sum(share * loss(parts(piece["image"]), piece["label"]) for piece, share in pieces(batch, 2))
    found = torch.autograd.grad(added, [logits, *loss.parameters()])
    assert float(added) == pytest.approx(float(whole), rel=1e-6)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)


@pytest.mark.fault(7)
def test_noise_of_a_training_is_the_same_in_pieces():
    """A network that draws noise has the gradients of the whole batch, too."""
    torch.manual_seed(0)
    network = AutoMedSam(build_sam("tiny", 64), ("a", "b"), residual=False).train()
    loss = ClassMaskLoss(network.teach)
    images, target = torch.rand(5, 1, 64, 64), torch.zeros(5, 1, 64, 64)
    target[:, :, 10:30, 10:40] = torch.tensor([1.0, 2.0, 1.0, 1.0, 2.0]).view(5, 1, 1, 1)
    learned = [parameter for parameter in (*network.parameters(), *loss.parameters()) if parameter.requires_grad]

    def gradients(size, seed=1):
        torch.manual_seed(seed)
        batches = pieces({"image": images, "label": target}, size)
        total = sum(
            share * loss(network(piece["image"], return_parts=True), piece["label"]) for piece, share in batches
        )
        return torch.autograd.grad(total, learned, allow_unused=True)

    def largest_difference(found):
        pairs = [(a, b) for a, b in zip(found, gradients(5), strict=True) if b is not None]
        return max((a - b).abs().max() / b.abs().max().clamp(min=1e-4) for a, b in pairs)

    assert largest_difference(gradients(2)) < 1e-3 < 0.1 < largest_difference(gradients(2, seed=2))


@pytest.mark.fault(7)
def test_a_prediction_is_taken_in_pieces_too(tmp_path):
    def predict():
        network = nn.Conv2d(1, 1, 3)
        network.register_forward_pre_hook(hold)
        images = torch.rand(5, 1, 9, 9)
        infer = AutocastInferer()
        with torch.no_grad():
            expected = infer(images, network)
            room_for(3)
            found = infer(images, network)
        assert infer.micro_batch == 2
        torch.testing.assert_close(found, expected)

    assert in_child(predict) == 0


def test_memory_errors_elsewhere_are_one_line():
    with pytest.raises(OutOfMemoryError, match=r"out of memory .*choose a smaller image_size"), memory_errors():
        raise MemoryError
    with pytest.raises(RuntimeError, match="other"), memory_errors():
        raise RuntimeError("other")


@pytest.mark.slow
@pytest.mark.fault(7)
def test_every_stage_goes_on_in_pieces(stage, stage_keys, store, tmp_path):
    """A step that failed leaves no trace: as if the pieces had had that size from the beginning, to the last bit."""
    keys = {**stage_keys, "batch_size": 4, "tracking_uri": store, "log_model": False}
    folders = [tmp_path / "undisturbed", tmp_path / "disturbed"]
    assert train(stage, tmp_path / "a", **{**keys, "output_dir": str(folders[0]), "micro_batch": 2}) == 0

    def disturbed():
        from monai.bundle import ConfigWorkflow

        from ultrarefiner_monai.cross_validation.tasks import config_files
        from ultrarefiner_monai.systems import find_stage

        found = find_stage(stage)[1]
        files = config_files(found.bundle, *found.configs)
        workflow = ConfigWorkflow(files, workflow_type="train", **keys | {"output_dir": str(folders[1])})
        workflow.initialize()
        trainer = workflow.parser.get_parsed_content("train#trainer")
        trainer.network.register_forward_pre_hook(hold)
        record(trainer, tmp_path / "b")
        room_for(3)
        workflow.run()

    assert in_child(disturbed) == 0
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    assert same(*(saved(folder)["network"] for folder in folders))
    assert '"micro_batch": 2' in (folders[1] / "run.json").read_text()
