"""Masks that `--mask` reads another way are written anew, and the manifest of them verifies."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_own import speckle, square, write
from PIL import Image

from ultrarefiner_monai.data.images import read_mask
from ultrarefiner_monai.data.integrity.verification import verify
from ultrarefiner_monai.data.manifests.build import build_document, write_manifest
from ultrarefiner_monai.data.manifests.splits import Options
from ultrarefiner_monai.data.releases.release import read_release
from ultrarefiner_monai.errors import DataError

WHITE = np.full_like(square(), 255)


def _alpha(mask: np.ndarray) -> Image.Image:
    return Image.merge("LA", [Image.fromarray(WHITE), Image.fromarray(mask)])


def _grey(mask: np.ndarray) -> np.ndarray:
    """As a mask looks that was resampled: grey edges."""
    return np.where(mask, mask - np.indices(mask.shape)[1].astype(np.uint8) % 2, 3).astype(np.uint8)


WAYS: dict[str, tuple[Callable[[np.ndarray], Image.Image | np.ndarray], str, str]] = {
    "alpha": (_alpha, "mask_meaning", "8 of 8 masks mean something else: lesion is in the alpha channel"),
    "inverted": (lambda mask: 255 - mask, "mask_meaning", "8 of 8 masks mean something else: lesion and background are"),
    "half": (_grey, "mask_values", "8 of 8 masks hold more than one value beside 0"),
    "nonzero": (lambda mask: mask // 255 * np.where(np.indices(mask.shape)[0] % 2, 1, 9).astype(np.uint8), "mask_values", ""),
}  # fmt: skip


def _data(root: Path, change: Callable[[np.ndarray], Image.Image | np.ndarray], folders: tuple[str, str]) -> Path:
    for number in range(8):
        image, mask = (f"{folder}/{number}.png" for folder in folders)
        write(root, {image: speckle(str(number)), mask: change(square(5 + number))})
    return root


@pytest.mark.parametrize(("name", "folders"), [("MYSET", ("images", "masks")), ("BUS", ("original", "GT"))])
@pytest.mark.parametrize("rule", WAYS)
def test_build_says_what_verify_will_and_the_rule_writes_what_is_meant(
    rule: str, name: str, folders: tuple[str, str], tmp_path: Path
) -> None:
    change, kind, told = WAYS[rule]
    root = _data(tmp_path / "data", change, folders)
    manifest = tmp_path / "m.json"
    document = build_document(read_release(name, root), Options(2))
    write_manifest(document, manifest)
    assert any(told in warning and f"--mask {rule}" in warning for warning in document["warnings"])
    assert {fault.kind for fault in verify(manifest, root).faults} == {kind}
    assert len(verify(manifest, root).faults) == 8

    document = build_document(read_release(name, root, mask=rule), Options(2))
    write_manifest(document, manifest)
    told = f"8 masks were made and lie in ultrarefiner_masks/{name} of the root; made_from names their sources"
    assert told in document["warnings"]
    assert not any("refuse" in warning for warning in document["warnings"])
    assert verify(manifest, root).faults == ()
    items = {item["id"]: item for key in ("training", "testing") for item in document[key]}
    for number in range(8):
        item = items[str(number)]
        assert item["made_from"] == [f"{folders[1]}/{number}.png"]
        assert (read_mask(root / item["label"]) == (square(5 + number) > 0)).all()


def test_several_masks_become_one(tmp_path: Path) -> None:
    write(tmp_path, {"images/a.png": speckle("a"), "masks/a_mask.png": 255 - square(4)})
    write(tmp_path, {"masks/a_mask_1.png": 255 - square(4)[::-1]})
    (record,) = read_release("MYSET", tmp_path, mask="inverted").records
    assert (record.source.masks, record.lesion_pixels) == (("ultrarefiner_masks/MYSET/a.png",), 32)


def test_a_combination_makes_each_in_its_own_root(tmp_path: Path) -> None:
    _data(tmp_path / "BUS", lambda mask: 255 - mask, ("original", "GT"))
    _data(tmp_path / "MYSET", lambda mask: 255 - mask, ("images", "masks"))
    for n in range(8):
        write(tmp_path, {f"MYSET/images/{n}.png": speckle(f"other {n}")})
    document = build_document(read_release("BUS+MYSET", tmp_path, mask="inverted"), Options(2))
    write_manifest(document, tmp_path / "m.json")
    assert {item["label"].split("/")[0] for item in document["training"]} == {"BUS", "MYSET"}
    assert verify(tmp_path / "m.json", tmp_path).faults == ()


def test_what_a_rule_cannot_read_is_told_with_its_image(tmp_path: Path) -> None:
    _data(tmp_path, _alpha, ("images", "masks"))
    write(tmp_path, {"masks/3.png": square()})
    with pytest.raises(DataError, match=r"1 images cannot be read .*3: .*masks/3\.png: no alpha channel"):
        read_release("MYSET", tmp_path, mask="alpha")
    document = build_document(read_release("MYSET", tmp_path, mask="alpha", skip_bad=True), Options(2))
    assert [entry["files"] for entry in document["excluded"]] == [["images/3.png", "masks/3.png"]]
    write_manifest(document, tmp_path / "m.json")
    assert verify(tmp_path / "m.json", tmp_path).faults == ()
    with pytest.raises(DataError, match="--mask negative: expected one of alpha, inverted, half, nonzero"):
        read_release("MYSET", tmp_path, mask="negative")


def test_an_extra_picture_beside_listed_ones_is_told_and_other_folders_are_not_looked_at(tmp_path: Path) -> None:
    _data(tmp_path, lambda mask: mask, ("images", "masks"))
    write(tmp_path, {"images/lonely.png": speckle("x"), "overlays/0.png": speckle("y")})
    document = build_document(read_release("MYSET", tmp_path), Options(2))
    assert document["excluded"] == [{"files": ["images/lonely.png"], "id": "lonely", "reason": "no mask file"}]
    assert any("1 other pictures are left alone: overlays/ (1)" in warning for warning in document["warnings"])
    write_manifest(document, tmp_path / "m/m.json")
    assert verify(tmp_path / "m/m.json", tmp_path).faults == ()
    write(tmp_path, {"masks/new.png": square()})
    assert [(f.kind, f.file) for f in verify(tmp_path / "m/m.json", tmp_path).faults] == [("extra", "masks/new.png")]


@pytest.mark.parametrize("name", [b"a\nb", b"\xff", b"a\\b"])
def test_names_that_no_manifest_can_hold_are_left_alone_and_told(name: bytes, tmp_path: Path) -> None:
    _data(tmp_path, lambda mask: mask, ("images", "masks"))
    for folder in ("images", "masks"):
        (tmp_path / folder / "0.png").rename(tmp_path / folder / f"{os.fsdecode(name)}.png")
    document = build_document(read_release("MYSET", tmp_path), Options(2))
    write_manifest(document, tmp_path / "m.json")
    assert len(document["training"]) + len(document["testing"]) == 7
    (warning,) = (warning for warning in document["warnings"] if "rename them" in warning)
    assert warning.startswith("2 pictures are left alone, rename them: path 'images/")


def test_unusual_names_travel_through_build_and_verify(tmp_path: Path) -> None:
    _data(tmp_path, lambda mask: mask, ("images", "masks"))
    for number, name in enumerate(("a b", "é", "x.y", "x$(id)", "'q' \"r\"", "#1", "x@a", "日本")):
        for folder in ("images", "masks"):
            (tmp_path / folder / f"{number}.png").rename(tmp_path / folder / f"{name}.PNG")
    document = build_document(read_release("MYSET", tmp_path), Options(2))
    write_manifest(document, tmp_path / "m.json")
    assert len(document["training"]) + len(document["testing"]) == 8
    assert verify(tmp_path / "m.json", tmp_path).faults == ()
    assert "é" in json.dumps(document, ensure_ascii=False)


def test_normal_images_need_no_mask(tmp_path: Path) -> None:
    _data(tmp_path, lambda mask: 255 - mask, ("images/benign", "masks/benign"))
    write(tmp_path, {f"images/normal/n{number}.png": speckle(f"n{number}") for number in range(3)})
    document = build_document(read_release("MYSET", tmp_path, mask="inverted"), Options(2))
    write_manifest(document, tmp_path / "m.json")
    assert document["classes"]["normal"] == {"normal": 3}
    assert "3 normal images have no mask: a blank one is made" in document["warnings"]
    assert verify(tmp_path / "m.json", tmp_path).faults == ()


def test_links_out_of_the_root_are_no_images(tmp_path: Path) -> None:
    root = _data(tmp_path / "data", lambda mask: mask, ("images", "masks"))
    (root / "images/0.png").rename(tmp_path / "0.png")
    (root / "images/0.png").symlink_to(tmp_path / "0.png")
    with pytest.raises(DataError, match=r"1 images cannot be read .*0: .*a link leads out of the dataset root"):
        read_release("MYSET", root)


def test_an_archive_has_no_place_for_masks(tmp_path: Path) -> None:
    root = _data(tmp_path / "data", lambda mask: 255 - mask, ("images", "masks"))
    archive = shutil.make_archive(str(tmp_path / "data"), "zip", root)
    assert len(read_release("MYSET", archive).records) == 8
    with pytest.raises(DataError, match="masks are to be written into its folder; unpack the archive"):
        read_release("MYSET", archive, mask="inverted")


def test_all_excluded_for_one_reason_says_so(tmp_path: Path) -> None:
    _data(tmp_path, lambda mask: mask[:-1], ("images", "masks"))
    release = read_release("MYSET", tmp_path)
    with pytest.raises(
        DataError, match="no usable images found, 8 of 8 are excluded for the same reason: 0: image is 40x30, mask"
    ):
        build_document(release, Options(2))


def test_published_splits_are_kept_on_request(tmp_path: Path) -> None:
    for number in range(12):
        split = ("train", "val", "test")[number % 3]
        blank = number in (3, 4)
        write(tmp_path, {f"{split}/images/{number}.png": speckle(str(number))})
        write(tmp_path, {f"{split}/masks/{number}.png": square(0 if blank else 5 + number)})
    document = build_document(read_release("MYSET", tmp_path), Options("official"))
    assert (document["num_folds"], document["split"]) == (2, "official")
    assert {item["id"].split("/")[0]: item["fold"] for item in document["training"]} == {"train": 1, "val": 0}
    assert {item["id"].split("/")[0] for item in document["testing"]} == {"test"}
    assert {item["id"]: item["fold"] for item in document["normal"]} == {"train/images/3": 1, "val/images/4": 0}


def test_a_published_test_set_alone_leaves_the_folds_to_us(tmp_path: Path) -> None:
    for number in range(15):
        split = "test" if number < 3 else "train"
        write(
            tmp_path, {f"images/{split}/{number}.png": speckle(str(number)), f"masks/{split}/{number}.png": square(5)}
        )
    document = build_document(read_release("MYSET", tmp_path), Options("official"))
    assert document["num_folds"] == 5 and len(document["training"]) == 12
    assert {item["id"] for item in document["testing"]} == {"test/0", "test/1", "test/2"}
