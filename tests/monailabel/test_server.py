"""What a client of the server gets: the masks of `load_segmenter`, options, the next picture, trainings."""

import json

import numpy as np
import pytest
from label_server import CLASSES, png
from PIL import Image

from ultrarefiner_monai.data.images import read_grey, read_mask
from ultrarefiner_monai.deploy.monailabel.parts import uncertainty
from ultrarefiner_monai.metrics.classes import class_mask, class_probability
from ultrarefiner_monai.models import load_segmenter
from ultrarefiner_monai.systems import all_stages

pytestmark = pytest.mark.monailabel

FED = ("phase2", "adapt", "distill")  # exported with phase 1


@pytest.fixture(scope="module")
def expected(server):
    """The probability map of a phase for grey values and, where it needs one, perhaps a map; else phase 1's."""
    segmenters = {phase: load_segmenter(path) for phase, path in server.models.items()}

    def predict(phase, grey, coarse=None):
        if phase in FED:
            return segmenters[phase](grey, segmenters["phase1"](grey) if coarse is None else coarse)
        return segmenters[phase](grey)

    return predict


@pytest.fixture(scope="module")
def uploaded(tmp_path_factory):
    """A picture that is no item of the server: neither square nor symmetric, in colours."""
    folder = tmp_path_factory.mktemp("uploaded")
    ramp = np.add.outer(np.arange(70), 2 * np.arange(110)) % 256
    ramp[10:40, 60:100] = 20
    Image.fromarray(np.stack([ramp, ramp // 2, 255 - ramp], -1).astype(np.uint8)).save(folder / "drawn.png")
    return folder / "drawn.png"


def upload(path):
    return {"file": (path.name, path.read_bytes(), "image/png")}


def test_info_names_the_models_with_their_label_and_their_options(server):
    info = server.get("/info/").json()
    assert info["labels"] == ["lesion"]
    assert sorted(info["trainers"]) == sorted(server.models)
    assert info["models"].keys() - server.models.keys() == {"phase2_clicks", "phase3_clicks"}
    assert info["models"]["phase1"]["config"]["threshold"] == 0.5
    assert (
        info["models"]["phase3"]["config"] | {"box": True, "mask": True, "positive_points": 1}
        == (info["models"]["phase3"]["config"])
    )
    assert "show" not in info["models"]["automedsam"]["config"]
    assert info["models"][CLASSES]["config"]["show"] == ["mask", "benign", "malignant"]
    assert {"uncertainty_phase1", "uncertainty_phase2", "uncertainty_phase3"} <= info["strategies"].keys()


@pytest.mark.parametrize("phase", [*all_stages(), CLASSES])
def test_a_picture_of_the_server_gets_the_mask_of_the_segmenter(phase, server, expected):
    path = sorted(server.pictures.glob("*.png"))[0]
    mask = server.infer(phase, path.stem)
    check_equal(mask, expected(phase, read_grey(path)) >= 0.5)


@pytest.mark.parametrize("phase", ["phase1", "phase2", "phase3"])
def test_an_uploaded_picture_gets_the_mask_of_the_segmenter(phase, server, expected, uploaded):
    check_equal(server.infer(phase, files=upload(uploaded)), expected(phase, read_grey(uploaded)) >= 0.5)


def check_equal(mask, wanted):
    """The same pixels, of a mask that no transposition or mirroring leaves as it is."""
    assert mask.dtype == np.uint8
    assert 0 < wanted.mean() < 1
    assert wanted.shape[0] != wanted.shape[1]
    assert not (np.array_equal(wanted, wanted[::-1]) or np.array_equal(wanted, wanted[:, ::-1]))
    np.testing.assert_array_equal(mask, wanted)


def test_phase_2_refines_the_mask_that_came_with_the_request(server, expected, uploaded):
    coarse = np.zeros(read_grey(uploaded).shape, dtype=bool)
    coarse[12:38, 62:98] = True
    files = {**upload(uploaded), "label": ("coarse.png", png(coarse), "image/png")}
    wanted = expected("phase2", read_grey(uploaded), coarse.astype(np.float32)) >= 0.5
    check_equal(server.infer("phase2", files=files), wanted)
    assert not np.array_equal(wanted, expected("phase2", read_grey(uploaded)) >= 0.5)
    shown = server.infer("phase2", files=files, show="coarse")
    assert 2 * (shown & coarse).sum() / (shown.sum() + coarse.sum()) > 0.97


def test_a_model_that_tells_classes_apart_shows_them_and_says_which_it_is(server):
    path = sorted(server.pictures.glob("*.png"))[0]
    found = load_segmenter(server.models[CLASSES]).predict(read_grey(path))
    classes = np.stack([found.classes[name] for name in ("benign", "malignant")])
    told = class_mask(found.probability, classes)
    for number, name in enumerate(("benign", "malignant"), start=1):
        check_equal(server.infer(CLASSES, path.stem, show=name), told == number)
    answer = server.post(f"/infer/{CLASSES}", params={"image": path.stem, "output": "json"}, data={"params": "{}"})
    result = answer.json()
    likely = class_probability(found.probability, classes)
    assert result["class"] == ("benign", "malignant")[likely.argmax()]
    assert result["class_probability"] == pytest.approx(likely.max(), abs=1e-3)
    assert result["lesion_pixels"] == (told > 0).sum()
    refused = server.ask(CLASSES, path.stem, show="normal")
    assert refused.status_code == 400 and "mask, benign, malignant" in refused.json()["detail"]


def test_labels_of_lesions_train_no_model_that_tells_classes_apart(server):
    refused = server.post(f"/train/{CLASSES}", json={"max_epochs": 1})
    assert refused.status_code == 400
    assert "tells benign, malignant apart, and labels here say lesion alone" in refused.json()["detail"]


def test_the_threshold_of_the_client_decides(server, expected, uploaded):
    probability = expected("phase3", read_grey(uploaded))
    threshold = float(np.quantile(probability, 0.8))
    mask = server.infer("phase3", files=upload(uploaded), threshold=threshold)
    np.testing.assert_array_equal(mask, probability >= np.float32(threshold))
    assert mask.sum() != (probability >= 0.5).sum()


def test_the_prompts_of_the_client_decide_and_do_not_stay(server, expected, uploaded, tmp_path):
    grey = read_grey(uploaded)
    source = server.models["phase3"]
    card = json.loads(source.with_suffix(".json").read_text())
    card["network"]["refiner"] |= {"prompt_box": False, "prompt_positive_points": 2, "prompt_negative_points": 0}
    (tmp_path / "model.pt").write_bytes(source.read_bytes())
    (tmp_path / "model.json").write_text(json.dumps(card))
    other = load_segmenter(tmp_path / "model.pt")(grey)
    threshold = float(np.median(other))
    mask = server.infer(
        "phase3", files=upload(uploaded), box=False, positive_points=2, negative_points=0, threshold=threshold
    )
    np.testing.assert_array_equal(mask, other >= np.float32(threshold))
    usual = expected("phase3", grey) >= np.float32(threshold)
    assert not np.array_equal(mask, usual)
    np.testing.assert_array_equal(server.infer("phase3", files=upload(uploaded), threshold=threshold), usual)


@pytest.mark.parametrize(
    ("params", "said"),
    [({"threshold": 2}, "of at least 0 and at most 1"), ({"box": False, "mask": False}, "switched off")],
)
def test_an_option_that_makes_no_sense_is_refused_and_the_server_goes_on(params, said, server, uploaded):
    params = {"positive_points": 0, "negative_points": 0, **params}
    answer = server.post("/infer/phase3", data={"params": json.dumps(params)}, files=upload(uploaded))
    assert answer.status_code == 400
    assert said in answer.json()["detail"]
    assert server.get("/info/").ok


def test_a_file_that_is_no_picture_is_refused_in_one_line(server):
    answer = server.post("/infer/phase1", files={"file": ("x.png", b"no picture", "image/png")})
    assert answer.status_code == 400
    assert "cannot be read as an image" in answer.json()["detail"]


def test_a_label_is_kept_as_it_was_sent(server):
    image = server.unlabelled()[-1]
    mask = np.zeros(read_grey(server.picture(image)).shape, dtype=bool)
    mask[5:20, 3:40] = True
    server.put_label(image, mask)
    np.testing.assert_array_equal(server.label(image), mask)
    assert image not in server.unlabelled()


@pytest.mark.parametrize("phase", ["phase1", "phase2", "phase3"])
def test_the_next_picture_is_the_one_the_model_is_least_certain_of(phase, server, expected):
    images = server.unlabelled()
    wanted = {image: uncertainty(expected(phase, read_grey(server.picture(image)))) for image in images}
    for image in sorted(wanted, key=wanted.__getitem__, reverse=True)[:2]:
        answer = server.post(f"/activelearning/uncertainty_{phase}").json()
        assert (answer["id"], answer["uncertainty"]) == (image, pytest.approx(wanted[image], abs=1e-5))
        server.put_label(image, np.ones(read_grey(server.picture(image)).shape, dtype=bool))


@pytest.mark.parametrize("phase", all_stages())
def test_a_training_ends_and_what_is_served_then_is_its_model(phase, server):
    paths = sorted(server.pictures.glob("*.png"))
    for path in paths[:5]:
        server.put_label(path.stem, read_mask(server.truth(path.stem)))
    model = server.model(phase)
    before = json.loads(model.with_suffix(".json").read_text())
    task = server.train(phase, max_epochs=1, val_split=-1)
    assert task["status"] == "DONE", "\n".join(task["details"])
    after = json.loads(model.with_suffix(".json").read_text())
    assert after["started_from"] == before["sha256"] != after["sha256"]
    picture = paths[-1]
    segment = load_segmenter(model)
    grey = read_grey(picture)
    probability = segment(grey, load_segmenter(server.models["phase1"])(grey)) if phase in FED else segment(grey)
    check_equal(server.infer(phase, picture.stem), probability >= 0.5)
