"""Paths in files lead to files below their root, or are refused: by every reader, all of a file in one error."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ultrarefiner_monai.data.manifests.items import SCHEMA
from ultrarefiner_monai.data.manifests.manifest import available, load_manifest
from ultrarefiner_monai.data.predictions.index import INDEX_NAME, PredictionIndex
from ultrarefiner_monai.data.predictions.maps import write_map
from ultrarefiner_monai.data.predictions.mean import mean_of_maps
from ultrarefiner_monai.data.predictions.pairing import pair_predictions
from ultrarefiner_monai.data.releases.image_facts import measure
from ultrarefiner_monai.data.releases.inventory import COLUMNS, read_inventory
from ultrarefiner_monai.data.releases.own import OwnOptions, scan
from ultrarefiner_monai.data.releases.readers import busbra, phantom
from ultrarefiner_monai.data.releases.records import Source
from ultrarefiner_monai.data.releases.roots import LONGEST, resolve, unsafe, within
from ultrarefiner_monai.deploy.monailabel.request import is_plain
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.transforms import LoadMaskd

pytestmark = pytest.mark.fault(9)
UNSAFE = {
    "../secret.png": "leaves",
    "a/../../secret.png": "leaves",
    "/etc/passwd": "absolute",
    "//server/share.png": "absolute",
    "C:/secret.png": "absolute",
    "C:secret.png": "absolute",
    "a\\secret.png": "backslash",
    "\\\\server\\share.png": "backslash",
    "a\0.png": "NUL",
    "a.png\n/etc/passwd": "control",
    "a\x1b[31m.png": "control",
    "a\x7f.png": "control",
    "a\ud800.png": "UTF-8",
    "a" * (LONGEST + 1): "more than",
    ".": "no file",
    "./": "no file",
    "": "not text",
}


def refused(read, match):
    with pytest.raises(DataError, match=match) as caught:
        read()
    assert str(caught.value).isprintable()
    return caught.value


@pytest.fixture
def root(tmp_path):
    """A data set beside a file that it must not lead to, with links to that and to the folder above."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("secret.png", "data/a.png", "data/a_mask.png"):
        Image.new("L", (8, 8), 255).save(tmp_path / name)
    (folder / "out.png").symlink_to(tmp_path / "secret.png")
    (folder / "away").symlink_to(tmp_path)
    (folder / "circle.png").symlink_to("circle.png")
    return folder


@pytest.mark.parametrize("path", UNSAFE)
def test_a_path(path, tmp_path):
    assert UNSAFE[path] in unsafe(path)
    refused(lambda: resolve(tmp_path, path), "expected a path below")


@pytest.mark.parametrize("path", ["out.png", "away/secret.png", "away/data/../secret.png", "circle.png"])
def test_a_link(path, root):
    refused(lambda: resolve(root, path), "link leads out|cannot be followed|leaves")


def test_links_within_and_linked_roots_are_fine(root, tmp_path):
    (root / "in.png").symlink_to("a.png")
    (tmp_path / "linked").symlink_to(root)
    assert resolve(tmp_path / "linked", "in.png").is_file() and within(root, root / "in.png").is_file()


def manifest(folder: Path, items, **facts) -> Path:
    (folder / "m.json").write_text(
        json.dumps(
            {"schema": SCHEMA, "name": "BUS", "num_folds": 2, "seed": 1, "testing": [], "normal": []}
            | {"training": items, "excluded": []}
            | facts
        )
    )
    return folder / "m.json"


def item(name, image, label="m.png", fold=0):
    facts = {"class": "benign", "patient": name, "group": name, "width": 8, "height": 8, "sha256": "0" * 64}
    return {"id": name, "image": image, "label": label, "fold": fold} | facts


def test_a_manifest_tells_all_in_one_error(tmp_path):
    paths = [path for path in UNSAFE if "\ud800" not in path]  # which no JSON file holds
    items = [item(f"bad {number}", path) for number, path in enumerate(paths)]
    items += [item("mask", "z.png", ["m.png", "/z.png"]), item("twice", "1.png"), item("twice", "2.png")]
    error = refused(lambda: load_manifest(manifest(tmp_path, items)), "bad 0: path '../secret.png' leaves")
    assert len([problem for problem in error.problems if problem.startswith("bad ")]) == len(paths)
    assert any(problem.startswith("mask: path '/z.png' is absolute") for problem in error.problems)
    assert "twice: id occurs 2 times" in error.problems and len(error.problems) == len(paths) + 2


def test_a_manifests_links(root, tmp_path):
    found = load_manifest(manifest(tmp_path, [item("a", "a.png", "out.png")]))
    refused(lambda: available(found, root), "link leads out")


