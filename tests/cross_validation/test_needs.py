"""What a cross-validation needs, told before it begins and before anything is written."""

import math
import shutil
from types import SimpleNamespace

import pytest
import torch
from small_releases import TINY, TINY_OF_OTHERS

from ultrarefiner_monai.cross_validation import needs
from ultrarefiner_monai.cross_validation.conduct import conduct
from ultrarefiner_monai.cross_validation.needs import check_needs, check_space
from ultrarefiner_monai.cross_validation.tasks import CrossValidation
from ultrarefiner_monai.data.manifests.manifest import available
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.networks import build_sam
from ultrarefiner_monai.systems import find_system


@pytest.fixture
def make(small_release, tmp_path):
    """A cross-validation of the small release that has not begun, with changes by stage."""

    def make(**changes):
        settings = {stage: {**keys, **changes.get(stage, {})} for stage, keys in TINY.items()}
        shared = {"manifest": small_release["manifest"], "tracking_uri": f"sqlite:///{tmp_path}/m.db"}
        return CrossValidation("PHANTOM", small_release["data_root"], tmp_path / "out", None, shared, settings)

    return make


@pytest.fixture(autouse=True)
def nothing_is_trained(request, monkeypatch):
    if not {"small_cv", "class_cv"} & set(request.fixturenames):
        monkeypatch.setattr(CrossValidation, "run_fold", lambda *_: pytest.fail("a fold is trained"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"phase2": {"variant": "vit_b"}}, "no weights for SAM vit_b (--sam_checkpoint FILE)"),
        ({"phase2": {"image_size": 100}}, "image_size 100: expected a positive multiple of 16"),
        ({"phase3": {"epochs": 4, "val_interval": 3}}, "val_interval 3 does not divide epochs 4"),
        ({"phase1": {"pretrained": __file__}}, "test_needs.py"),
        ({"phase3": {"variant": "lite_medsam", "image_size": 66}}, "image_size 66: expected a positive multiple of 4"),
        ({"phase2": {"sam_checkpoint": __file__}}, "test_needs.py is not a checkpoint of tensors"),
    ],
)
def test_what_a_later_stage_lacks_is_told_first(changes, said, make, tmp_path):
    """Five folds were once trained before it was said that phase 2 had no weights."""
    with pytest.raises(DataError, match=r"^[^\n]*$") as caught:
        conduct([make(**changes)])
    assert said in str(caught.value)
    assert not list(tmp_path.iterdir())
    check_needs(make(), ("phase1", "phase2", "phase3"))  # the corrected command


def test_weights_of_another_network_are_told_first(make, small_cv, tmp_path):
    model = small_cv.folder("phase1", 0) / "model.pt"
    with pytest.raises(DataError, match="does not fit SAM tiny"):
        conduct([make(phase2={"sam_checkpoint": str(model)})])
    assert not (tmp_path / "out").exists()


def test_maps_of_prompts_that_lack_the_test_images_are_told_first(small_cv, small_release, tmp_path):
    """All folds were once trained before it was said that the test images had none."""
    maps = shutil.copytree(small_cv.out / "phase3", tmp_path / "maps")
    for folder in ("test", "fold1/predictions_test"):
        shutil.rmtree(maps / folder)
    keys = {**TINY_OF_OTHERS["adapt"], "prompt_source": "auto", "prompt_maps": str(maps)}
    shared = {"manifest": small_release["manifest"], "tracking_uri": f"sqlite:///{tmp_path}/m.db"}
    data, system = small_release["data_root"], find_system("uniultra")
    cv = CrossValidation("PHANTOM", data, tmp_path / "out", None, shared, {"adapt": keys}, system=system)
    with pytest.raises(DataError, match=r"maps/test/refined/predictions.json: missing"):
        conduct([cv])
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("error:for .*meta parameter")
@pytest.mark.parametrize("lora_rank", [0, 2])
def test_weights_that_fit_are_compared_and_not_read_into_a_network_without_memory(make, class_cv, tmp_path, lora_rank):
    """Torch once said in 435 lines that it cannot."""
    torch.save(build_sam("tiny", 64).state_dict(), tmp_path / "sam.pth")
    keys = {"sam_checkpoint": str(tmp_path / "sam.pth"), "lora_rank": lora_rank}
    assert check_needs(make(phase2=keys, phase3=keys), ("phase1", "phase2", "phase3")) > 0
    shared, settings = class_cv.shared, {"automedsam": class_cv.settings["automedsam"] | keys}
    cv = CrossValidation("PHANTOM", class_cv.data_root, tmp_path / "b", None, shared, settings, system=class_cv.system)
    assert check_needs(cv, cv.stages) > 0


