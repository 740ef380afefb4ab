"""Several models as one: their mean, their disagreement, and which of them fit together."""

import math
import shutil

import numpy as np
import pytest
import torch

from ultrarefiner_monai.data.images import read_grey
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.handlers import load_model, save_model
from ultrarefiner_monai.models import load_segmenter
from ultrarefiner_monai.models.ensemble import Ensemble, entropy, find_models
from ultrarefiner_monai.networks.letterbox import letterbox


@pytest.fixture
def folds(make_model, tmp_path):
    """A phase's folder with folds 0, 2 and 10 of different weights."""

    def make(phase):
        path, network = make_model(phase)
        card = load_model(network, path)
        for fold in (0, 2, 10):
            save_model(network, tmp_path / "study" / phase / f"fold{fold}" / "model.pt", card)
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter.mul_(1.01)
        return tmp_path / "study" / phase

    return make


def test_the_mean_and_the_deviation_of_the_folds(folds, picture):
    folder = folds("phase1")
    grey = read_grey(picture)
    maps = [load_segmenter(path)(grey) for path in sorted(folder.glob("fold*/model.pt"))]
    consensus = Ensemble(folder)(grey)
    np.testing.assert_allclose(consensus.probability, sum(maps) / 3, atol=1e-6)
    mean = sum(maps) / 3
    np.testing.assert_allclose(consensus.deviation, np.sqrt(sum((one - mean) ** 2 for one in maps) / 3), atol=1e-6)
    assert consensus.deviation.max() > 0.001 and math.isnan(consensus.quality)


def test_one_model_is_itself(make_model, picture):
    path, _ = make_model("phase3")
    grey = read_grey(picture)
    consensus = Ensemble(path)(grey)
    expected = load_segmenter(path).predict(grey)
    np.testing.assert_array_equal(consensus.probability, expected.probability)
    assert consensus.quality == expected.quality and not math.isnan(expected.quality)
    assert not consensus.deviation.any()


def test_phase_2_refines_the_mean_of_phase_1(folds, make_model, picture):
    coarse, (refiner, _) = folds("phase1"), make_model("phase2")
    grey = read_grey(picture)
    mean = Ensemble(coarse)(grey).probability
    np.testing.assert_array_equal(
        Ensemble(refiner, coarse)(grey).probability, load_segmenter(refiner)(grey, coarse=mean)
    )


def test_models_are_files_folders_and_folders_of_folds(folds, tmp_path):
    folder = folds("phase1")
    in_order = [folder / f"fold{fold}" / "model.pt" for fold in (0, 2, 10)]
    assert find_models(folder) == in_order
    assert find_models([str(in_order[2]), folder / "fold0"]) == [in_order[2], in_order[0]]
    with pytest.raises(DataError, match=r"expected a model\.pt, or a folder with .*; name one of its folders phase1$"):
        find_models(tmp_path / "study")
    with pytest.raises(DataError, match=r"^model nowhere: .*; train a model or correct the path$"):
        find_models("nowhere")


def test_models_that_do_not_fit_together_are_refused(make_model, tmp_path):
    one, two, three = (make_model(phase)[0] for phase in ("phase1", "phase2", "phase3"))
    with pytest.raises(DataError, match="needs models of one stage, found phase1, phase3"):
        Ensemble([one, three])
    with pytest.raises(
        DataError, match=r"phase2 refines the map of phase1 .*name a model of phase1, too \(--coarse MODEL\)"
    ):
        Ensemble(two)
    with pytest.raises(DataError, match="phase3 needs no coarse model; leave --coarse or --auto out"):
        Ensemble(three, one)
    with pytest.raises(DataError, match="expected a model of phase1 as the coarse one, found phase3"):
        Ensemble(two, three)


def test_models_of_other_classes_are_refused(make_model, tmp_path):
    def model(classes):
        path, _ = make_model("automedsam", classes=classes)
        return shutil.copytree(path.parent, tmp_path / classes) / "model.pt"

    one, turned, none = model("benign+malignant"), model("malignant+benign"), model("lesion")
    assert Ensemble([one, one]).classes == ("benign", "malignant") and Ensemble(none).classes == ()
    with pytest.raises(
        DataError,
        match=r"malignant\+benign.model\.pt: tells malignant, benign apart, .*model\.pt benign, malignant; an ens",
    ):
        Ensemble([one, turned])
    with pytest.raises(
        DataError, match=r"lesion.model\.pt: tells no classes apart, .* of the same classes in the same order$"
    ):
        Ensemble([one, none])


def test_classes_are_the_means_of_the_models(folds, picture):
    folder = folds("automedsam")
    grey = read_grey(picture)
    predictions = [load_segmenter(path).predict(grey) for path in sorted(folder.glob("fold*/model.pt"))]
    consensus = Ensemble(folder)(grey)
    assert list(consensus.classes) == ["benign", "malignant"]
    for name, found in consensus.classes.items():
        np.testing.assert_allclose(found, sum(one.classes[name] for one in predictions) / 3, atol=1e-6)
    np.testing.assert_allclose(sum(consensus.classes.values()), consensus.probability, atol=1e-5)


def test_names_of_classes_that_are_none_are_refused(make_model):
    path, _ = make_model("automedsam")
    card = path.with_suffix(".json")
    card.write_text(card.read_text().replace("benign+malignant", "../benign+malignant"))
    with pytest.raises(
        DataError, match=r"^.*model\.json: classes '\.\./benign\+malignant': expected lesion, or two or more"
    ):
        Ensemble(path)


def test_damaged_weights_and_unknown_devices_are_one_line(make_model, tmp_path):
    path, _ = make_model("phase1")
    with pytest.raises(DataError, match=r"^device abacus: cannot be used \(.*\); name cpu, cuda, or none at all$"):
        Ensemble(path, device="abacus")
    broken = shutil.copytree(path.parent, tmp_path / "broken") / "model.pt"
    broken.write_bytes(broken.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"model\.pt .*[^\n]*$"):
        Ensemble(broken)


def test_weights_that_give_no_numbers_are_told(make_model):
    path, network = make_model("phase1")
    card = load_model(network, path)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(3e38)  # finite, and beyond all numbers once two of them are added
    save_model(network, path, card)
    with pytest.raises(DataError, match="the model's probability is not a number"):
        Ensemble(path)(np.zeros((20, 30), dtype=np.float32))


def test_sams_expectation_is_that_of_its_candidates_weighted_as_in_its_mask(make_model, picture):
    path, _ = make_model("phase2")
    segmenter = load_segmenter(path, amp=False)
    grey = torch.from_numpy(read_grey(picture))[None]
    coarse = torch.zeros_like(grey)
    coarse[:, 40:90, 30:80] = 1
    square = torch.cat([letterbox(plane, segmenter.size) for plane in (grey, coarse)])[None]
    with torch.inference_mode():
        (iou,) = segmenter.network(square, return_parts=True).iou.numpy()
    weights = np.exp(iou / 0.1) / np.exp(iou / 0.1).sum()
    assert segmenter.predict(grey[0].numpy(), coarse[0].numpy()).quality == pytest.approx((weights * iou).sum())
    assert math.isnan(segmenter.predict(grey[0].numpy(), np.zeros(grey.shape[1:], np.float32)).quality)


def test_entropy_is_a_bit_where_nothing_is_known():
    bits = entropy(np.array([[0, 0.5, 1, 0.25]], dtype=np.float32))
    assert bits.dtype == np.float32
    np.testing.assert_allclose(bits, [[0, 1, 0, 2 - 0.75 * math.log2(3)]], atol=1e-7)
