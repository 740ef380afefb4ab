"""What a client may ask, and what it may not: unknown keys, odd values, paths, expressions; and which pictures are served."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from label_server import png, until
from PIL import Image

pytestmark = pytest.mark.monailabel


def picture(size=(40, 30), kind="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(np.add.outer(np.arange(size[1]), np.arange(size[0])).astype(np.uint8)).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def outside(tmp_path):
    """A picture that is not the server's."""
    (tmp_path / "outside.png").write_bytes(picture())
    return tmp_path / "outside.png"


@pytest.fixture
def code(tmp_path):
    """An expression of a configuration, which would leave a file."""
    yield f"$open('{tmp_path / 'ran'}', 'w')"
    assert not (tmp_path / "ran").exists()


def files_below(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if "logs" not in path.parts}


def test_every_kind_of_picture_is_served_and_sub_folders_are_named_in_the_log(server):
    assert {server.picture(image).suffix for image in server.images()} == {".png", ".bmp", ".jpeg", ".tiff", ".PNG"}
    assert not any("lower" in image for image in server.images())
    assert "share another's name: inner/lower.png" in server.log.read_text(errors="replace")


@pytest.mark.parametrize("suffix", [".bmp", ".jpeg", ".tiff", ".PNG"])
def test_masks_of_every_kind_of_picture_are_png_with_0_and_1(suffix, server):
    path = next(server.pictures.glob(f"*{suffix}"))
    mask = server.infer("phase1", path.stem)  # checks the kind and the values
    assert mask.shape == Image.open(path).size[::-1]
    np.testing.assert_array_equal(server.infer("phase1", files={"file": (path.name, path.read_bytes())}), mask)


def test_a_picture_that_is_laid_into_the_folder_is_served_at_once(server):
    path = server.pictures / "LATE.BMP"
    path.write_bytes(picture(kind="BMP"))
    try:
        assert until(30, lambda: "LATE" in server.images())
        assert server.infer("phase1", "LATE").shape == (30, 40)
    finally:
        path.unlink()
    assert until(30, lambda: "LATE" not in server.images())


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"treshold": 0.4}, "did you mean 'threshold'?"),
        ({"show": "coarsee"}, "expected one of refined, coarse"),
        ({"positive_points": 10**7}, "at most 100"),
        ({"box_margin": "wide"}, "expected a number"),
        ({"device": "gpu9"}, "expected one of cpu, cuda"),
        ({"logging": "LOUD"}, "expected one of DEBUG"),
        ({"result_extension": ".jpg"}, "expected one of .png"),
        ({"result_dtype": "object"}, "expected one of uint8"),
        ({"model_filename": "../../phase1/models/model.pt"}, "unknown key 'model_filename'"),
        ({"model": "../phase3"}, "did you mean 'phase3'?"),
    ],
)
def test_a_request_for_a_mask_that_makes_no_sense_is_refused(params, said, server):
    answer = server.ask("phase3", next(iter(server.images())), **params)
    assert answer.status_code == 400
    assert said in answer.json()["detail"]


@pytest.mark.parametrize("name", ["threshold", "show", "box", "positive_points", "device", "result_dtype"])
def test_no_value_of_a_request_for_a_mask_is_an_expression(name, server, code):
    assert server.ask("phase3", next(iter(server.images())), **{name: code}).status_code == 400


@pytest.mark.parametrize("name", ["max_epochs", "val_split", "device", "run_id", "learning_rate"])
def test_no_value_of_a_training_is_an_expression(name, server, code):
    assert server.post("/train/phase1", json={name: code}).status_code == 400


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"epochs": 1}, "did you mean 'max_epochs'?"),
        ({"max_epochs": 0}, "above 0"),
        ({"max_epochs": 1.5}, "a whole number"),
        ({"val_split": 1}, "below 1"),
        ({"pretrained": False}, "unknown key 'pretrained'"),
        ({"model_filename": "../x.pt"}, "unknown key 'model_filename'"),
        ({"bundle_root": "/"}, "unknown key 'bundle_root'"),
        ({"gpus": "0,1"}, "unknown key 'gpus'"),
        ({"model": "phase9"}, "did you mean 'phase"),
    ],
)
def test_a_training_that_makes_no_sense_is_refused_before_it_begins(params, said, server):
    answer = server.post("/train/phase1", json=params)
    assert answer.status_code == 400
    assert said in answer.json()["detail"]


