"""Of several files, those that can be read are worked on, each of the others gets its line, and the exit status is 1."""

import gzip
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from picture_kinds import GREY, SQUARE, dicoms, niftis, png
from PIL import Image

from ultrarefiner_monai.deploy.predict import prediction
from ultrarefiner_monai.deploy.predict.outputs import Outputs
from ultrarefiner_monai.errors import DataError


def ultrarefiner(*words):
    """A verb as a real process, which has to end by itself."""
    command = [sys.executable, "-m", "ultrarefiner_monai", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def plant(folder):
    """Good and bad files of each kind, and what is no file at all; the names of both."""
    folder.mkdir()
    good = {"a_picture.png": folder / "a_picture.png"}
    Image.fromarray(GREY).save(good["a_picture.png"])
    bad = {
        "bomb.png": png(9300, 9300, b""),
        "eps.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "empty.jpg": b"",
        "cut.nii.gz": gzip.compress(niftis()["bytes.nii"])[:-40],
        "claims.nii": niftis()["bytes.nii"][:400],
    }
    (folder / "b_nifti.nii.gz").write_bytes(niftis()["bytes.nii.gz"])
    made = dicoms(folder.parent)
    (folder / "c_dicom.dcm").write_bytes(made["frames.dcm"])
    bad |= {"cut.dcm": made["rle.dcm"][:-50], "text.dcm": b"no DICOM\n" * 99}
    for name, content in bad.items():
        (folder / name).write_bytes(content)
    os.mkfifo(folder / "pipe.png")
    (folder / "dangling.png").symlink_to("nowhere.png")
    masks = ["a_picture.png", "b_nifti.png", "c_dicom_frame0001.png", "c_dicom_frame0002.png"]
    return masks, [*bad, "pipe.png", "dangling.png"]


@pytest.mark.fault(28)
def test_predict_goes_on_past_bad_files(make_model, tmp_path):
    pytest.importorskip("pydicom", reason="DICOM is an optional extra")
    good, bad = plant(tmp_path / "in")
    (tmp_path / "folder.png").mkdir()
    model, out = make_model("phase1")[0], tmp_path / "out"
    written = ("--out", out, "--uncertainty", "entropy", "--overlay", "--probability")
    done = ultrarefiner("predict", tmp_path / "in", tmp_path / "folder.png", "--model", model, *written)
    assert done.returncode == 1
    assert not [line for line in done.stderr.splitlines() if "Traceback" in line or "Warning" in line]
    assert sorted(path.name for path in (out / "masks").iterdir()) == good
    skipped = [line for line in done.stdout.splitlines() if line.startswith("skipped: ")]
    assert len(skipped) == len(bad) + 1
    for name in bad:
        assert sum(line.startswith(f"skipped: {tmp_path / 'in' / name}: ") for line in skipped) == 1, name
    assert "no image in this folder" in done.stdout and "pipe.png: no regular file" in done.stdout
    report = json.loads((out / "report.json").read_text())
    assert (len(report["pictures"]), len(report["failures"])) == (len(good), len(bad) + 1)
    names = [name.replace(".png", ".nii.gz") for name in good]
    assert sorted(path.name for path in (out / "uncertainty").iterdir()) == names


@pytest.mark.fault(28)
def test_a_segmentation_of_a_bad_file_keeps_none_of_the_others(make_model, tmp_path):
    pytest.importorskip("highdicom", reason="DICOM is an optional extra")
    plant(tmp_path / "in")
    model, out = make_model("phase1")[0], tmp_path / "out"
    summary = prediction.predict(tmp_path / "in", model, Outputs(out, "dicom-seg"))
    assert [path.name for path in (out / "masks").iterdir()] == ["c_dicom.dcm"]
    assert summary.exit_code == 1 and len(summary.failures) == len(list((tmp_path / "in").iterdir())) - 1


@pytest.mark.fault(28)
def test_a_file_that_vanishes_or_changes_in_between_is_told(make_model, tmp_path, monkeypatch):
    """Between the look at its header, before the model is loaded, and the reading of its pixels."""
    pytest.importorskip("pydicom", reason="DICOM is an optional extra")
    folder = tmp_path / "in"
    folder.mkdir()
    for name, content in (dicoms(tmp_path) | {"plane.nii": niftis()["bytes.nii"]}).items():
        (folder / name).write_bytes(content)
    Image.fromarray(GREY).save(folder / "kept.png")
    Image.fromarray(GREY).save(folder / "gone.tif")
    load = prediction.Ensemble

    def vanish(*arguments):
        for path in set(folder.iterdir()) - {folder / "kept.png", folder / "rle.dcm"}:
            path.unlink()
        (folder / "rle.dcm").write_bytes(b"other bytes")
        return load(*arguments)

    monkeypatch.setattr(prediction, "Ensemble", vanish)
    count = len(list(folder.iterdir()))
    summary = prediction.predict(folder, make_model("phase1")[0], Outputs(tmp_path / "out"))
    assert [row["file"] for row in summary.rows] == [str(folder / "kept.png")]
    assert len(summary.failures) == count - 1
    assert all(reason.startswith(path) and "\n" not in reason for path, reason in summary.failures)


@pytest.mark.fault(28)
def test_two_files_of_one_stem_are_refused_together_and_a_bad_one_stands_in_nobodys_way(make_model, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(GREY).save(folder / "a.png")
    (folder / "a.nii").write_bytes(niftis()["bytes.nii"][:100])
    model = make_model("phase1")[0]
    summary = prediction.predict(folder, model, Outputs(tmp_path / "out"))
    assert summary.exit_code == 1 and (tmp_path / "out/masks/a.png").is_file()
    (folder / "a.nii").write_bytes(niftis()["bytes.nii"])
    with pytest.raises(DataError, match=r"a\.nii, .*a\.png: all would write"):
        prediction.predict(folder, model, Outputs(tmp_path / "other"))
    assert not (tmp_path / "other").exists()


@pytest.mark.fault(28)
def test_a_manifest_is_not_built_or_verified_past_bad_files_in_silence(tmp_path):
    root, manifest = tmp_path / "own", tmp_path / "own.json"
    for number in range(8):
        for folder, values in (("images", GREY + np.uint8(9 * number)), ("masks", SQUARE)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(root / folder / f"p{number}.png")
    sound = shutil.copytree(root, tmp_path / "sound")
    (root / "images/p0.png").write_bytes(png(9300, 9300, b""))
    (root / "masks/p1.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n")
    (root / "images/p2.png").unlink()
    os.mkfifo(root / "images/p2.png")
    build = ("manifests", "build", "own", "--folds", 2, "--out", manifest, "--root")
    done = ultrarefiner(*build, root)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and not manifest.exists()
    assert all(name in done.stderr for name in ("p0.png: 9300 x 9300", "p1.png: cannot be read", "p2.png: no regular"))
    assert ultrarefiner(*build, root, "--skip_bad").returncode == 0
    assert len(json.loads(manifest.read_text())["excluded"]) == 3
    assert ultrarefiner(*build, sound).returncode == 0
    told = ultrarefiner("manifests", "verify", manifest, "--root", root)
    assert told.returncode == 1 and "Traceback" not in told.stderr
    lines = [line for line in told.stdout.splitlines() if "own" not in line.split(":")[0]]
    assert sum("p0.png: 9300 x 9300" in line for line in lines) == 1
    assert sum("p1.png: cannot be read as an image" in line for line in lines) == 1
    assert sum("p2.png: missing" in line for line in lines) == 1
