"""A training leaves a model in MLflow that segments a picture file, in this process and in another one."""

import base64
import configparser
import json
import os
import re
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from PIL import Image

from ultrarefiner_monai.cross_validation.tasks import run_bundle
from ultrarefiner_monai.data.images import read_grey
from ultrarefiner_monai.deploy.mlflow.model import REQUIREMENTS, decode_grey, encode_png, requirements, save
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.metrics.classes import class_probability
from ultrarefiner_monai.models import load_segmenter

# Required by the package, not by predicting, nor by MLflow itself.
BLOCKED = ("fire", "ignite", "imagehash", "monai", "nibabel", "skimage", "tensorboard")


@pytest.fixture
def store(training, monkeypatch):
    """The store of the training as MLflow's own, for this test."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", training.uri)  # set_tracking_uri would leave it set for other tests
    return MlflowClient(training.uri)


def run_id_of(training):
    return json.loads((training.folder / "mlflow_run.json").read_text())["run_id"]


def as_table(*paths):
    return pd.DataFrame({"image": [base64.b64encode(path.read_bytes()).decode() for path in paths]})


def pixels(text):
    return np.asarray(Image.open(BytesIO(base64.b64decode(text))))


def test_a_logged_model_gives_the_mask_of_the_bundles_inference(training, store, picture, predicted_by_bundle):
    model = mlflow.pyfunc.load_model(f"runs:/{run_id_of(training)}/model")
    (answer,) = model.predict(as_table(picture)).to_dict("records")
    expected = predicted_by_bundle("phase1", training.folder / "model.pt", picture)
    assert 0 < expected.mean() < 1
    np.testing.assert_array_equal(pixels(answer["mask"]), 255 * expected)
    assert answer["lesion_pixels"] == expected.sum()
    probability = pixels(answer["probability"])
    assert probability.dtype == np.uint16 and probability.shape == expected.shape
    np.testing.assert_array_equal(probability / 65535 >= 0.5, expected)


def test_pictures_of_several_sizes_and_a_threshold(training, store, picture, tmp_path):
    Image.new("RGB", (31, 90), (90, 80, 70)).save(tmp_path / "other.jpg")
    model = mlflow.pyfunc.load_model(f"runs:/{run_id_of(training)}/model")
    table = as_table(picture, tmp_path / "other.jpg")
    everything = model.predict(table, params={"threshold": 0.0})
    assert [pixels(mask).shape for mask in everything["mask"]] == [Image.open(picture).size[::-1], (90, 31)]
    assert everything["lesion_pixels"][1] == 90 * 31
    assert model.predict(table.iloc[:0]).empty
    with pytest.raises(MlflowException, match=r"^threshold 2\.0: expected a probability from 0 to 1"):
        model.predict(table, params={"threshold": 2.0})
    table.loc[1, "image"] = "AAAA"
    with pytest.raises(MlflowException, match=r"^image of line 1: cannot be read as a PNG or JPEG"):
        model.predict(table)


def test_the_model_says_what_it_takes_and_where_it_comes_from(training, store):
    (logged,) = store.search_logged_models(["1"], filter_string=f"source_run_id = '{run_id_of(training)}'")
    assert (logged.name, logged.status.name, logged.tags["phase"]) == ("model", "READY", "phase1")
    folder = Path(mlflow.artifacts.download_artifacts(logged.model_uri))
    assert not [path for path in folder.rglob("*") if path.suffix in (".pkl", ".pickle", ".joblib")]
    model = mlflow.pyfunc.load_model(str(folder))
    assert model.metadata.flavors["python_function"]["loader_module"] == "mlflow.pyfunc.loaders.code_model"
    assert str(model.metadata.signature.params) == "['threshold': double (default: 0.5)]"
    assert model.metadata.metadata["sha256"] == json.loads((training.folder / "model.json").read_text())["sha256"]
    example = model.metadata.load_input_example(str(folder))
    assert len(example["image"][0]) < 20_000
    assert model.predict(example)["lesion_pixels"].between(0, 120 * 120).all()


def test_going_on_with_a_complete_training_logs_no_second_model(training, store):
    run_bundle("phase1", "train", **training.keys, resume=True)
    assert len(store.search_logged_models(["1"])) == 1
    assert len(store.get_run(run_id_of(training)).outputs.model_outputs) == 1


def test_a_training_can_leave_the_model_out(training, store, tmp_path):
    run_bundle("phase1", "train", **training.keys | {"output_dir": str(tmp_path / "out")}, log_model="false")
    run_id = json.loads((tmp_path / "out" / "mlflow_run.json").read_text())["run_id"]
    assert store.get_run(run_id).info.status == "FINISHED"
    assert not store.search_logged_models(["1"], filter_string=f"source_run_id = '{run_id}'")


@pytest.mark.parametrize("phase", ["phase2", "phase3", "adapt"])
def test_the_example_of_every_phase_is_understood_by_its_model(phase, make_model, tmp_path):
    path, _ = make_model(phase)
    save(path, tmp_path / "saved")
    model = mlflow.pyfunc.load_model(str(tmp_path / "saved"))
    example = model.metadata.load_input_example(str(tmp_path / "saved"))
    assert list(example) == (["image"] if phase == "phase3" else ["image", "coarse"])
    (answer,) = model.predict(example).to_dict("records")
    assert pixels(answer["mask"]).shape == pixels(example["image"][0]).shape


def test_a_model_that_tells_classes_apart_answers_with_the_image_s(make_model, picture, tmp_path):
    path, _ = make_model("automedsam")
    save(path, tmp_path / "saved")
    model = mlflow.pyfunc.load_model(str(tmp_path / "saved"))
    columns = ["mask", "probability", "lesion_pixels", "class", "class_probability"]
    assert model.metadata.get_output_schema().input_names() == columns
    answers = model.predict(as_table(picture, picture))
    assert list(answers) == columns and list(model.predict(as_table(picture).iloc[:0])) == columns
    expected = load_segmenter(path).predict(read_grey(picture))
    likely = class_probability(
        expected.probability, np.stack([expected.classes[name] for name in ("benign", "malignant")])
    )
    assert answers["class"].tolist() == 2 * [("benign", "malignant")[likely.argmax()]]
    assert answers["class_probability"].tolist() == 2 * [pytest.approx(likely.max())]
    np.testing.assert_array_equal(pixels(answers["mask"][0]) > 0, expected.probability >= 0.5)


def test_a_model_without_classes_answers_as_ever(make_model, picture, tmp_path):
    save(make_model("automedsam", classes="lesion")[0], tmp_path / "saved")
    model = mlflow.pyfunc.load_model(str(tmp_path / "saved"))
    assert list(model.predict(as_table(picture))) == ["mask", "probability", "lesion_pixels"]


@pytest.mark.parametrize("text", ["no base64!", base64.b64encode(b"no picture").decode(), "", None])
def test_a_cell_that_is_no_picture_is_named(text):
    with pytest.raises(
        DataError, match=r"^image of line 3: cannot be read as a PNG or JPEG file as base64 text \(.*\); encode"
    ):
        decode_grey(text, "image of line 3")


def test_grey_levels_survive_the_text():
    levels = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    np.testing.assert_array_equal(decode_grey(encode_png(levels), "x"), (levels / 255).astype(np.float32))
    np.testing.assert_allclose(decode_grey(encode_png(levels.astype(np.uint16) * 257), "x"), levels / 255, atol=1e-7)


def test_a_request_is_read_as_a_file_is(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    levels = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    Image.fromarray(levels).save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(levels.astype(np.uint16) * 16).save(tmp_path / "twelve.png")
    for name, expected in {"turned": np.rot90(levels, k=-1) / 255, "twelve": levels / 4095 * 16}.items():
        text = base64.b64encode((tmp_path / f"{name}.png").read_bytes()).decode()
        np.testing.assert_array_equal(decode_grey(text, "x"), read_grey(tmp_path / f"{name}.png"))
        np.testing.assert_allclose(decode_grey(text, "x"), expected, atol=1e-6)


def test_a_coarse_map_of_low_probabilities_stays_low(make_model, tmp_path):
    """White of a map is 65535 whatever its maximum: it is a probability, and no picture."""
    save(make_model("phase2")[0], tmp_path / "saved", amp=False)
    model = mlflow.pyfunc.load_model(str(tmp_path / "saved"))
    levels = np.arange(96 * 120, dtype=np.uint8).reshape(96, 120)
    coarse = (levels / 255 * 0.06).astype(np.float32)  # in 16 bits at most 3932, which 12 bits would hold
    text = {"image": encode_png(levels), "coarse": encode_png(np.rint(coarse * 65535).astype(np.uint16))}
    (answer,) = model.predict(pd.DataFrame([text])).to_dict("records")
    grey = (levels / 255).astype(np.float32)
    expected = load_segmenter(make_model("phase2")[0], amp=False)(grey, np.rint(coarse * 65535) / np.float32(65535))
    np.testing.assert_allclose(pixels(answer["probability"]) / 65535, expected, atol=1e-4)


def test_requirements_are_the_packages_own_at_the_versions_at_hand():
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).parents[3] / "setup.cfg")
    declared = re.findall(r"^([\w-]+)", setup["options"]["install_requires"], re.MULTILINE)
    assert set(REQUIREMENTS) <= {*declared, "numpy"}
    assert all(re.fullmatch(r"[\w-]+==[\w.]+", line) for line in requirements())


SERVE = """
import sys
sys.modules.update(dict.fromkeys(sys.argv[3].split(",")))  # importing these fails
import json, mlflow, pandas as pd
answer = mlflow.pyfunc.load_model(sys.argv[1]).predict(pd.read_json(sys.argv[2], orient="split"))
import ultrarefiner_monai
print(json.dumps({"package": ultrarefiner_monai.__file__, "pixels": int(answer["lesion_pixels"][0])}))
"""


@pytest.mark.slow
def test_another_process_needs_neither_the_package_nor_what_only_trainings_need(training, store, picture, tmp_path):
    folder = mlflow.artifacts.download_artifacts(f"runs:/{run_id_of(training)}/model", dst_path=str(tmp_path / "copy"))
    (tmp_path / "pictures.json").write_text(as_table(picture).to_json(orient="split"))
    command = [sys.executable, "-c", SERVE, folder, str(tmp_path / "pictures.json"), ",".join(BLOCKED)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=True)
    answer = json.loads(done.stdout.splitlines()[-1])
    assert Path(answer["package"]).is_relative_to(folder)
    assert answer["pixels"] == mlflow.pyfunc.load_model(folder).predict(as_table(picture))["lesion_pixels"][0]


@pytest.mark.slow
def test_mlflow_models_predict_segments_a_picture(training, store, picture, tmp_path):
    content = {"dataframe_split": as_table(picture).to_dict("split"), "params": {"threshold": 0.4}}
    (tmp_path / "in.json").write_text(json.dumps(content))
    command = [sys.executable, "-m", "mlflow", "models", "predict", "-m", f"runs:/{run_id_of(training)}/model"]
    command += ["-i", "in.json", "-o", "out.json", "-t", "json", "--env-manager", "local"]
    environment = os.environ | {"MLFLOW_TRACKING_URI": training.uri}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=300)
    (answer,) = json.loads((tmp_path / "out.json").read_text())["predictions"]
    model = mlflow.pyfunc.load_model(f"runs:/{run_id_of(training)}/model")
    expected = model.predict(as_table(picture), params={"threshold": 0.4})
    assert answer["lesion_pixels"] == expected["lesion_pixels"][0]
    np.testing.assert_array_equal(pixels(answer["mask"]), pixels(expected["mask"][0]))
