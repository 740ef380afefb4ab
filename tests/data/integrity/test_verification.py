"""Every planted fault is told, each once, and a clean release has none."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ultrarefiner_monai.data.faults import KINDS
from ultrarefiner_monai.data.images import read_grey, read_mask
from ultrarefiner_monai.data.integrity.report import Report
from ultrarefiner_monai.data.integrity.verification import item_faults, verify
from ultrarefiner_monai.data.manifests.build import build_document, write_manifest
from ultrarefiner_monai.data.manifests.items import SCHEMA
from ultrarefiner_monai.data.manifests.manifest import shipped_manifest
from ultrarefiner_monai.data.manifests.splits import Options
from ultrarefiner_monai.data.releases.release import read_release
from ultrarefiner_monai.errors import DataError

LISTS = ("training", "testing", "normal")


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _item(root: Path, name: str, prefix: str = "", **facts: Any) -> dict[str, Any]:
    image, mask = f"original/{name}.png", f"GT/{name}.png"
    item = {"id": prefix + name, "image": prefix + image, "label": prefix + mask, "class": "unknown"}
    item |= {"patient": prefix + name, "group": prefix + name, "width": 80, "height": 60}
    item |= {"sha256": _hash(root / image), "label_sha256": _hash(root / mask)}
    return {**item, "lesion_pixels": int(read_mask(root / mask).sum()), **facts}


def _document(name: str, training: list[dict[str, Any]], **lists: Any) -> dict[str, Any]:
    top = {"schema": SCHEMA, "name": name, "num_folds": 2, "seed": 42}
    return {**top, "training": training, "testing": [], "normal": [], "excluded": [], **lists}


@pytest.fixture
def document(bus_release: Path) -> dict[str, Any]:
    """Manifest of the twelve made pictures, of which the last is excluded."""
    items = [_item(bus_release, f"{number:06}", fold=number % 2) for number in range(1, 12)]
    return _document("BUS", items, excluded=[{"id": "000012", "reason": "planted"}])


@pytest.fixture
def check(document: dict[str, Any], bus_release: Path, tmp_path: Path) -> Callable[..., list[tuple[str, str]]]:
    """Verify the release against the manifest as it is by then: kind and line of each fault."""

    def run(**options: Any) -> list[tuple[str, str]]:
        return [(fault.kind, str(fault)) for fault in _verify(document, bus_release, tmp_path, **options).faults]

    return run


def _verify(document: dict[str, Any], root: Path, folder: Path, **options: Any) -> Report:
    (folder / "manifest.json").write_text(json.dumps(document), encoding="utf-8")
    report = verify(folder / "manifest.json", root, **options)
    assert {fault.kind for fault in report.faults} <= set(KINDS)
    return report


def _edit(path: Path, values: np.ndarray) -> None:
    Image.fromarray(values.astype(np.uint8)).save(path)


def test_a_turned_image_has_the_size_that_is_displayed(bus_release: Path, tmp_path: Path) -> None:
    """Built and verified alike; the mask has no tag, and what was drawn on the image as displayed fits."""
    exif = Image.Exif()
    exif[0x0112] = 6
    path = bus_release / "original/000001.png"
    upright = Image.open(path).copy()
    upright.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    document = build_document(read_release("BUS", bus_release), Options(folds=2))
    assert (document["excluded"], document["warnings"][-1:]) == (
        [],
        ["turned as their EXIF orientation says, 1 images: 000001"],
    )
    (item,) = (item for item in document["training"] + document["testing"] if item["id"] == "000001")
    assert (item["width"], item["height"], "image_size" in item) == (80, 60, False)
    np.testing.assert_array_equal(read_grey(path), np.asarray(upright.convert("L"), np.float32) / 255)
    assert _verify(document, bus_release, tmp_path).faults == ()
    Image.open(path).save(path)  # without the tag
    (fault,) = (f for f in _verify(document, bus_release, tmp_path).faults if f.kind == "size")
    assert "size: expected 80x60, found 60x80" in str(fault)


def test_a_clean_release_has_no_fault(document: dict[str, Any], bus_release: Path, tmp_path: Path) -> None:
    report = _verify(document, bus_release, tmp_path)
    assert report.faults == ()
    assert (report.name, report.items, report.present, report.absent) == ("BUS", 11, 11, {})
    assert report.sha256 == _hash(tmp_path / "manifest.json")
    assert _verify(document, bus_release.parent, tmp_path).faults == ()


def test_missing_files_are_faults_unless_allowed(document: dict[str, Any], bus_release: Path, tmp_path: Path) -> None:
    (bus_release / "original/000001.png").unlink()
    (bus_release / "GT/000002.png").unlink()
    (bus_release / "GT/000002.png").mkdir()
    report = _verify(document, bus_release, tmp_path)
    assert [str(fault) for fault in report.faults] == [
        "000001: original/000001.png: missing",
        "000002: GT/000002.png: missing",
    ]
    allowed = _verify(document, bus_release, tmp_path, allow_missing=True)
    assert allowed.faults == ()
    for told in (report, allowed):
        assert (told.items, told.present, told.absent) == (11, 9, {"fold 0": 1, "fold 1": 1})


def test_extra_files_are_faults(check: Callable[..., list[tuple[str, str]]], bus_release: Path) -> None:
    for name in ("original/000099.png", "GT/000012_old.png", "figure.jpg", "original/._000001.png"):
        shutil.copy(bus_release / "original/000001.png", bus_release / name)
    (bus_release / "readme.txt").touch()
    assert check() == [
        ("extra", "GT/000012_old.png: extra, the manifest does not list it"),
        ("extra", "figure.jpg: extra, the manifest does not list it"),
        ("extra", "original/000099.png: extra, the manifest does not list it"),
    ]


def test_files_of_malformed_entries_are_not_extra(
    document: dict[str, Any], bus_release: Path, check: Callable[..., list[tuple[str, str]]]
) -> None:
    del document["training"][3]["width"]
    assert check() == [("structure", "training[3]: key 'width': expected a whole number above 0")]
    document["training"][4]["image"] = "./original//000005.png"
    assert len(check()) == 1


def test_exclusions_that_cannot_be_told(tmp_path: Path) -> None:
    root = tmp_path / "BUSBRA"
    for folder in ("Images", "Masks"):
        (root / folder).mkdir(parents=True)
    (root / "bus_data.csv").write_text("ID,Case,Pathology\n")
    Image.new("L", (3, 2)).save(root / "Images/bus_1.png")
    (fault, extra) = _verify(_document("BUSBRA", [], excluded=[{"id": "x", "reason": ""}]), root, tmp_path).faults
    assert (fault.kind, extra.kind) == ("structure", "extra")
    assert fault.message.startswith("files of excluded images cannot be told: bus_data.csv: no row for bus_1")


@pytest.mark.parametrize("name", ["original/000003.png", "GT/000003.png"])
def test_changed_bytes(name: str, check: Callable[..., list[tuple[str, str]]], bus_release: Path) -> None:
    with (bus_release / name).open("ab") as file:
        file.write(b"\0")
    assert check() == [("hash", f"000003: {name}: sha256 differs from the manifest's, the file was changed")]


@pytest.mark.parametrize(
    ("content", "kind", "told"),
    [
        (lambda whole: b"", "empty", "empty (0 bytes)"),
        (lambda whole: b"no picture", "unreadable", "cannot be read as an image (of no known format"),
        (lambda whole: whole[:-12], "truncated", "truncated after"),
        (lambda whole: whole[:45] + bytes(4) + whole[49:], "unreadable", "cannot be read as an image"),
    ],
)
@pytest.mark.parametrize("name", ["original/000005.png", "GT/000005.png"])
def test_broken_files_are_one_fault(
    name: str,
    content: Callable[[bytes], bytes],
    kind: str,
    told: str,
    check: Callable[..., list[tuple[str, str]]],
    bus_release: Path,
) -> None:
    (bus_release / name).write_bytes(content((bus_release / name).read_bytes()))
    ((found, line),) = check()
    assert (found, line.startswith(f"000005: {name}: {told}")) == (kind, True)


def test_sizes(check: Callable[..., list[tuple[str, str]]], bus_release: Path) -> None:
    Image.new("L", (79, 60)).save(bus_release / "original/000006.png")
    (fault,) = check()
    line = "000006: original/000006.png: size: expected 80x60, found 79x60; sha256 differs from the manifest's"
    assert fault == ("size", line)


def test_a_mask_one_pixel_smaller_than_its_image(
    check: Callable[..., list[tuple[str, str]]], bus_release: Path
) -> None:
    path = bus_release / "GT/000006.png"
    _edit(path, np.asarray(Image.open(path))[:, 1:])
    ((kind, line),) = check()
    assert kind == "mask_size"
    assert line.startswith("000006: GT/000006.png: size: expected 80x60, found 79x60")


def test_an_image_and_its_mask_of_another_size_together(
    check: Callable[..., list[tuple[str, str]]], bus_release: Path
) -> None:
    for folder in ("original", "GT"):
        path = bus_release / folder / "000006.png"
        _edit(path, np.asarray(Image.open(path))[1:])
    assert [kind for kind, _ in check()] == ["size", "size"]


def test_images_that_are_stretched_onto_their_masks(
    document: dict[str, Any], bus_release: Path, check: Callable[..., list[tuple[str, str]]]
) -> None:
    path = bus_release / "original/000001.png"
    _edit(path, np.asarray(Image.open(path))[:50, :70])
    document["training"][0] |= {"sha256": _hash(path), "image_size": [70, 50]}
    assert check() == []


def test_a_mask_shifted_by_one_pixel_is_told_by_its_hash(
    check: Callable[..., list[tuple[str, str]]], bus_release: Path
) -> None:
    path = bus_release / "GT/000006.png"
    _edit(path, np.roll(np.asarray(Image.open(path)), 1, axis=1))
    assert check() == [("hash", "000006: GT/000006.png: sha256 differs from the manifest's, the file was changed")]


def _two_greys(values: np.ndarray) -> np.ndarray:
    values[values > 0] = 254
    values[12, 22] = 255
    return values


def _two_colours(values: np.ndarray) -> np.ndarray:
    colours = np.zeros((*values.shape, 3))
    colours[10:20, 10:20, 0] = colours[30:40, 10:20, 1] = 255
    return colours


def _ramp(values: np.ndarray) -> np.ndarray:
    values[10, 20:26] = range(1, 7)
    return values


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_two_greys, "2: 254, 255"),
        (_two_colours, "2: (0, 255, 0), (255, 0, 0)"),
        (_ramp, "7: 1, 2, 3, 4 and 3 more"),
    ],
)
def test_mask_values(
    change: Callable[[np.ndarray], np.ndarray],
    told: str,
    document: dict[str, Any],
    bus_release: Path,
    check: Callable[..., list[tuple[str, str]]],
) -> None:
    path = bus_release / "GT/000006.png"
    _edit(path, change(np.asarray(Image.open(path)).copy()))
    line = f"000006: GT/000006.png: mask values: expected one beside 0, found {told}"
    assert check() == [("mask_values", f"{line}; sha256 differs from the manifest's")]
    document["training"][5]["label_sha256"] = _hash(path)
    assert check() == [("mask_values", line)]  # wrong even where the manifest was built from it


def test_masks_saved_as_jpeg(
    document: dict[str, Any], bus_release: Path, check: Callable[..., list[tuple[str, str]]]
) -> None:
    mask = Image.open(bus_release / "GT/000006.png")
    mask.save(bus_release / "GT/000006.jpg")
    (bus_release / "GT/000006.png").unlink()
    document["training"][5] |= {"label": "GT/000006.jpg", "label_sha256": _hash(bus_release / "GT/000006.jpg")}
    assert [kind for kind, _ in check()] == ["mask_values"]


@pytest.mark.parametrize(("mode", "colour"), [("L", 1), ("RGB", (0, 255, 0)), ("RGBA", (255, 0, 0, 255)), ("1", 1)])
def test_masks_of_one_value_are_sound(
    mode: str, colour: Any, document: dict[str, Any], bus_release: Path, check: Callable[..., list[tuple[str, str]]]
) -> None:
    path = bus_release / "GT/000006.png"
    mask = Image.new(mode, (80, 60))
    mask.paste(colour, (10, 10, 20, 20))
    mask.save(path)
    document["training"][5] |= {"label_sha256": _hash(path), "lesion_pixels": 100}
    assert check() == []


def test_blank_masks(document: dict[str, Any], bus_release: Path, check: Callable[..., list[tuple[str, str]]]) -> None:
    path = bus_release / "GT/000002.png"
    _edit(path, np.zeros((60, 80)))
    line = "000002: GT/000002.png: mask is blank: expected 49 lesion pixels"
    assert check() == [("blank", f"{line}; sha256 differs from the manifest's")]
    for key in ("label_sha256", "lesion_pixels"):
        del document["training"][1][key]
    assert check() == [("blank", line.replace("49 ", ""))]
    document["normal"] = [document["training"].pop(1) | {"class": "normal"}]
    assert check() == []


def test_another_number_of_lesion_pixels(
    document: dict[str, Any], bus_release: Path, check: Callable[..., list[tuple[str, str]]]
) -> None:
    document["training"][2]["lesion_pixels"] = 0
    assert check() == [("lesion", "000003: GT/000003.png: lesion pixels: expected 0, found 64")]
    document["training"][2]["lesion_pixels"] = 64
    _edit(bus_release / "GT/000003.png", np.eye(60, 80) * 255)
    told = "sha256 differs from the manifest's, the file was changed; lesion pixels: expected 64, found 60"
    assert check() == [("hash", f"000003: GT/000003.png: {told}")]


def test_several_masks_are_one_lesion(
    document: dict[str, Any], bus_release: Path, check: Callable[..., list[tuple[str, str]]]
) -> None:
    path = bus_release / "GT/000001_1.png"
    values = np.zeros((60, 80))
    values[14:30, 24:40] = 255
    _edit(path, values)
    item = document["training"][0]
    item |= {"label": ["GT/000001.png", "GT/000001_1.png"], "label_sha256": [item["label_sha256"], _hash(path)]}
    item["lesion_pixels"] = 36 + 256 - 4
    assert check() == []
    _edit(path, np.zeros((60, 80)))
    ((kind, line),) = check()
    assert kind == "blank"
    assert line.startswith("000001: GT/000001_1.png: mask is blank: expected 288 lesion pixels")
    _edit(path, np.roll(values, 20, axis=1))
    ((kind, line),) = check()
    assert (
        kind,
        line.endswith(
            "000001_1.png: sha256 differs from the manifest's, the file was changed; lesion pixels: expected 288, found 292"
        ),
    ) == ("hash", True)


def test_ways_out_of_the_root(
    document: dict[str, Any], bus_release: Path, tmp_path: Path, check: Callable[..., list[tuple[str, str]]]
) -> None:
    path = bus_release / "original/000008.png"
    shutil.move(path, tmp_path / "outside.png")
    path.symlink_to(tmp_path / "outside.png")
    shutil.move(bus_release / "GT/000009.png", tmp_path / "mask.png")
    document["training"][8]["label"] = "../mask.png"
    assert check() == [
        ("unsafe_path", "000009: path '../mask.png' leaves the dataset root"),
        (
            "unsafe_path",
            "000008: original/000008.png: a link leads out of the dataset root; copy the file into the root",
        ),
    ]


def test_combined_releases(bus_release: Path, tmp_path: Path) -> None:
    shutil.copytree(bus_release, tmp_path / "UDIAT")
    roots = {"BUS": bus_release, "UDIAT": tmp_path / "UDIAT"}
    names = [f"{number:06}" for number in range(1, 12)]
    items = [_item(root, name, f"{part}/", fold=0) for part, root in roots.items() for name in names]
    document = _document("BUS+UDIAT", items, excluded=[{"id": "UDIAT/000012", "reason": "planted"}])
    assert [str(fault) for fault in _verify(document, tmp_path, tmp_path).faults] == [
        "BUS/GT/000012.png: extra, the manifest does not list it",
        "BUS/original/000012.png: extra, the manifest does not list it",
    ]
    document["excluded"].append({"id": "BUS/000012", "reason": "planted"})
    (tmp_path / "UDIAT/GT/000001.png").write_bytes(b"")
    (fault,) = _verify(document, tmp_path, tmp_path).faults
    assert (fault.kind, fault.id, fault.file) == ("empty", "UDIAT/000001", "UDIAT/GT/000001.png")


def test_a_manifest_beyond_repair_is_reported_without_a_release(tmp_path: Path) -> None:
    report = _verify({"schema": SCHEMA}, tmp_path / "nowhere", tmp_path)
    assert {fault.kind for fault in report.faults} == {"structure"}
    assert report.summary() == f"manifest: 0 of 0 items present, {len(report.faults)} faults"


def test_what_cannot_be_verified_is_one_error(document: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="looked for original"):
        _verify(document, tmp_path / "empty", tmp_path)
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(DataError, match="not valid JSON"):
        verify(tmp_path / "broken.json", tmp_path)


def test_items_are_checked_one_by_one(document: dict[str, Any], bus_release: Path) -> None:
    (bus_release / "original/000001.png").unlink()
    assert [(fault.kind, fault.id) for fault in item_faults(document["training"][0], bus_release)] == [
        ("missing", "000001")
    ]
    assert item_faults(document["training"][1], bus_release) == []


@pytest.mark.parametrize(
    ("name", "folder", "items"), [("BUSI", "BUSI", 145), ("BUSBRA", "BUS-BRA", 752), ("BUS_UCLM", "BUS-UCLM", 91)]
)
def test_real_samples_are_sound(name: str, folder: str, items: int, shared_data: Path) -> None:
    report = verify(shipped_manifest(name), shared_data / folder, allow_missing=True)
    assert report.faults == ()
    assert report.present == items


class Damage:
    """Faults planted in a copy of BUSI's sample and in its manifest, and what is to be told about each."""

    def __init__(self, root: Path, document: dict[str, Any]) -> None:
        self.root, self.document = root, document
        self.expected: set[tuple[str, str, str]] = set()
        lesions = [item for item in document["training"] if isinstance(item["label"], str)]
        alone = [item for item in lesions if sum(other["group"] == item["group"] for other in self.items()) == 1]
        self.untouched = iter(alone)

    def items(self) -> list[dict[str, Any]]:
        return [item for key in LISTS for item in self.document[key]]

    def plant(self, kind: str, key: str, change: Callable[[Path], object]) -> None:
        """Change the image or the mask (`key`) of the next untouched item."""
        item = next(self.untouched)
        change(self.root / item[key])
        self.expected.add((kind, item["id"], item[key]))

    def plant_entry(self, kind: str, change: Callable[[dict[str, Any]], object], named: bool = True) -> None:
        """Change the entry of the next untouched item."""
        item = next(self.untouched)
        change(item)
        self.expected.add((kind, item["id"] if named else "", ""))