def test_masks_below_a_root_with_a_line_in_its_name(tmp_path):
    """The paths of several masks travel as one text: a root's own name must not cut it."""
    odd = tmp_path / "a\nb"
    odd.mkdir()
    for name, box in (("1.png", (0, 0, 2, 2)), ("2.png", (4, 4, 6, 6))):
        mask = Image.new("L", (8, 8))
        mask.paste(255, box)
        mask.save(odd / name)
    paths = "\0".join(str(resolve(odd, name)) for name in ("1.png", "2.png"))
    assert LoadMaskd(keys="label")({"label": paths})["label"].sum() == 8


@pytest.mark.parametrize("path", [*UNSAFE, "out.png", "away/secret.png"])
def test_sources_of_readers(path, root):
    for source in (Source("a", path, ("a.png",), "benign"), Source("a", "a.png", (path,), "benign")):
        records, bad = measure([source], root)
        assert (not records and "path" in bad["a"]) or "link" in bad["a"]


@pytest.mark.parametrize("path", [path for path in UNSAFE if not set(path) & set("\n\ud800\0") and path])
def test_inventories(path, tmp_path):
    row = ["BUS", "original/1.png", "GT/1.png", "8", "8", "8x8", "9", "0" * 64, "1" * 64, "2" * 64, "benign", "", ""]
    for place in (1, 2):
        changed = [*row[:place], path, *row[place + 1 :]]
        (tmp_path / "i.csv").write_text(f"{','.join(COLUMNS)}\n{','.join(changed)}\n", newline="")
        refused(lambda: read_inventory("BUS", tmp_path / "i.csv"), "line 2: .*path")


def test_cocos_file_names_are_told_together(root):
    images = [
        {"id": number, "file_name": path}
        for number, path in enumerate([*UNSAFE, None, 3, ["a.png"]])
        if "\ud800" not in str(path)
    ]
    (root / "c.json").write_text(json.dumps({"images": images, "annotations": []}))
    (root / "a_mask.png").unlink()
    error = refused(lambda: scan("mine", root, OwnOptions()), "c.json: file_name")
    assert len(error.problems) == len(images)


@pytest.mark.parametrize(
    ("listing", "pictures"),
    [
        ("c.json", ()),
        ("dataset.json", ("imagesTr/b_0000.png", "labelsTr/b.png")),
        ("MainPatient/class.json", ("S/img/b.png", "S/label/b.png")),
        ("MainPatient/train.txt", ("S/img/b.png", "S/label/b.png")),
    ],
)
def test_linked_listings_of_ones_own(listing, pictures, root, tmp_path):
    content = {"images": [], "annotations": [], "labels": {}, "file_ending": ".png", "S": 2}
    (tmp_path / "secret.json").write_text(json.dumps(content))
    (root / "a_mask.png").unlink()
    for picture in (root / name for name in pictures):
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(picture)
    (root / listing).parent.mkdir(exist_ok=True)
    if listing.endswith(".txt"):
        (root / "MainPatient/class.json").write_text('{"S": 2}')
    (root / listing).symlink_to(tmp_path / "secret.json")
    refused(lambda: scan("mine", root, OwnOptions()), "a link leads out")


def test_linked_tables_of_releases(root, tmp_path):
    (tmp_path / "secret.csv").write_text("image,mask,patient,class\n")
    for reader, name in ((phantom, "cases.csv"), (busbra, "bus_data.csv")):
        (root / "Images").mkdir(exist_ok=True)
        (root / "Masks").mkdir(exist_ok=True)
        (root / name).symlink_to(tmp_path / "secret.csv")
        refused(lambda: reader.scan(root), "a link leads out")  # noqa: B023 - called at once


def predictions(folder: Path, fold: int, file: str = "a.nii.gz") -> Path:
    index = PredictionIndex("BUS", "phase1", fold, "val", "0" * 64, "1" * 64)
    index.add(item("a", "a.png"))
    index.items[0]["file"] = file
    folder.mkdir(exist_ok=True)
    index.write(folder)
    return folder


@pytest.mark.parametrize("path", UNSAFE)
def test_predictions(path, tmp_path):
    refused(lambda: PredictionIndex.load(predictions(tmp_path / "p", 0, path)), INDEX_NAME)


def test_linked_predictions(tmp_path):
    write_map(tmp_path / "secret.nii.gz", np.zeros((8, 8)))
    folders = [predictions(tmp_path / f"fold{fold}", fold) for fold in (0, 1)]
    for folder in folders:
        (folder / "a.nii.gz").symlink_to(tmp_path / "secret.nii.gz")
    refused(lambda: mean_of_maps(folders, tmp_path / "mean"), "a link leads out")
    found = load_manifest(manifest(tmp_path, [item("a", "a.png")]))
    refused(lambda: pair_predictions(found.training, folders[:1], found), r"1 \(a\)")


@pytest.mark.parametrize("name", [*UNSAFE, "..", ".hidden", "a/b"])
def test_names_of_clients(name):
    assert not is_plain(name)