@pytest.mark.parametrize(("path", "said"), [("/train/phase9", "phase"), ("/infer/phase9?image=x", "phase")])
def test_a_model_that_there_is_not_is_told(path, said, server):
    answer = server.post(path, data={"params": "{}"} if "infer" in path else None)
    assert answer.status_code == 400
    assert said in answer.json()["detail"]


def test_other_tasks_have_their_keys_too(server, code):
    assert server.post("/scoring/uncertainty_phase1", json={"bundle_path": code, "metod": 1}).status_code == 400
    assert server.post("/scoring/uncertainty_phase9", json={}).status_code == 400
    assert server.post("/batch/infer/phase1", json={"label_tag": "x", "threshold": code}).status_code == 400
    assert server.post("/activelearning/uncertainty", json={}).status_code == 400


@pytest.mark.parametrize("how", ["absolute", "relative", "in params", "with suffix", "nothing"])
def test_a_picture_outside_the_folder_is_not_read(how, server, outside):
    stem = server.picture(next(iter(server.images())))
    image = {"absolute": str(outside), "relative": f"../images/{stem.name}", "with suffix": stem.name}.get(how, how)
    params = {"image": str(outside)} if how == "in params" else {}
    answer = server.post("/infer/phase1", params={"image": image}, data={"params": json.dumps(params)})
    assert answer.status_code == 400
    said = "unknown key 'image'" if params else "not in the study folder"
    assert said in answer.json()["detail"]


def test_a_mask_is_only_read_from_the_request(server, outside):
    answer = server.ask("phase2", next(iter(server.images())), label=str(outside))
    assert (answer.status_code, "label: expected a name" in answer.json()["detail"]) == (400, True)
    answer = server.ask("phase1", next(iter(server.images())), label="lesion")
    assert (answer.status_code, "unknown key 'label'" in answer.json()["detail"]) == (400, True)


@pytest.mark.parametrize("name", ["../outside", "ABSOLUTE", "a/b", ".hidden", ".."])
def test_a_new_picture_stays_in_the_folder(name, server, tmp_path):
    before = files_below(server.pictures.parent)
    name = str(tmp_path / "absolute") if name == "ABSOLUTE" else name
    answer = server.put("/datastore/", params={"image": name}, files={"file": ("x.png", picture())})
    assert answer.status_code == 400
    assert files_below(server.pictures.parent) == before and not files_below(tmp_path)


@pytest.mark.parametrize(("name", "content"), [("x.png", b"no picture"), ("x.exe", picture())])
def test_a_new_picture_has_to_be_one(name, content, server):
    answer = server.put("/datastore/", params={"image": "new"}, files={"file": (name, content)})
    assert answer.status_code == 400
    assert "new" not in server.images()


def test_a_new_picture_replaces_none(server):
    image = next(iter(server.images()))
    before = server.picture(image).read_bytes()
    answer = server.put("/datastore/", params={"image": image}, files={"file": ("x.png", picture())})
    assert (answer.status_code, "already there" in answer.json()["detail"]) == (400, True)
    assert server.picture(image).read_bytes() == before


@pytest.mark.parametrize("tag", ["../../tag", "ABSOLUTE", ".."])
def test_a_label_stays_in_the_folder(tag, server, tmp_path):
    image = next(iter(server.images()))
    before = files_below(server.pictures.parent)
    mask = np.ones(Image.open(server.picture(image)).size[::-1], dtype=np.uint8)
    answer = server.send_label(image, "a.png", png(mask), str(tmp_path / "tag") if tag == "ABSOLUTE" else tag)
    assert answer.status_code == 400
    assert files_below(server.pictures.parent) == before and not files_below(tmp_path)


def test_a_label_of_a_picture_that_there_is_not_is_told(server):
    assert server.send_label("nothing", "a.png", png(np.ones((3, 3)))).status_code == 404


def test_masks_of_all_pictures_are_kept_as_png(server):
    answer = server.post("/batch/infer/phase1", params={"images": "unlabeled"})
    assert answer.status_code == 200, answer.text
    done = until(300, lambda: (task := server.get("/batch/infer").json())["status"] in ("DONE", "ERROR") and task)
    assert done["status"] == "DONE", "\n".join(done["details"])
    kept = list((server.pictures / "labels" / "original").iterdir())
    assert {path.suffix for path in kept} == {".png"}
    for image in server.unlabelled():
        mask = np.asarray(Image.open(server.pictures / "labels" / "original" / f"{image}.png"))
        np.testing.assert_array_equal(mask, server.infer("phase1", image))