def _crop(path: Path) -> None:
    _edit(path, np.asarray(Image.open(path).convert("L"))[:-1])


def _grey(path: Path) -> None:
    values = np.asarray(Image.open(path).convert("L")).copy()
    values[np.cumsum(values > 0).reshape(values.shape) % 2 == 1] -= values.max() // 255
    _edit(path, values)


@pytest.fixture
def damage(shared_data: Path, tmp_path: Path) -> Damage:
    root = tmp_path / "sample/Dataset_BUSI_with_GT"
    shutil.copytree(shared_data / "BUSI/Dataset_BUSI_with_GT", root, copy_function=shutil.copyfile)
    document = json.loads(shipped_manifest("BUSI").read_text(encoding="utf-8"))
    for key in LISTS:
        document[key] = [item for item in document[key] if (root / item["image"]).is_file()]
    return Damage(root, document)


def test_all_damage_to_a_real_sample_is_told_at_once_and_nothing_else(damage: Damage, tmp_path: Path) -> None:
    root, document = damage.root, damage.document
    assert _verify(document, root, tmp_path).faults == ()

    damage.plant("missing", "label", Path.unlink)
    damage.plant("hash", "image", lambda path: path.write_bytes(path.read_bytes() + b"\0"))
    damage.plant("size", "image", _crop)
    damage.plant("unreadable", "image", lambda path: path.write_bytes(b"no picture"))
    damage.plant("truncated", "label", lambda path: path.write_bytes(path.read_bytes()[:-8]))
    damage.plant("empty", "image", lambda path: path.write_bytes(b""))
    damage.plant("mask_size", "label", _crop)
    damage.plant("mask_values", "label", _grey)
    damage.plant("blank", "label", lambda path: _edit(path, np.asarray(Image.open(path).convert("L")) * 0))
    damage.plant("mask_meaning", "label", lambda path: _edit(path, 255 - np.asarray(Image.open(path).convert("L"))))
    damage.plant("unsafe_path", "image", lambda path: path.symlink_to(path.rename(tmp_path / "linked.png")))
    damage.plant_entry("duplicate_id", lambda item: document["training"].append(dict(item)))
    fold = document["training"][0]["fold"]
    elsewhere = next(item for item in document["training"] if item["fold"] != fold)

    shutil.copy(root / "benign/benign (4).png", root / "benign/benign (999).png")
    damage.expected.add(("extra", "", "benign/benign (999).png"))
    item = next(item for item in damage.untouched if item["fold"] != elsewhere["fold"])
    item["group"] = elsewhere["group"]
    damage.expected.add(("group", "", ""))
    item = next(damage.untouched)
    (root / item["label"]).unlink()
    item["label"] = "../mask.png"
    damage.expected.add(("unsafe_path", item["id"], ""))
    del next(damage.untouched)["class"]
    damage.expected.add(("structure", "", ""))

    report = _verify(document, root, tmp_path)
    assert {(fault.kind, fault.id, fault.file) for fault in report.faults} == damage.expected
    assert len(report.faults) == len(damage.expected) == 16
    assert report.summary() == "BUSI: 144 of 146 items present, 16 faults"
    assert str(tmp_path) not in json.dumps(report.document()) + report.table()
    assert _verify(document, root, tmp_path, workers=1) == _verify(document, root, tmp_path, workers=2) == report


def test_folders_that_repeat_pictures_are_no_extra_files(tmp_path: Path) -> None:
    """BUS-UC is seen with its class folders and with all of their pictures once more beside them."""
    for number, folder in enumerate(("Benign", "Malignant")):
        for name in range(4):
            _draw(tmp_path / folder, f"{name:03}.png", 10 * number + name)
    shutil.copytree(tmp_path / "Benign", tmp_path / "All")
    release = read_release("BUS_UC", tmp_path)
    write_manifest(build_document(release, Options(folds=2)), tmp_path / "m/BUS_UC.json")
    assert verify(tmp_path / "m/BUS_UC.json", tmp_path).faults == ()
    _draw(tmp_path / "Benign", "extra.png", 99)
    assert [fault.file for fault in verify(tmp_path / "m/BUS_UC.json", tmp_path).faults] == [
        "Benign/images/extra.png",
        "Benign/masks/extra.png",
    ]


def _draw(folder: Path, name: str, seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (40, 50), dtype=np.uint8)
    for part, pixels in (("images", noise), ("masks", np.tri(40, 50, -1 - seed % 7, dtype=np.uint8) * 255)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / part / name)
