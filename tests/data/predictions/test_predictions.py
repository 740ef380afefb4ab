import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from ultrarefiner_monai.data.manifests.manifest import Manifest
from ultrarefiner_monai.data.predictions.index import PredictionIndex
from ultrarefiner_monai.data.predictions.maps import map_name, read_map, write_map
from ultrarefiner_monai.data.predictions.mean import mean_of_maps
from ultrarefiner_monai.data.predictions.pairing import pair_predictions
from ultrarefiner_monai.errors import DataError

HASH, MODEL = "a" * 64, "b" * 64
HEIGHT, WIDTH = 5, 8


def item(number: int, fold: int | None) -> dict:
    place = {} if fold is None else {"fold": fold}
    return {"id": f"bus_{number}", "image": f"Images/bus_{number}.png", "width": WIDTH, "height": HEIGHT, **place}


@pytest.fixture
def manifest() -> Manifest:
    training = [item(number, number % 2) for number in range(6)]
    testing = [item(number, None) for number in (10, 11)]
    return Manifest("BUSBRA", 2, 42, HASH, training, testing, [], [], Path("BUSBRA.json"), {})


def predict(folder: Path, items: list[dict], fold: int | None, value: float = 0.5, **changes) -> PredictionIndex:
    fields = {
        "dataset": "BUSBRA",
        "phase": 1,
        "fold": fold,
        "split": "val",
        "manifest_sha256": HASH,
        "model_sha256": MODEL,
    }
    index = PredictionIndex(**{**fields, **changes})
    for entry in items:
        write_map(folder / index.add(entry, 0.8), np.full((entry["height"], entry["width"]), value))
    index.write(folder)
    return index


@pytest.fixture
def folders(manifest, tmp_path) -> list[Path]:
    for fold in (0, 1):
        predict(tmp_path / f"fold{fold}", manifest.split("val", fold), fold)
    return [tmp_path / "fold0", tmp_path / "fold1"]


def test_every_training_item_gets_the_map_of_its_own_fold(manifest, folders):
    paired = pair_predictions(manifest.training, folders, manifest)
    assert [entry["id"] for entry in paired] == [entry["id"] for entry in manifest.training]
    for entry in paired:
        assert Path(entry["coarse"]) == folders[entry["fold"]] / f"Images/{entry['id']}.nii.gz"
        assert read_map(entry["coarse"]).shape == (HEIGHT, WIDTH)
    assert "coarse" not in manifest.training[0]


def test_a_part_of_the_items_can_be_paired(manifest, folders):
    assert len(pair_predictions(manifest.split("train", 0), folders, manifest)) == 3