def test_faulty_data_are_told_first(make, small_release, tmp_path):
    cv = make()
    cv.data_root = str(shutil.copytree(small_release["data_root"], tmp_path / "data" / "PHANTOM"))
    image = next((tmp_path / "data" / "PHANTOM" / "images").iterdir())
    image.write_bytes(image.read_bytes()[:100])
    with pytest.raises(DataError, match=rf"{image.name}.*or leave these items out with --skip_bad true"):
        conduct([cv])
    assert not (tmp_path / "out").exists()
    cv.shared["skip_bad"] = True
    del cv.values
    check_needs(cv, cv.stages)


def test_a_full_disk_is_told_first(make, tmp_path, monkeypatch):
    monkeypatch.setattr(needs.shutil, "disk_usage", lambda _: SimpleNamespace(free=100 * 2**20))
    with pytest.raises(DataError, match=r"out: needs about 0\.\d GiB of disk space, 0\.1 GiB are free; free some"):
        conduct([make()])
    assert not list(tmp_path.iterdir())


def test_needs_of_one_disk_add_up(tmp_path, monkeypatch):
    monkeypatch.setattr(needs.shutil, "disk_usage", lambda _: SimpleNamespace(free=5))
    check_space({tmp_path / "a" / "b": 5})
    with pytest.raises(DataError, match="disk space"):
        check_space({tmp_path / "a": 3, tmp_path / "b": 3})


def test_the_need_is_the_files_and_not_far_from_them(make, small_cv):
    """Of trainings with few images: a bound, with the allowance for each training's small files left out."""
    found = sum(
        file.stat().st_size for stage in small_cv.stages for file in (small_cv.out / stage).rglob("*") if file.is_file()
    )
    need = check_needs(make(), small_cv.stages) - 6 * needs.REST
    assert 0.5 * found < need < 4 * found
    assert check_needs(small_cv, small_cv.stages) == 0  # all is done


def test_a_real_experiment_is_counted_without_its_memory(small_release, tmp_path):
    """105 275 921 parameters of TransUNet in float32: model, MLflow's copy, two checkpoints with both moments, one beside."""
    shared = {"manifest": small_release["manifest"]}
    cv = CrossValidation("PHANTOM", small_release["data_root"], tmp_path / "out", [0], shared)
    model = 4 * 105_275_921
    maps = 4 * sum(item["width"] * item["height"] for item in (*cv.manifest.training, *(3 * cv.manifest.testing)))
    need = check_needs(cv, ["phase1"])
    assert need == pytest.approx(2 * (2 * (model + 3 * model) + needs.REST) + 3 * model + maps, rel=0.001)
    averaged = CrossValidation(
        "PHANTOM", small_release["data_root"], tmp_path / "out", [0], shared | {"weight_average": 0.99}
    )
    assert check_needs(averaged, ["phase1"]) - need == pytest.approx(5 * model, rel=0.001)


def test_absent_images_and_views_of_test_images_need_no_room(class_cv, tmp_path):
    """A third of a release was once refused on a disk that had twice the room for it."""
    keys = class_cv.settings["automedsam"] | {"cache_embeddings": True}
    root = shutil.copytree(class_cv.data_root, tmp_path / "data" / "PHANTOM")
    for item in class_cv.manifest.split("train", 0)[::2]:
        (root / item["image"]).unlink()
    present, _ = available(class_cv.manifest, root)

    def need(**changed):
        shared, settings = class_cv.shared | {"allow_missing": True}, {"automedsam": keys | changed}
        cv = CrossValidation("PHANTOM", str(root), tmp_path / "b", None, shared, settings, system=class_cv.system)
        return check_needs(cv, cv.stages)

    size = 2 * math.prod(build_sam("tiny", keys["image_size"]).embedding_shape)  # bytes in half precision
    assert need() - need(cache_embeddings=False) == size * (len(present.items()) + 7 * len(present.training))
    assert need(views=3) - need(views=1) == size * 2 * len(present.training)
