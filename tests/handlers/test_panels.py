"""Panels: one figure an image, small, at the file's own proportions, stored with the run."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Events
from PIL import Image

from ultrarefiner_monai.colours import FALSE_ALARM, FIRST, HIT, LAST, MIDDLE, MISS, TRUTH, rgb
from ultrarefiner_monai.handlers import SavePanels, panels
from ultrarefiner_monai.handlers.panels import ABOVE, BELOW, DPI, HEAD, PANEL_INCHES, save_panel
from ultrarefiner_monai.metrics.classes import class_probability
from ultrarefiner_monai.networks import PromptGenerator, SamRefiner, build_sam
from ultrarefiner_monai.networks.prompts.lesions import LesionPrompts


class Recorder:
    def __init__(self):
        self.artifacts, self.steps = [], []

    def log_image(self, path, folder, step):
        self.artifacts.append((Path(path).name, folder))
        self.steps.append(step)


NAMES = {1: ("mask",), 2: ("coarse", "refined"), 3: ("unet", "step1", "step2")}


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_the_same_first_images_are_drawn_at_every_validation(make_run, tmp_path, channels):
    recorder = Recorder()
    run = make_run(val_handlers=[SavePanels(tmp_path, NAMES[channels], count=3, tracker=recorder)], channels=channels)
    run.evaluator.run()
    run.evaluator.run()
    assert sorted(path.name for path in (tmp_path / "panels").iterdir()) == ["case0.png", "case1.png", "case2.png"]
    assert recorder.artifacts == [(f"case{i}.png", "panels") for i in (0, 1, 2)] * 2


def test_panels_come_every_few_epochs_and_at_the_last_one(make_run, tmp_path):
    recorder = Recorder()
    drawn = SavePanels(tmp_path, NAMES[2], count=1, tracker=recorder, interval=3, epochs=8)
    make_run(epochs=8, val_handlers=[drawn]).trainer.run()
    expected = ["epoch003", "epoch006", "epoch008"]
    assert sorted(path.name for path in (tmp_path / "panels").iterdir()) == expected
    assert recorder.artifacts == [("case0.png", f"panels/{name}") for name in expected]
    assert recorder.steps == [3, 6, 8]


def test_a_resumed_training_draws_once_before_its_interval(make_run, tmp_path):
    evaluator = make_run(val_handlers=[SavePanels(tmp_path, NAMES[2], count=1, interval=10, epochs=50)]).evaluator
    for epoch in range(23, 35):
        evaluator.run(epoch)
    assert sorted(path.name for path in (tmp_path / "panels").iterdir()) == ["epoch023", "epoch033"]


def colours(path):
    pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    return {tuple(map(int, colour)) for colour in np.unique(pixels, axis=0)}


def near(colour, found):
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return any(max(abs(a - b) for a, b in zip(wanted, other, strict=True)) < 12 for other in found)


def test_a_panel_of_speckle_is_small_and_shows_each_kind_of_error(tmp_path):
    generator = np.random.default_rng(0)
    image = generator.random((700, 1000)).astype(np.float32)  # noise: the worst there is for PNG
    truth, mask = np.zeros((2, 700, 1000), dtype=bool)
    truth[200:500, 300:700], mask[250:550, 350:750] = True, True
    path = tmp_path / "panel.png"
    save_panel(path, image, {"coarse": mask, "refined": mask}, truth, title="case")
    assert path.stat().st_size < 300_000
    width, height = Image.open(path).size
    assert 900 < width < 1200 and 400 < height < 700
    assert all(near(colour, colours(path)) for colour in (HIT, FALSE_ALARM, MISS))


@pytest.mark.parametrize(("count", "drawn"), [(1, 1), (2, 2), (3, 3), (5, 3)])
def test_each_output_has_a_tile_and_a_colour_three_at_most(tmp_path, count, drawn):
    mask = np.zeros((60, 60), dtype=bool)
    mask[20:40, 20:40] = True
    masks = {f"m{i}": np.roll(mask, i, axis=0) for i in range(count)}
    save_panel(tmp_path / "panel.png", np.zeros((60, 60), dtype=np.float32), masks, mask, title="case")
    found = Image.open(tmp_path / "panel.png")
    columns = {1: 2, 2: 3, 3: 3}[drawn]  # image, all outlines, each output, errors: 4, 5 or 6 tiles in two rows
    assert found.width == pytest.approx(PANEL_INCHES * DPI * columns, abs=1)
    assert found.height == pytest.approx(DPI * (2 * (PANEL_INCHES + HEAD) + ABOVE + BELOW), abs=1)
    outlined = [near(colour, colours(tmp_path / "panel.png")) for colour in (FIRST, MIDDLE, LAST)]
    assert outlined == [True, drawn > 2, drawn > 1]


def test_the_title_tells_the_class_that_was_found_its_probability_and_the_true_one(
    monkeypatch, make_run, items, tmp_path
):
    titles, outputs = [], []
    monkeypatch.setattr(
        panels, "save_panel", lambda path, image, masks, truth, title, prompts: titles.append((title, list(masks)))
    )
    items[1]["class"] = "new\nline"
    handlers = [SavePanels(tmp_path, NAMES[1], count=2, classes=("benign", "malignant"))]
    run = make_run(val_handlers=handlers, channels=3)
    run.evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: outputs.extend(engine.state.output))
    run.evaluator.run()
    lesion, *planes = np.asarray(outputs[0]["pred"])
    probability = class_probability(lesion, np.stack(planes))
    best = int(probability.argmax())
    said = f"{('benign', 'malignant')[best]} {probability[best]:.2f}, truth: malignant"
    assert titles[0] == (f"case0  {said}", ["mask"]) and titles[1][0].endswith("truth: new\\nline")


def test_a_title_is_no_formula(tmp_path):
    mask = np.ones((40, 30), dtype=bool)
    save_panel(tmp_path / "panel.png", np.zeros((40, 30), dtype=np.float32), {"mask": mask}, mask, title=r"a$\frac$b")
    assert (tmp_path / "panel.png").stat().st_size > 1000


def test_another_number_of_channels_is_named(make_run, tmp_path):
    with pytest.raises(ValueError, match="case0: expected channels unet, step1, step2, found 2"):
        make_run(val_handlers=[SavePanels(tmp_path, NAMES[3])]).evaluator.run()


@pytest.mark.parametrize("fill", [False, True])
def test_blank_and_full_masks_can_be_drawn(tmp_path, fill):
    mask = np.full((40, 30), fill)
    save_panel(tmp_path / "panel.png", np.zeros((40, 30), dtype=np.float32), {"mask": mask}, mask, title="edge")
    assert (tmp_path / "panel.png").stat().st_size > 1000


def test_names_with_folders_stay_inside_the_panels_folder(make_run, items, tmp_path):
    for item in items:
        item["id"] = f"../{item['id']} (1)"
    make_run(val_handlers=[SavePanels(tmp_path / "run", NAMES[2], count=1)]).evaluator.run()
    assert [path.name for path in (tmp_path / "run" / "panels").iterdir()] == [".._case0_1_.png"]


def test_a_real_ultrasound_image_makes_a_small_panel(shared_data, tmp_path):
    from ultrarefiner_monai.data.images import read_grey

    path = max(shared_data.rglob("*.png"), key=lambda file: file.stat().st_size)
    image = read_grey(path)
    mask = np.zeros(image.shape, dtype=bool)
    mask[10 : image.shape[0] // 2, 10 : image.shape[1] // 2] = True
    save_panel(tmp_path / "panel.png", image, {"coarse": mask, "refined": mask}, mask, title=path.stem)
    assert (tmp_path / "panel.png").stat().st_size < 300_000


def tile(path, row, column, columns, shape):
    """Pixels of a tile (H, W, 3), enlarged as it is drawn, and how many of them are one of the image; its edges are left out."""
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    scale = PANEL_INCHES * DPI / shape[1]
    top = DPI * (ABOVE + HEAD) + row * DPI * (PANEL_INCHES * shape[0] / shape[1] + HEAD)
    left = column * pixels.shape[1] / columns
    return lambda x, y: pixels[round(top + (y + 0.5) * scale), round(left + (x + 0.5) * scale)]


def is_near(pixel, colour, most=12):
    return np.abs(pixel - np.array(colour)).max() <= most


def test_all_outlines_and_the_truth_lie_in_one_tile(tmp_path):
    coarse, refined, truth = np.zeros((3, 40, 40), dtype=bool)
    coarse[5:15, 5:15], refined[5:15, 22:32], truth[24:34, 5:15] = True, True, True
    path = tmp_path / "panel.png"
    save_panel(path, np.zeros((40, 40), dtype=np.float32), {"coarse": coarse, "refined": refined}, truth, title="case")
    at = tile(path, 0, 1, 3, (40, 40))
    edges = [[at(x + 0.02 * step, y) for step in range(-60, 61)] for x, y in ((4.5, 10), (21.5, 10), (4.5, 29))]
    for pixels, colour in zip(edges, (FIRST, LAST, TRUTH), strict=True):
        assert any(is_near(pixel, rgb(colour)) for pixel in pixels)
        others = {FIRST, LAST, TRUTH} - {colour}
        assert not any(is_near(pixel, rgb(other)) for pixel in pixels for other in others)


def test_prompts_are_drawn_where_they_are(tmp_path):
    masks = torch.zeros(1, 1, 40, 40)
    masks[..., 10:30, 5:35] = 1
    points = torch.tensor([[[12.0, 15.0], [30.0, 35.0], [20.0, 2.0]]])
    asked = LesionPrompts(
        torch.zeros(1, dtype=torch.long),
        torch.tensor([[5.0, 10.0, 34.0, 29.0]]),
        points,
        torch.tensor([[1, 0, -1]]),
        masks,
    )
    path, mask = tmp_path / "panel.png", masks[0, 0].numpy() > 0
    save_panel(path, np.zeros((40, 40), dtype=np.float32), {"coarse": mask, "refined": mask}, mask, "case", asked)
    at = tile(path, 0, 1, 3, (40, 40))
    assert is_near(at(12, 15), rgb(HIT)) and is_near(at(30, 35), rgb(FALSE_ALARM))
    assert is_near(at(20, 2), (0, 0, 0))  # no point
    assert is_near(at(25, 20), np.array(rgb(FIRST)) / 2)  # half of the mask's colour on black
    assert is_near(at(2, 20), (0, 0, 0))
    box = [at(4.5 + 0.05 * step, 20) for step in range(-10, 11)]
    assert any(is_near(pixel, (255, 255, 255), 40) for pixel in box)


def test_the_prompts_of_a_network_reach_its_panel(monkeypatch, tmp_path):
    """A picture of 32 x 64 pixels on a square of 64, of which the network saw the upper half."""
    from monai.engines import SupervisedEvaluator

    from ultrarefiner_monai.models.inferers import OutputsInferer
    from ultrarefiner_monai.transforms import Letterboxd

    drawn = []
    monkeypatch.setattr(panels, "save_panel", lambda *args: drawn.append(args[-1]))
    Image.fromarray(np.zeros((32, 64), dtype=np.uint8)).save(tmp_path / "a.png")
    coarse = np.zeros((2, 1, 32, 64), dtype=np.float32)
    coarse[1, :, 8:24, 20:50] = 1
    letterbox = Letterboxd(keys=["image"], size=64)
    items = [
        {"image": letterbox({"image": torch.from_numpy(one)})["image"], "id": f"case{number}"}
        | {"truth": torch.ones(1, 32, 64), "image_path": str(tmp_path / "a.png")}
        for number, one in enumerate(coarse)
    ]
    refiner = SamRefiner(build_sam("tiny", 64), PromptGenerator()).eval()
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=torch.utils.data.DataLoader(items, batch_size=2, collate_fn=_collated),
        network=refiner,
        inferer=OutputsInferer(),
        prepare_batch=lambda batch, *_, **__: (torch.cat([batch["image"], batch["image"]], 1), None),
        postprocessing=lambda output: output | {"pred": torch.as_tensor(output["pred"])[:, :32].sigmoid()},
        val_handlers=[SavePanels(tmp_path, NAMES[2])],
    )
    evaluator.run()
    blank, found = drawn
    assert len(blank.image) == 0  # there was nothing to ask about
    assert found.boxes[0].tolist() == pytest.approx([20, 8, 49, 23], abs=0.6)
    assert found.labels.tolist() == [[1, 0]] and found.points[0, 0].tolist() == pytest.approx([34.5, 15.5], abs=2)
    assert found.masks.shape == (1, 1, 32, 64) and found.masks[0, 0, 16, 35] > 0.9 and found.masks[0, 0, 2, 35] < 0.1


def _collated(items):
    from monai.data import list_data_collate

    return list_data_collate(items)