def refusal(manifest: Manifest, folders: list[Path], **options) -> str:
    with pytest.raises(DataError) as caught:
        pair_predictions(manifest.training, folders, manifest, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_missing_entries_and_files_are_listed(manifest, folders):
    predict(folders[0], manifest.split("val", 0)[:1], 0)
    (folders[1] / "Images/bus_3.nii.gz").unlink()
    assert "missing 3 (bus_2, bus_3, bus_4)" in refusal(manifest, folders)


def test_a_prediction_listed_twice_is_listed(manifest, folders, tmp_path):
    predict(tmp_path / "again", manifest.split("val", 1)[:2], 1)
    assert "doubled 2 (bus_1, bus_3)" in refusal(manifest, [*folders, tmp_path / "again"])


def test_predictions_made_from_another_manifest_are_stale(manifest, folders):
    predict(folders[1], manifest.split("val", 1), 1, manifest_sha256="c" * 64)
    assert "stale 3 (bus_1, bus_3, bus_5)" in refusal(manifest, folders)


def test_predictions_of_another_model_are_stale(manifest, folders):
    assert pair_predictions(manifest.training, folders, manifest, models={0: MODEL, 1: MODEL})
    assert "stale 3 (bus_0, bus_2, bus_4)" in refusal(manifest, folders, models={0: "d" * 64})


def test_the_model_that_trained_on_an_image_may_not_predict_it(manifest, tmp_path):
    predict(tmp_path, manifest.training, 0)
    assert "wrong fold 3 (bus_1, bus_3, bus_5)" in refusal(manifest, [tmp_path])


def test_the_mean_of_all_models_may_not_stand_for_a_training_image(manifest, tmp_path):
    predict(tmp_path, manifest.training, None)
    assert "wrong fold 6" in refusal(manifest, [tmp_path])


def test_wrong_sized_maps_are_listed_whatever_the_index_says(manifest, folders):
    write_map(folders[0] / "Images/bus_2.nii.gz", np.zeros((WIDTH, HEIGHT)))  # transposed
    index = PredictionIndex.load(folders[1])
    index.items[0]["width"] += 1
    index.write(folders[1])
    assert "wrong-sized 2 (bus_1, bus_2)" in refusal(manifest, folders)


def test_broken_files_are_listed(manifest, folders):
    (folders[0] / "Images/bus_4.nii.gz").write_bytes(b"not a map")
    assert "unreadable 1 (bus_4)" in refusal(manifest, folders)


def test_all_faults_come_in_one_error(manifest, folders):
    (folders[0] / "Images/bus_0.nii.gz").unlink()
    (folders[0] / "Images/bus_2.nii.gz").write_bytes(b"")
    predict(folders[1], manifest.split("val", 1), 1, manifest_sha256="c" * 64)
    message = refusal(manifest, folders)
    assert "BUSBRA" in message
    assert all(part in message for part in ("missing 1 (bus_0)", "unreadable 1 (bus_2)", "stale 3"))


def test_maps_return_bit_for_bit(tmp_path):
    prob = np.random.default_rng(0).random((37, 23), dtype=np.float32)
    prob[0, :3] = (0.0, 1.0, np.float32(1e-30))
    write_map(tmp_path / "deep/map.nii.gz", prob)
    back = read_map(tmp_path / "deep/map.nii.gz")
    assert back.dtype == np.float32
    assert np.array_equal(back, prob)


def test_the_same_map_gives_the_same_bytes_and_no_leftovers(tmp_path):
    prob = np.random.default_rng(0).random((9, 7))
    for name in ("a", "b"):
        write_map(tmp_path / f"{name}.nii.gz", prob)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nii.gz", "b.nii.gz"]


def test_orientation_agrees_with_monai_on_an_asymmetric_picture(tmp_path):
    from monai.transforms import LoadImage

    picture = np.zeros((20, 30), np.uint8)
    picture[2, 25], picture[17, 4] = 255, 128  # one bright pixel top right, one grey bottom left
    Image.fromarray(picture).save(tmp_path / "picture.png")
    write_map(tmp_path / "picture.nii.gz", picture / 255)
    stored = np.asarray(nibabel.load(tmp_path / "picture.nii.gz").dataobj)
    assert stored.shape == (30, 20)
    assert stored[25, 2] == 1.0
    assert read_map(tmp_path / "picture.nii.gz")[2, 25] == 1.0
    load = LoadImage(image_only=True)
    np.testing.assert_allclose(load(tmp_path / "picture.nii.gz") * 255, load(tmp_path / "picture.png"), rtol=1e-6)


@pytest.mark.parametrize(
    "bad", [np.full((2, 2), np.nan), np.full((2, 2), 1.1), np.full((2, 2), -0.1), np.zeros((1, 2, 2))]
)
def test_what_is_no_probability_map_is_not_written(tmp_path, bad):
    with pytest.raises(ValueError, match="a map must"):
        write_map(tmp_path / "map.nii.gz", bad)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "damage", [lambda b: b"", lambda b: b[: len(b) // 2], lambda b: b"text" * 100, lambda b: b[:-4] + b"\0" * 4]
)
def test_damaged_and_missing_maps_are_one_line_errors(tmp_path, damage):
    path = tmp_path / "map.nii.gz"
    with pytest.raises(DataError, match="unreadable probability map"):
        read_map(path)
    write_map(path, np.random.default_rng(0).random((50, 40)))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match="unreadable probability map"):
        read_map(path)


def test_a_volume_is_no_map(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 2), np.float32), np.eye(4)), tmp_path / "volume.nii.gz")
    with pytest.raises(DataError, match="expected a plane"):
        read_map(tmp_path / "volume.nii.gz")


def test_map_names_follow_the_image_and_keep_odd_ones():
    assert map_name("benign/benign (1).png") == "benign/benign (1).nii.gz"
    assert map_name("images/p.1.png") == "images/p.1.nii.gz"


def test_the_index_returns_and_is_plain_json(tmp_path):
    index = predict(tmp_path, [item(2, 0), item(1, 0)], 0)
    index.items[0]["dice"] = None
    index.write(tmp_path)
    again = PredictionIndex.load(tmp_path)
    assert [entry["id"] for entry in again.items] == ["bus_1", "bus_2"]
    assert (again.fold, again.manifest_sha256, again.model_sha256) == (0, HASH, MODEL)
    content = json.loads((tmp_path / "predictions.json").read_text())
    assert content["items"][1] == {"id": "bus_2", "file": "Images/bus_2.nii.gz", "dice": None, "width": 8, "height": 5}


