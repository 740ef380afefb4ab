"""Which items belong together, and in which order."""

from dataclasses import replace
from pathlib import Path

import pytest
from made_volumes import make_btcv

from ultrarefiner_monai.bundle.preflight.sequences import (
    check_sequences,
    check_spacing,
    empty_frames,
    in_sequences,
    natural,
)
from ultrarefiner_monai.data.manifests import load_manifest, shipped_manifest
from ultrarefiner_monai.data.manifests.build import build_document, write_manifest
from ultrarefiner_monai.data.manifests.manifest import Manifest
from ultrarefiner_monai.data.manifests.splits import Options
from ultrarefiner_monai.data.releases.readers import find_root
from ultrarefiner_monai.data.releases.release import read_release
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.systems.sequence_keys import FRAMES, NORMALS, SEQUENCE, WINDOW


def item(name, patient, **facts):
    return {"id": name, "patient": patient, "group": f"first of {patient}", **facts}


def places(items):
    return [(item["sequence"], item["position"], item["id"]) for item in items]


@pytest.fixture(scope="module")
def uclm() -> Manifest:
    return load_manifest(shipped_manifest("BUS_UCLM"))


def test_images_of_a_patient_follow_one_another_in_natural_order():
    items = [item("img10", "p"), item("x1", "q"), item("img2", "p"), item("img02", "p")]
    expected = [("p", 0, "img02"), ("p", 1, "img2"), ("p", 2, "img10"), ("q", 0, "x1")]
    assert places(in_sequences(items, "patient")) == expected
    assert sorted(["a10b2", "a9", "a10b1", "10", "9", "a"], key=natural) == ["9", "10", "a", "a9", "a10b1", "a10b2"]


def test_without_sequences_and_without_a_known_patient_every_image_is_one():
    items = [item("a", "p"), item("b", "p")]
    assert places(in_sequences(items, None)) == [("a", 0, "a"), ("b", 0, "b")]
    unknown = [item("a", "a") | {"group": "a"}, item("b", "a") | {"group": "a"}]  # near-duplicates
    assert places(in_sequences(unknown, "patient")) == [("a", 0, "a"), ("b", 0, "b")]


def test_slices_keep_the_sequence_and_position_that_they_have():
    slices = [{"id": f"{case}{z}", "sequence": case, "position": z} for case, z in (("b", 0), ("a", 7), ("a", 3))]
    assert places(in_sequences(slices, "volume")) == [("a", 3, "a3"), ("a", 7, "a7"), ("b", 0, "b0")]


def test_busbra_has_two_views_of_most_patients():
    items = in_sequences(load_manifest(shipped_manifest("BUSBRA")).items(), "patient")
    assert sum(item["position"] == 1 for item in items) == 811 and max(item["position"] for item in items) == 1


@pytest.mark.parametrize("fold", range(5))
def test_empty_frames_are_those_of_the_split_s_patients(uclm, fold):
    frames = {split: empty_frames(uclm, split, fold) for split in ("train", "val", "test")}
    assert sum(map(len, frames.values())) == len(uclm.normal) == len(empty_frames(uclm, "external", fold))
    patients = {split: {item["patient"] for item in (*uclm.split(split, fold), *frames[split])} for split in frames}
    assert not patients["train"] & (patients["val"] | patients["test"]) and not patients["val"] & patients["test"]
    assert empty_frames(uclm, "normal", fold) == []


def test_real_patients_with_their_normals(shared_data, tmp_path):
    root = find_root("BUS_UCLM", shared_data)
    write_manifest(build_document(read_release("BUS_UCLM", str(root)), Options(folds=2)), tmp_path / "BUS_UCLM.json")
    manifest = load_manifest(tmp_path / "BUS_UCLM.json")
    frames = in_sequences(manifest.items(), "patient")
    patients = {item["patient"] for item in frames}
    assert len(frames) == len(manifest.items()) > len(manifest.normal) > 0
    for patient in patients:
        of_patient = [item for item in frames if item["sequence"] == patient]
        assert [item["position"] for item in of_patient] == list(range(len(of_patient)))
        assert [item["id"] for item in of_patient] == sorted(
            item["id"] for item in of_patient
        )  # numbers of three digits
    mixed = [item for item in frames if item["sequence"] == "COPE"]
    assert len(mixed) == 19 and {item["lesion_pixels"] > 0 for item in mixed} == {True, False}


@pytest.mark.parametrize(
    ("dataset", "own", "share", "message"),
    [
        ("BUSI", {"sequence": "patient"}, 0, "sequence patient: BUSI tells no patients; use --sequence None"),
        ("BUSBRA", {"sequence": "volume"}, 0, "sequence volume: BUSBRA holds pictures, no slices"),
        (
            "BUS_UCLM",
            {"sequence": "patient", "normals": "none"},
            0.2,
            "normal_share 0.2 with sequence patient: normals are frames of their patients; use --normals in_sequence",
        ),
    ],
)
def test_what_is_refused(dataset, own, share, message):
    with pytest.raises(DataError, match=message):
        check_sequences(own, load_manifest(shipped_manifest(dataset)), share)


def test_what_passes(uclm):
    busi = load_manifest(shipped_manifest("BUSI"))
    check_sequences({}, busi, 0.2)
    check_sequences({"sequence": None, "normals": "in_sequence"}, busi, 0.2)
    check_sequences({"sequence": "patient", "normals": "none"}, uclm, 0)
    check_sequences({"sequence": "volume"}, replace(uclm, training=[{"depth": 3}], path=Path()), 0)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (FRAMES, 0, "frames: expected a whole number of at least 1 and at most 4096, found 0"),
        (WINDOW, 7, "window: expected a whole number of at least 0 and at most 6, found 7"),
        (SEQUENCE, "video", "sequence: expected one of patient, volume, found 'video'"),
        (NORMALS, "yes", "normals: expected one of none, in_sequence, found 'yes'"),
    ],
)
def test_values_that_keys_cannot_have(key, value, message):
    with pytest.raises(DataError, match=f"^{message}$"):
        key.read(value)


def test_a_spacing_is_checked_against_every_case(tmp_path):
    release = make_btcv(tmp_path / "BTCV")
    write_manifest(
        build_document(read_release("BTCV", release), Options(folds=3, test_fraction=0)), tmp_path / "m.json"
    )
    manifest = load_manifest(tmp_path / "m.json")  # 48 x 40 pixels of 1.5 x 1.2 mm: 72 x 48 mm
    for spacing, size in ((None, 64), (1.125, 64), (2, 36), (2, 64)):
        check_spacing({"spacing": spacing}, size, manifest)
    check_spacing({}, 64, None)
    with pytest.raises(
        DataError, match=r"is 72 mm wide, 36 pixels, and the network sees 35; use --spacing 2\.058 or more"
    ):
        check_spacing({"spacing": 2}, 35, manifest)
    check_spacing({"spacing": 2.058}, 35, manifest)


def test_pixels_of_unknown_size_have_no_spacing(uclm):
    with pytest.raises(
        DataError, match=r"spacing 1: BUS_UCLM does not tell the size of the pixels of .* use --spacing None"
    ):
        check_spacing({"spacing": 1.0}, 1024, uclm)
    with pytest.raises(DataError, match="pictures of --images do not tell"):
        check_spacing({"spacing": 1.0}, 64, None)
