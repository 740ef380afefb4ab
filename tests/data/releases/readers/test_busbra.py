"""BUS-BRA as it really is: one-bit masks, wrong sizes in the table, stray pixels, published folds."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from made_releases import make_one, touch
from PIL import Image
from scipy.ndimage import label

from ultrarefiner_monai.data.images import read_mask
from ultrarefiner_monai.data.manifests.build import build_document
from ultrarefiner_monai.data.manifests.splits import Options
from ultrarefiner_monai.data.releases.image_facts import measure
from ultrarefiner_monai.data.releases.readers.busbra import scan
from ultrarefiner_monai.data.releases.records import Source
from ultrarefiner_monai.data.releases.release import usable
from ultrarefiner_monai.errors import DataError

NAME = "BUSBRA"
WRONG_IN_TABLE = ("bus_0856-l", "bus_0857-r", "bus_0912-l", "bus_0990-l")


def _table(path: Path) -> dict[str, dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return {row["ID"]: row for row in csv.DictReader(file)}


def test_the_sample_is_complete(sources: dict[str, Source]) -> None:
    assert len(sources) == 752
    assert len({source.patient for source in sources.values()}) == 429
    assert all(len(source.masks) == 1 for source in sources.values())
    first = sources["bus_0001-l"]
    assert (first.masks, first.label, first.patient) == (("Masks/mask_0001-l.png",), "malignant", "1")


def test_one_bit_masks_keep_their_lesions(sample: Path, sources: dict[str, Source]) -> None:
    chosen = list(sources.values())[::50]
    assert {Image.open(sample / source.masks[0]).mode for source in chosen} == {"1"}
    records, _ = measure(chosen, sample)
    assert all(0 < record.lesion_pixels < 0.6 * np.prod(record.size) for record in records)


def test_sizes_are_the_files_not_the_tables(sample: Path, sources: dict[str, Source]) -> None:
    rows = _table(sample / "bus_data.csv")
    records, _ = measure([sources[name] for name in WRONG_IN_TABLE], sample)
    for record in records:
        row = rows[record.source.id]
        assert record.size == Image.open(sample / record.source.image).size
        assert record.size != (int(row["Width"]), int(row["Height"]))
        assert record.mask_sizes == (record.size,)


def test_boxes_of_the_table_are_one_based_and_belong_to_the_masks(sample: Path, sources: dict[str, Source]) -> None:
    rows = _table(sample / "bus_data.csv")
    for id in list(sources)[::75]:
        ys, xs = np.nonzero(read_mask(sample / sources[id].masks[0]))
        x, y, width, height = (int(value) for value in rows[id]["BBOX"].strip("[]").split(","))
        assert (x, y, width, height) == (xs.min() + 1, ys.min() + 1, xs.max() - xs.min(), ys.max() - ys.min())


def test_stray_pixels_belong_to_the_lesion(sample: Path, sources: dict[str, Source]) -> None:
    mask = np.asarray(Image.open(sample / sources["bus_1046-l"].masks[0]))
    components, _ = label(mask)
    assert np.bincount(components.ravel())[1:].tolist() == [3128, 1]
    (record,), _ = measure([sources["bus_1046-l"]], sample)
    assert record.lesion_pixels == 3129


def test_published_folds(sample: Path, sources: dict[str, Source]) -> None:
    rows = _table(sample / "5-fold-cv.csv")
    assert {rows[id][f"valid_{source.official}"] for id, source in sources.items()} == {"NaN"}
    chosen = list(sources.values())[::15]
    records, _ = measure(chosen, sample)
    document = build_document(usable("BUSBRA", records), Options("official", 42, 0.2))
    assert {item["id"]: str(item["fold"] + 1) for item in document["training"]} == {s.id: s.official for s in chosen}
    assert document["testing"] == []


def test_the_published_folds_keep_patients_together_and_the_inner_flags_do_not(sample: Path) -> None:
    cases, folds = _table(sample / "bus_data.csv"), _table(sample / "5-fold-cv.csv")
    assert len(folds) == 1875
    of_fold: dict[str, set[str]] = {}
    of_flag: dict[str, set[str]] = {}
    for id, row in folds.items():
        of_fold.setdefault(cases[id]["Case"], set()).add(row["kFold"])
        of_flag.setdefault(cases[id]["Case"], set()).add(row["valid_1"])
    assert max(map(len, of_fold.values())) == 1
    assert sum(len(flags) > 1 for flags in of_flag.values()) > 100


FOLDS = "ID,Pathology,kFold,valid_1\nbus_0001-l,benign,{},NaN\n"


def test_without_published_folds(tmp_path: Path) -> None:
    root = make_one("BUSBRA", tmp_path)
    assert scan(root)[0].official == ""
    (root / "5-fold-cv.csv").write_text(FOLDS.format(4))
    assert scan(root)[0].official == "4"


@pytest.mark.parametrize(
    ("table", "match"),
    [
        (FOLDS.format("NaN"), "row 2: kFold: expected 1, 2, 3, 4, 5, found 'NaN'"),
        (FOLDS.format(""), "row 2: kFold is empty"),
        ("ID,kFold\n", r"5-fold-cv\.csv: no row for bus_0001-l"),
        ("", "expected columns ID, kFold separated by ',', found nothing"),
    ],
)
def test_bad_fold_tables(table: str, match: str, tmp_path: Path) -> None:
    root = make_one("BUSBRA", tmp_path)
    (root / "5-fold-cv.csv").write_text(table)
    with pytest.raises(DataError, match=match):
        scan(root)


@pytest.mark.parametrize(
    ("table", "match"),
    [
        ("ID,Case,Pathology\nbus_0002-l,1,benign\n", r"bus_data\.csv: no row for bus_0001-l; copy the complete table"),
        ("ID;Case;Pathology\nbus_0001-l;1;benign\n", "separated by ',', found ID;Case;Pathology; copy"),
        ("name,Case\nbus_0001-l,1\n", "expected columns ID, Case, Pathology separated by ',', found name, Case"),
        ("ID,Case,Pathology\nbus_0001-l,,benign\n", "row 2: Case is empty"),
        ("ID,Case,Pathology\nbus_0001-l,1,cyst\n", "row 2: Pathology: expected benign, malignant, found 'cyst'"),
        ("ID,Case,Pathology\nbus_0001-l,1\n", "row 2: expected 3 values, found 2"),
    ],
)
def test_bad_case_tables(table: str, match: str, tmp_path: Path) -> None:
    root = make_one("BUSBRA", tmp_path)
    (root / "bus_data.csv").write_text(table)
    with pytest.raises(DataError, match=match):
        scan(root)


def test_masks_of_one_name_are_united(tmp_path: Path) -> None:
    root = touch(make_one("BUSBRA", tmp_path), "Masks/mask_0001-l.bmp")
    assert scan(root)[0].masks == ("Masks/mask_0001-l.bmp", "Masks/mask_0001-l.png")


def test_order_of_the_folder_does_not_matter(tmp_path: Path, sample: Path) -> None:
    names = ["bus_0003-r", "bus_0001-l", "bus_0002-l"]
    for name in names:
        for file in (f"Images/{name}.png", f"Masks/{name.replace('bus', 'mask')}.png"):
            (tmp_path / file).parent.mkdir(exist_ok=True)
            shutil.copyfile(sample / file, tmp_path / file)
    shutil.copyfile(sample / "bus_data.csv", tmp_path / "bus_data.csv")
    assert [source.id for source in scan(tmp_path)] == sorted(names)
