"""Slices of a volume that a model sees in the light of those before them."""

import numpy as np
import pytest
from untrained import save_untrained

from ultrarefiner_monai.models import Ensemble, load_segmenter

SLICES = [np.random.default_rng(seed).random((30, 44), dtype=np.float32) for seed in range(5)]


def saved(folder, **facts):
    return save_untrained(folder / "model.pt", "joint", **facts)[0]


def maps(model):
    return np.stack([found.probability for found in model.predict_volume(iter(SLICES))])


@pytest.fixture
def alone(tmp_path):
    return maps(load_segmenter(saved(tmp_path / "alone"), amp=False, device="cpu"))


def test_a_model_of_single_images_takes_each_slice_by_itself(alone, tmp_path):
    patients = saved(tmp_path / "patients", sequence={"of": "patient", "frames": 2})  # whose frames are no slices
    model = load_segmenter(patients, amp=False, device="cpu")
    np.testing.assert_array_equal(maps(model), alone)
    np.testing.assert_allclose(alone[3], model.predict(SLICES[3]).probability, atol=1e-6)


def test_a_model_of_volumes_looks_back_however_the_slices_are_cut(alone, tmp_path):
    files = [saved(tmp_path / str(n), sequence={"of": "volume", "frames": n}) for n in (1, 2, 64)]
    whole = maps(load_segmenter(files[-1], amp=False, device="cpu"))
    differences = np.abs(whole - alone).reshape(len(SLICES), -1).max(1)
    assert differences[0] < 1e-6 and differences[1:].min() > 1e-5  # nothing lies before the first
    for file in files[:-1]:
        np.testing.assert_allclose(maps(load_segmenter(file, amp=False, device="cpu")), whole, atol=2e-6)
    together = list(Ensemble(files, amp=False, device="cpu").predict_volume(iter(SLICES)))
    np.testing.assert_allclose([one.probability for one in together], whole, atol=2e-6)
    assert len(together) == len(SLICES) and max(one.deviation.max() for one in together) < 2e-6
