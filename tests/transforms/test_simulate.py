from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset
from PIL import Image

from ultrarefiner_monai.transforms.simulate import SimulateCoarsed, simulate


@pytest.fixture
def lesion() -> torch.Tensor:
    rows, columns = np.mgrid[:96, :128]
    return torch.from_numpy((((rows - 40) / 18) ** 2 + ((columns - 70) / 26) ** 2 < 1)[None]).float()


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_a_soft_map_of_the_masks_shape(lesion):
    coarse = SimulateCoarsed("label").set_random_state(0)({"label": lesion})["coarse"]
    assert coarse.shape == lesion.shape
    assert coarse.dtype == torch.float32
    assert coarse.min() >= 0 and coarse.max() <= 1
    assert ((coarse > 0.05) & (coarse < 0.95)).sum() > 50  # a soft border, not a step


def test_the_same_seed_gives_the_same_map_and_the_next_call_another(lesion):
    first, second = (SimulateCoarsed("label").set_random_state(7) for _ in range(2))
    a, b = first({"label": lesion})["coarse"], second({"label": lesion})["coarse"]
    assert torch.equal(a, b)
    assert not torch.equal(a, first({"label": lesion})["coarse"])


def test_workers_do_not_repeat_each_others_errors(lesion):
    data = Dataset([{"label": lesion}] * 8, SimulateCoarsed("label").set_random_state(0))
    maps = [batch["coarse"][0] for batch in DataLoader(data, batch_size=1, num_workers=2)]
    assert len({row.numpy().tobytes() for row in maps}) == 8


def test_errors_are_of_the_size_a_coarse_network_makes(shared_data):
    files = sorted((shared_data / "BUS-BRA/BUSBRA/Masks").glob("*.png"))[::5][:40]
    scores = []
    for seed, file in enumerate(files):
        mask = np.asarray(Image.open(Path(file)).convert("L")) > 0
        scores.append(dice(simulate(mask, np.random.RandomState(seed)) > 0.5, mask))
    assert 0.65 < np.mean(scores) < 0.9
    assert max(scores) > 0.85 and min(scores) < 0.75


def test_islands_and_missing_chunks_occur(lesion):
    mask = lesion[0].numpy() > 0.5
    far = np.zeros_like(mask)
    far[80:] = far[:, :20] = True
    core = np.zeros_like(mask)
    core[36:44, 64:76] = True
    maps = [simulate(mask, np.random.RandomState(seed)) for seed in range(80)]
    assert 1 <= sum((prob[far] > 0.5).any() for prob in maps) <= 30
    assert 1 <= sum((prob[core] < 0.5).any() for prob in maps) <= 30


@pytest.mark.parametrize("fill", [0.0, 1.0])
def test_blank_and_full_masks_give_finite_maps(fill):
    for seed in range(6):
        prob = simulate(np.full((30, 40), bool(fill)), np.random.RandomState(seed))
        assert np.isfinite(prob).all()
        assert (prob > 0.5).mean() < 0.3 if fill == 0 else (prob > 0.5).mean() > 0.5


def test_a_single_pixel_is_a_mask():
    mask = np.zeros((30, 40), bool)
    mask[0, 39] = True
    assert np.isfinite(simulate(mask, np.random.RandomState(0))).all()


@pytest.mark.parametrize("prob", [0.0, 0.25, 1.0])
def test_the_share_of_real_maps_is_what_it_says(lesion, prob):
    transform = SimulateCoarsed("label", prob=prob).set_random_state(1)
    real = torch.full_like(lesion, 0.5)
    small = {"label": lesion[:, ::4, ::4], "coarse": real[:, ::4, ::4]}
    kept = sum(torch.equal(torch.as_tensor(transform(small)["coarse"]), small["coarse"]) for _ in range(400))
    assert kept / 400 == pytest.approx(1 - prob, abs=0.07)
    assert "coarse" in transform({"label": lesion})  # an item without a map always gets one


def test_the_letterbox_padding_stays_zero(lesion):
    image = torch.rand(1, 96, 128) + 0.1
    image[:, 70:], image[:, :, 110:] = 0, 0
    transform = SimulateCoarsed("label").set_random_state(0)
    for _ in range(20):
        coarse = transform({"label": lesion, "image": image})["coarse"]
        assert coarse[:, 70:].max() == coarse[:, :, 110:].max() == 0


def test_inputs_are_left_alone_and_one_key_is_asked_for(lesion):
    item = {"label": lesion.clone()}
    SimulateCoarsed("label").set_random_state(0)(item)
    assert torch.equal(item["label"], lesion) and set(item) == {"label"}
    with pytest.raises(ValueError, match="reads one mask"):
        SimulateCoarsed(["label", "other"])