def test_an_undefined_dice_becomes_null(tmp_path):
    index = PredictionIndex("BUSBRA", 1, 0, "val", HASH, MODEL)
    index.add(item(1, 0), float("nan"))
    index.write(tmp_path)
    assert "NaN" not in (tmp_path / "predictions.json").read_text()
    assert PredictionIndex.load(tmp_path).items[0]["dice"] is None


def test_an_index_refuses_images_that_would_share_a_map(tmp_path):
    index = PredictionIndex("BUSBRA", 1, 0, "val", HASH, MODEL)
    index.add(item(1, 0))
    index.add({**item(2, 0), "image": "Images/bus_1.jpg"})
    with pytest.raises(DataError, match=r"same file: Images/bus_1\.nii\.gz"):
        index.write(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", "{}", '{"schema": "ultrarefiner_monai/predictions/1"}', '{"schema": 3, "dataset": "x"}', "\ud800"],
)
def test_a_broken_index_is_a_one_line_error(tmp_path, text):
    (tmp_path / "predictions.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(DataError, match=r"predictions\.json"):
        PredictionIndex.load(tmp_path)


@pytest.mark.parametrize("path", ["../secret.nii.gz", "/etc/secret.nii.gz", "a\\b.nii.gz"])
def test_an_index_that_points_outside_its_folder_is_refused(tmp_path, path):
    index = predict(tmp_path, [item(1, 0)], 0)
    index.items[0]["file"] = path
    index.write(tmp_path)
    with pytest.raises(DataError, match="paths inside the folder"):
        PredictionIndex.load(tmp_path)


def test_a_missing_index_says_what_to_run(tmp_path):
    with pytest.raises(DataError, match="missing; run phase 1's inference"):
        PredictionIndex.load(tmp_path)


def test_the_ensemble_averages_probabilities_and_serves_test_items(manifest, tmp_path):
    folders = [tmp_path / str(fold) for fold in range(5)]
    for fold, folder in enumerate(folders):
        predict(folder, manifest.testing, fold, value=fold / 8, split="test", model_sha256=str(fold) * 64)
    mean = mean_of_maps(folders, tmp_path / "mean")
    assert mean.fold is None
    assert mean.split == "test"
    paired = pair_predictions(manifest.testing, [tmp_path / "mean"], manifest)
    assert np.array_equal(read_map(paired[0]["coarse"]), np.full((HEIGHT, WIDTH), 0.25, np.float32))
    assert PredictionIndex.load(tmp_path / "mean").items[0]["dice"] is None
    with pytest.raises(DataError, match="wrong fold 2"):  # one model alone is not the ensemble
        pair_predictions(manifest.testing, folders[:1], manifest)


def test_the_ensemble_does_not_depend_on_the_order_of_its_folders(manifest, tmp_path):
    folders = [tmp_path / str(fold) for fold in range(2)]
    for fold, folder in enumerate(folders):
        predict(folder, manifest.testing, fold, value=0.1 + 0.7 * fold, model_sha256=str(fold) * 64)
    forward, backward = (mean_of_maps(order, tmp_path / "out") for order in (folders, folders[::-1]))
    assert forward.model_sha256 == backward.model_sha256


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"items": 1}, "not predicted once by each of the 2 models: bus_11"),
        ({"fold": 0}, "each fold's model counts once"),
        ({"manifest_sha256": "c" * 64}, "different datasets, phases, splits or manifests"),
        ({"split": "val"}, "different datasets, phases, splits or manifests"),
    ],
)
def test_folders_that_are_no_ensemble_are_refused(manifest, tmp_path, second, message):
    options = {"fold": 1, "split": "test", **second}
    predict(tmp_path / "0", manifest.testing, 0, split="test")
    predict(tmp_path / "1", manifest.testing[: options.pop("items", 2)], **options)
    with pytest.raises(DataError, match=message):
        mean_of_maps([tmp_path / "0", tmp_path / "1"], tmp_path / "mean")
    assert not (tmp_path / "mean").exists()


def test_maps_of_different_sizes_are_not_averaged(manifest, tmp_path):
    for fold in (0, 1):
        predict(tmp_path / str(fold), manifest.testing, fold, split="test")
    write_map(tmp_path / "1/Images/bus_10.nii.gz", np.zeros((3, 3)))
    with pytest.raises(DataError, match="differ in size"):
        mean_of_maps([tmp_path / "0", tmp_path / "1"], tmp_path / "mean")
