"""Files in, results out: whole predictions with small models."""

import csv
import json

import nibabel
import numpy as np
import pytest
from PIL import Image

from ultrarefiner_monai.data.images import read_grey
from ultrarefiner_monai.deploy.predict import prediction
from ultrarefiner_monai.deploy.predict.measures import measure
from ultrarefiner_monai.deploy.predict.outputs import Outputs
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.files import file_sha256
from ultrarefiner_monai.models import load_segmenter

COARSE = {"coarse_variant": "tiny", "coarse_size": 64, "fusion": "learned"}


def predict(paths, model, out, coarse=None, overwrite=False, any_modality=False, **options):
    keys = {"coarse": coarse, "overwrite": overwrite, "any_modality": any_modality}
    return prediction.predict(paths, model, Outputs(out, **options), **keys)


def written(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def pixels(path):
    return np.asarray(Image.open(path))


@pytest.fixture
def model(make_model):
    return make_model("phase3")[0]


@pytest.fixture
def grey(picture):
    """Stored values of the picture, (H, W) uint8."""
    return np.asarray(Image.open(picture).convert("L"))


@pytest.mark.parametrize(("phase", "keys"), [("phase1", {}), ("phase3", COARSE)])
def test_the_mask_is_that_of_the_bundles_inference(phase, keys, make_model, picture, predicted_by_bundle, tmp_path):
    path, _ = make_model(phase)
    summary = predict(picture, path, tmp_path / "out")
    expected = predicted_by_bundle(phase, path, picture, **keys)
    assert 0 < expected.mean() < 1
    np.testing.assert_array_equal(pixels(tmp_path / "out/masks" / f"{picture.stem}.png"), expected * np.uint8(255))
    assert summary.exit_code == 0 and summary.rows[0]["area_px"] == expected.sum()


def test_the_same_picture_in_every_kind_of_file_gets_the_same_mask(model, grey, tmp_path):
    pytest.importorskip("pydicom", reason="DICOM is an optional extra")
    from made_dicom import write_dicom

    folder = tmp_path / "in"
    folder.mkdir()
    grey_alpha = np.dstack([grey, np.full_like(grey, 9)])
    Image.fromarray(grey).save(folder / "grey.png")
    Image.fromarray(np.repeat(grey[..., None], 3, axis=2)).save(folder / "colour.bmp")
    Image.fromarray(grey_alpha, "LA").save(folder / "alpha.png")
    Image.fromarray(np.dstack([grey] * 3 + [grey])).save(folder / "rgba.png")
    palette = Image.fromarray(255 - grey, "P")
    palette.putpalette(np.repeat(np.arange(255, -1, -1), 3).astype(np.uint8).tobytes())
    palette.save(folder / "palette.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(folder / "deep.tif")
    nibabel.save(nibabel.Nifti1Image(grey.T, np.eye(4)), folder / "nifti.nii.gz")
    write_dicom(folder / "dicom.dcm", grey)
    write_dicom(folder / "1.2.3", 255 - grey, "MONOCHROME1")
    summary = predict(folder, model, tmp_path / "out")
    assert len(summary.rows) == 9 and not summary.failures
    expected = pixels(tmp_path / "out/masks/grey.png")
    assert 0 < expected.mean() < 255 and expected.shape == grey.shape
    for row in summary.rows:
        np.testing.assert_array_equal(pixels(tmp_path / "out" / row["mask"]), expected, err_msg=row["file"])


def test_one_bit_pictures_are_black_and_white(model, grey, tmp_path):
    Image.fromarray(grey > 100).save(tmp_path / "bit.png")
    Image.fromarray((grey > 100).astype(np.uint8) * 255).save(tmp_path / "byte.png")
    predict([tmp_path / "bit.png", tmp_path / "byte.png"], model, tmp_path / "out")
    np.testing.assert_array_equal(pixels(tmp_path / "out/masks/bit.png"), pixels(tmp_path / "out/masks/byte.png"))


def test_the_table_and_the_report_say_what_was_done(model, picture, tmp_path):
    summary = predict(picture, model, tmp_path / "out", probability=True, uncertainty="entropy", overlay=True)
    out, name = tmp_path / "out", picture.stem
    assert written(out) == sorted(
        [
            *("measures.csv", "report.json", f"masks/{name}.png", f"overlays/{name}.png"),
            *(f"probability/{name}.nii.gz", f"uncertainty/{name}.nii.gz"),
        ]
    )
    expected = load_segmenter(model).predict(read_grey(picture))
    np.testing.assert_array_equal(
        np.asarray(nibabel.load(out / "probability" / f"{name}.nii.gz").dataobj).T, expected.probability
    )
    mask = expected.probability >= 0.5
    (row,) = csv.DictReader((out / "measures.csv").open())
    assert (row["file"], row["frame"], row["mask"]) == (str(picture), "1", f"masks/{name}.png")
    assert (int(row["width"]), int(row["height"])) == mask.shape[::-1]
    assert int(row["area_px"]) == mask.sum() and row["area_mm2"] == row["spacing_x_mm"] == ""
    assert float(row["sam_predicted_iou"]) == pytest.approx(expected.quality)
    report = json.loads((out / "report.json").read_text())
    assert report["models"] == [{"file": str(model), "sha256": file_sha256(model)}]
    assert (report["phase"], report["threshold"], report["failures"]) == ("phase3", 0.5, [])
    assert report["pictures"][0]["area_mm2"] is None and report["pictures"][0]["area_px"] == mask.sum()
    assert str(summary).startswith("pictures: 1, files: 1, with a lesion: 1, skipped files: 0; ")


def test_the_threshold_decides_what_is_lesion(model, picture, tmp_path):
    probability = load_segmenter(model)(read_grey(picture))
    middle = float(np.median(probability))
    areas = [
        predict(picture, model, tmp_path / str(threshold), threshold=threshold).rows[0]["area_px"]
        for threshold in (0, middle, 1.0)
    ]
    assert areas == [probability.size, (probability >= middle).sum(), (probability >= 1).sum()]


def test_unreadable_files_are_told_and_the_others_predicted(model, picture, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    whole = picture.read_bytes()
    (folder / "a.png").write_bytes(whole)
    (folder / "b.png").write_bytes(whole[: len(whole) // 2])
    (folder / "c.nii.gz").write_text("no NIfTI")
    (folder / "d.tif").touch()
    summary = predict([folder, tmp_path / "nowhere.png"], model, tmp_path / "out")
    assert [row["file"] for row in summary.rows] == [str(folder / "a.png")]
    assert summary.exit_code == 1
    failed = {str(folder / name) for name in ("b.png", "c.nii.gz", "d.tif")} | {str(tmp_path / "nowhere.png")}
    assert {path for path, _ in summary.failures} == failed
    assert all(reason.startswith(path) and "\n" not in reason for path, reason in summary.failures)
    assert len(json.loads((tmp_path / "out/report.json").read_text())["failures"]) == 4
    assert str(summary).count("skipped: ") == 4
    assert written(tmp_path / "out") == ["masks/a.png", "measures.csv", "report.json"]
    with pytest.raises(DataError, match=r"^nothing to predict: .*nowhere\.png: no such file"):
        predict(tmp_path / "nowhere.png", model, tmp_path / "other")


def test_nothing_is_overwritten_unless_asked_for(model, picture, tmp_path):
    out = tmp_path / "out"
    predict(picture, model, out, threshold=0.1)
    before = {name: (out / name).read_bytes() for name in written(out)}
    with pytest.raises(DataError, match=r"already there; name another --out, or replace it with --overwrite$"):
        predict(picture, model, out, threshold=0.9)
    assert {name: (out / name).read_bytes() for name in written(out)} == before
    predict(picture, model, out, threshold=0.9, overwrite=True)
    assert written(out) == sorted(before) and (out / "measures.csv").read_bytes() != before["measures.csv"]


def test_two_files_that_would_write_one_mask_are_refused(model, picture, tmp_path):
    for name in ("in/a.png", "in/a.bmp", "other/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.open(picture).save(tmp_path / name)
    for paths in ([tmp_path / "in"], [tmp_path / "in/a.png", tmp_path / "other/a.png"]):
        with pytest.raises(DataError, match=r"a\.(bmp|png), .*a\.png: all would write .*a\.png; rename them"):
            predict(paths, model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_picture_is_never_written_over(model, picture, tmp_path):
    place = tmp_path / "masks" / "a.png"
    place.parent.mkdir()
    place.write_bytes(picture.read_bytes())
    with pytest.raises(DataError, match=r"masks.a\.png: would be overwritten by its own mask; name another --out$"):
        predict(place, model, tmp_path, overwrite=True)
    assert place.read_bytes() == picture.read_bytes()


def test_results_inside_of_the_folder_are_no_pictures_of_the_next_run(model, picture, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.png").write_bytes(picture.read_bytes())
    for _ in range(2):
        assert len(predict(folder, model, folder / "out", overlay=True, overwrite=True).rows) == 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"format": "gif"}, "format gif: expected one of png, nifti, dicom-seg"),
        ({"threshold": 2}, "threshold 2: expected a probability from 0 to 1"),
        ({"threshold": "half"}, "threshold half: expected a probability from 0 to 1"),
        ({"uncertainty": "doubt"}, "uncertainty doubt: expected one of entropy, std"),
        ({"uncertainty": "std"}, "uncertainty std: needs several models"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(options, reason, model, picture, tmp_path):
    with pytest.raises(DataError, match=reason):
        predict(picture, model, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_phase_2_takes_its_coarse_maps_from_phase_1(make_model, picture, tmp_path):
    coarse, model = make_model("phase1")[0], make_model("phase2")[0]
    with pytest.raises(
        DataError,
        match=r"phase2 refines the map of phase1 .*; name a model of phase1, too \(--coarse MODEL\), or predict with ",
    ):
        predict(picture, model, tmp_path / "out")
    predict(picture, model, tmp_path / "out", coarse=coarse)
    grey = read_grey(picture)
    expected = load_segmenter(model)(grey, load_segmenter(coarse)(grey)) >= 0.5
    np.testing.assert_array_equal(pixels(tmp_path / "out/masks" / f"{picture.stem}.png") > 0, expected)
    assert json.loads((tmp_path / "out/report.json").read_text())["coarse_models"][0]["sha256"] == file_sha256(coarse)


def test_an_ensemble_writes_how_far_its_models_agree(make_model, picture, tmp_path):
    models = [make_model(phase)[0] for phase in ("phase1",)] * 2
    predict(picture, models, tmp_path / "out", uncertainty="std")
    deviation = np.asarray(nibabel.load(tmp_path / "out/uncertainty" / f"{picture.stem}.nii.gz").dataobj)
    assert deviation.shape == pixels(picture).shape[1::-1] and not deviation.any()  # a model agrees with itself


def test_dicom_in_and_segmentation_out(model, grey, tmp_path):
    hd = pytest.importorskip("highdicom", reason="DICOM is an optional extra")
    import pydicom
    from made_dicom import region, write_dicom

    movie = np.stack([grey, grey[::-1], np.zeros_like(grey)])
    folder = tmp_path / "in"
    folder.mkdir()
    write_dicom(folder / "movie.dcm", movie, SequenceOfUltrasoundRegions=[region(0.01, 0.02)])
    write_dicom(folder / "still.dcm", grey)
    Image.fromarray(grey).save(folder / "still.png")
    summary = predict(folder, model, tmp_path / "out", format="dicom-seg")
    assert [(row["file"][-9:], row["frame"]) for row in summary.rows] == [
        *(("movie.dcm", 1), ("movie.dcm", 2), ("movie.dcm", 3), ("still.dcm", 1))
    ]
    assert [path for path, _ in summary.failures] == [str(folder / "still.png")]
    assert written(tmp_path / "out/masks") == ["movie.dcm", "still.dcm"]
    segmenter = load_segmenter(model)
    probabilities = [segmenter((frame / 255).astype(np.float32)) for frame in movie]
    masks = np.stack(probabilities) >= 0.5
    np.testing.assert_array_equal(pydicom.dcmread(tmp_path / "out/masks/movie.dcm").pixel_array, masks)
    source = pydicom.dcmread(folder / "movie.dcm")
    seg = hd.seg.segread(tmp_path / "out/masks/movie.dcm")
    found = seg.get_pixels_by_source_frame(source.SOPInstanceUID, [1, 2, 3])
    np.testing.assert_array_equal(found[..., 0], masks)
    first = summary.rows[0]
    assert (first["spacing_x_mm"], first["spacing_y_mm"]) == pytest.approx((0.1, 0.2))
    assert first["area_mm2"] == pytest.approx(masks[0].sum() * 0.02)
    assert first["diameter_mm"] == measure(masks[0], segmenter_consensus(probabilities[0]), (0.2, 0.1))["diameter_mm"]


def segmenter_consensus(probability):
    from ultrarefiner_monai.models.ensemble import Consensus

    return Consensus(probability, np.zeros_like(probability), float("nan"))


def test_frames_of_dicom_as_pictures(model, grey, tmp_path):
    pytest.importorskip("pydicom", reason="DICOM is an optional extra")
    from made_dicom import write_dicom

    path = write_dicom(tmp_path / "a.dcm", np.stack([grey, grey[:, ::-1]]))
    predict(path, model, tmp_path / "out")
    assert written(tmp_path / "out/masks") == ["a_frame0001.png", "a_frame0002.png"]
    expected = load_segmenter(model)(np.ascontiguousarray(grey[:, ::-1] / np.float32(255))) >= 0.5
    np.testing.assert_array_equal(pixels(tmp_path / "out/masks/a_frame0002.png") > 0, expected)


def test_frames_before_the_damaged_one_are_kept(model, grey, tmp_path):
    pytest.importorskip("pydicom", reason="DICOM is an optional extra")
    from made_dicom import write_dicom
    from pydicom.uid import RLELossless

    path = write_dicom(tmp_path / "a.dcm", np.stack([grey] * 3), syntax=RLELossless)
    path.write_bytes(path.read_bytes()[:-200])
    summary = predict(path, model, tmp_path / "out")
    assert summary.exit_code == 1 and len(summary.failures) == 1
    assert [row["mask"] for row in summary.rows] == [f"masks/{name}" for name in written(tmp_path / "out/masks")]
    seg = predict(path, model, tmp_path / "seg", format="dicom-seg")
    assert seg.rows == [] and written(tmp_path / "seg") == ["measures.csv", "report.json"]


def test_the_masks_of_a_release_are_left_out_and_told(model, grey, tmp_path):
    folder = tmp_path / "Dataset_BUSI_with_GT" / "benign"
    folder.mkdir(parents=True)
    for name in ("benign (1).png", "benign (1)_mask.png", "benign (1)_mask_1.png"):
        Image.fromarray(grey).save(folder / name)
    summary = predict(folder.parent, model, tmp_path / "out")
    assert written(tmp_path / "out/masks") == ["benign/benign (1).png"] and summary.exit_code == 0
    masks = [str(folder / f"benign (1)_mask{end}.png") for end in ("", "_1")]
    assert json.loads((tmp_path / "out/report.json").read_text())["left_out"] == masks
    line = f"left out: 2 masks beside their images ({', '.join(masks)}); name a mask to predict it"
    assert line in str(summary).splitlines()


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_a_turned_picture_gets_the_mask_of_what_is_displayed(suffix, model, grey, tmp_path):
    """Orientation 6: the file holds the picture turned by a quarter to the left."""
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(grey)))
    if suffix == "jpg":  # a JPEG's own pixels
        stored.save(tmp_path / "plain.jpg", quality=100)
        stored = Image.open(tmp_path / "plain.jpg")
        stored.load()
    stored.save(tmp_path / f"turned.{suffix}", **({"tiffinfo": exif} if suffix == "tif" else {"exif": exif}))
    with Image.open(tmp_path / f"turned.{suffix}") as image:
        upright = np.rot90(np.asarray(image), k=-1) if suffix != "tif" else grey
    Image.fromarray(np.ascontiguousarray(upright)).save(tmp_path / "upright.png")
    paths = [tmp_path / f"turned.{suffix}", tmp_path / "upright.png"]
    summary = predict(paths, model, tmp_path / "out", overlay=True)
    for kind in ("masks", "overlays"):
        found, expected = (pixels(tmp_path / f"out/{kind}/{path.stem}.png") for path in paths)
        assert found.shape[:2] == grey.shape
        np.testing.assert_array_equal(found, expected)
    assert (summary.rows[0]["width"], summary.rows[0]["height"]) == grey.shape[::-1]
    note = "turned as its EXIF orientation 6 says; mask and sizes are those of the turned image"
    assert summary.notes == [(str(paths[0]), note)]
    assert json.loads((tmp_path / "out/report.json").read_text())["notes"] == [{"file": str(paths[0]), "note": note}]
    assert f"note: {note}; 1 file: {paths[0]}" in str(summary).splitlines()


def test_the_same_picture_with_every_depth_gets_the_same_mask(model, grey, tmp_path):
    """8-bit content in files of more bits, in each kind of file; each but the first is noted with its white."""
    pytest.importorskip("pydicom", reason="DICOM is an optional extra")
    from made_dicom import write_dicom

    grey = np.clip(grey, 1, 255)
    grey[0, 0] = 255
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(grey).save(folder / "a.png")
    for name, values in {"8": grey.astype(np.uint16), "16": grey.astype(np.uint16) * 257}.items():
        Image.fromarray(values).save(folder / f"png{name}.png")
        Image.fromarray(values).save(folder / f"tif{name}.tif")
        Image.fromarray(values.astype(np.float32)).save(folder / f"float{name}.tif")
        pages = [Image.fromarray(values), Image.fromarray(values // 2)]
        pages[1].save(folder / f"pages{name}.tif", save_all=True, append_images=pages[:1])
        write_dicom(folder / f"dicom{name}.dcm", values)
        nibabel.save(nibabel.Nifti1Image(values.T, np.eye(4)), folder / f"nifti{name}.nii")
    summary = predict(folder, model, tmp_path / "out")
    assert not summary.failures and len(summary.rows) == 15
    expected = pixels(tmp_path / "out/masks/a.png")
    for row in summary.rows:
        if "frame0001" not in row["mask"]:
            np.testing.assert_array_equal(pixels(tmp_path / "out" / row["mask"]), expected, err_msg=row["mask"])
    assert len(summary.notes) == 12
    lines = [line for line in str(summary).splitlines() if line.startswith("note: ")]
    assert [line.partition(",")[0] for line in lines] == [f"note: grey values: white is {w}" for w in (65535, 255)]
    assert all("; 6 files: " in line and line.endswith("and 4 more") for line in lines)


def test_another_modality_is_refused_by_name_unless_asked_for(model, grey, tmp_path):
    pytest.importorskip("highdicom", reason="DICOM is an optional extra")
    import pydicom
    from made_dicom import write_dicom
    from pydicom.uid import CTImageStorage

    folder = tmp_path / "in"
    folder.mkdir()
    path = write_dicom(folder / "ct.dcm", grey, Modality="CT", SOPClassUID=CTImageStorage)
    write_dicom(folder / "us.dcm", grey)
    summary = predict(folder, model, tmp_path / "out", format="dicom-seg")
    assert written(tmp_path / "out/masks") == ["us.dcm"] and summary.exit_code == 1
    reason = f"{path}: Modality is CT, not US (ultrasound); predict it all the same with --any_modality true"
    assert summary.failures == [(str(path), reason)]
    summary = predict(folder, model, tmp_path / "any", format="dicom-seg", any_modality=True)
    assert summary.exit_code == 0 and summary.notes == [(str(path), "Modality is CT, not US")]
    seg = pydicom.dcmread(tmp_path / "any/masks/ct.dcm")
    assert seg.SourceImageSequence[0].ReferencedSOPClassUID == CTImageStorage


@pytest.mark.slow
def test_every_real_sample_is_predicted_at_its_own_size(model, shared_data, tmp_path):
    summary = predict(shared_data / "BUSI", model, tmp_path / "out")
    assert not summary.failures and (len(summary.rows), len(summary.masks)) == (145, 163)
    for row in summary.rows:
        assert Image.open(tmp_path / "out" / row["mask"]).size == Image.open(row["file"]).size


def test_dicom_files_without_an_image_are_left_out(model, grey, tmp_path):
    """Reports, presentation states and the segmentations that an earlier run has written."""
    pytest.importorskip("highdicom", reason="DICOM is an optional extra")
    from made_dicom import header, write_dicom

    folder = tmp_path / "in"
    folder.mkdir()
    write_dicom(folder / "scan.dcm", grey)
    predict(folder / "scan.dcm", model, tmp_path / "seg", format="dicom-seg")
    (folder / "seg.dcm").write_bytes((tmp_path / "seg/masks/scan.dcm").read_bytes())
    for name, modality, sop_class in (("sr", "SR", "88.33"), ("pr", "PR", "11.1"), ("doc", "DOC", "104.1")):
        made = header(f"1.2.840.10008.5.1.4.1.1.{sop_class}")
        made.Modality, made.file_meta.MediaStorageSOPInstanceUID = modality, made.SOPInstanceUID
        made.save_as(folder / f"{name}.dcm", enforce_file_format=True)
    for any_modality in (False, True):
        summary = predict(folder, model, tmp_path / f"out{any_modality}", any_modality=any_modality)
        assert summary.exit_code == 0 and [row["file"] for row in summary.rows] == [str(folder / "scan.dcm")]
    left = [str(folder / f"{name}.dcm") for name in ("doc", "pr", "seg", "sr")]
    assert f"left out: 4 DICOM files without an image ({left[0]}, {left[1]} and 2 more)" in str(summary).splitlines()
    assert json.loads((tmp_path / "outTrue/report.json").read_text())["left_out"] == left
    with pytest.raises(
        DataError, match=r"nothing to predict: .*sr\.dcm: holds no image, it is Comprehensive SR Storage"
    ):
        predict(folder / "sr.dcm", model, tmp_path / "none")


def test_a_cut_ultrasound_file_is_a_failure_although_it_shows_no_image(model, grey, tmp_path):
    pytest.importorskip("pydicom", reason="DICOM is an optional extra")
    from made_dicom import header, write_dicom

    write_dicom(tmp_path / "scan.dcm", grey)
    made = header()
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    made.save_as(tmp_path / "cut.dcm", enforce_file_format=True)
    summary = predict([tmp_path / "scan.dcm", tmp_path / "cut.dcm"], model, tmp_path / "out")
    assert summary.exit_code == 1 and not summary.no_images and "no image in it" in summary.failures[0][1]


def test_a_file_that_is_no_model_is_named(picture, tmp_path):
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.7\n")
    with pytest.raises(DataError, match=r"; if .*a\.pdf is a model, keep its card beside it$"):
        predict(picture, tmp_path / "a.pdf", tmp_path / "out")
