"""BUS-UCLM as it really is: coloured masks, images smaller than their masks, one person under two codes."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from made_releases import make_one, mask
from PIL import Image

from ultrarefiner_monai.data.images import read_grey
from ultrarefiner_monai.data.manifests.build import build_document
from ultrarefiner_monai.data.manifests.splits import Options
from ultrarefiner_monai.data.releases.image_facts import measure
from ultrarefiner_monai.data.releases.readers import info
from ultrarefiner_monai.data.releases.readers.bus_uclm import scan
from ultrarefiner_monai.data.releases.records import Record, Source
from ultrarefiner_monai.data.releases.release import read_release, usable
from ultrarefiner_monai.errors import DataError

NAME = "BUS_UCLM"
COLOURS = {"benign": {(0, 255, 0)}, "malignant": {(255, 0, 0)}, "normal": set()}


@pytest.fixture(scope="module")
def records(sample: Path, sources: dict[str, Source]) -> list[Record]:
    records, bad = measure(list(sources.values()), sample)
    assert not bad
    return records


@pytest.fixture(scope="module")
def document(records: list[Record]) -> dict:
    return build_document(usable("BUS_UCLM", records), Options(2, 42, 0.2))


def _items(document: dict) -> dict[str, dict]:
    return {item["id"]: item for key in ("training", "testing", "normal") for item in document[key]}


def test_the_sample_is_complete(sources: dict[str, Source], sample: Path) -> None:
    assert len(sources) == 91
    assert (sample / "INFO.csv").read_bytes().startswith(b"\xef\xbb\xbfImage;")
    source = sources["COPE_014"]
    assert (source.masks, source.patient, source.label) == (("masks/COPE_014.png",), "COPE", "malignant")
    assert {source.label for source in sources.values()} == {"benign", "malignant", "normal"}


def test_green_is_benign_and_red_malignant(sample: Path, records: list[Record]) -> None:
    for record in records[::6]:
        pixels = np.asarray(Image.open(sample / record.source.masks[0])).reshape(-1, 3)
        lit = pixels[pixels.any(axis=1)]
        assert {tuple(colour.tolist()) for colour in np.unique(lit, axis=0)} == COLOURS[record.source.label]
        assert record.lesion_pixels == len(lit)


@pytest.mark.parametrize("colour", [(0, 255, 0), (255, 0, 0)])
def test_both_colours_are_lesion(colour: tuple[int, int, int], tmp_path: Path) -> None:
    coloured = Image.composite(Image.new("RGB", (30, 20), colour), Image.new("RGB", (30, 20)), mask())
    root = make_one("BUS_UCLM", tmp_path, label=coloured)
    (record,), _ = measure(scan(root), root)
    assert record.lesion_pixels == 24


def test_images_smaller_than_their_masks_are_flagged(document: dict, sample: Path) -> None:
    flagged = {id: item for id, item in _items(document).items() if "image_size" in item}
    assert sorted(flagged) == [f"HESN_{number:03}" for number in range(13)]
    for item in flagged.values():
        with Image.open(sample / item["image"]) as image:
            assert (image.mode, list(image.size)) == ("RGBA", item["image_size"])
        assert (item["width"], item["height"]) == (856, 606)
    assert document["excluded"] == []


def test_they_are_stretched_onto_their_masks(document: dict, sample: Path) -> None:
    item = _items(document)["HESN_002"]
    small = read_grey(sample / item["image"])
    stretched = read_grey(sample / item["image"], (item["width"], item["height"]))
    assert (small.shape, stretched.shape) == ((468, 790), (606, 856))
    quarters = [
        [part.mean() for half in np.array_split(picture, 2) for part in np.array_split(half, 2, axis=1)]
        for picture in (small, stretched)
    ]
    assert np.allclose(*quarters, atol=0.01)  # corner stays with corner: nothing is cropped, padded or turned


def test_two_codes_of_one_person_are_one_group(document: dict) -> None:
    items = [item for id, item in _items(document).items() if id.startswith(("CHCO", "CHVI"))]
    assert Counter(item["id"][:4] for item in items) == {"CHCO": 4, "CHVI": 4}
    assert {item["patient"] for item in items} == {"CHCO"}
    assert len({item["group"] for item in items}) == 1


def test_published_test_patients(shared_data: Path) -> None:
    """From the complete release's table: the sample has too few other patients for folds."""
    published = set((shared_data / "splits/bus_uclm_official_test_patients.txt").read_text().split())
    assert info("BUS_UCLM").official_test == published
    release = read_release("BUS_UCLM", inventory=shared_data / "inventory/BUS_UCLM.csv")
    document = build_document(release, Options("official"))
    assert {item["patient"] for item in document["testing"]} == published
    assert not {item["patient"] for item in document["training"]} & published


def test_colour_doppler_frames_are_used_as_grey(sample: Path, document: dict) -> None:
    with (sample / "INFO.csv").open(encoding="utf-8-sig", newline="") as file:
        doppler = [row["Image"] for row in csv.DictReader(file, delimiter=";") if row["Doppler"] == "Yes"]
    assert len(doppler) == 36
    here = [name for name in doppler if (sample / "images" / name).is_file()]
    assert len(here) == 9
    assert {Path(name).stem for name in here} <= _items(document).keys()
    image = Image.open(sample / "images/COPE_014.png")
    assert np.ptp(np.asarray(image).astype(int), axis=2).max() > 100  # truly coloured
    assert np.allclose(read_grey(sample / "images/COPE_014.png"), np.asarray(image.convert("L")) / 255)


@pytest.mark.parametrize(
    ("table", "match"),
    [
        ("Image;Label\nALWI_001.png;Benign\n", r"INFO\.csv: no row for ALWI_000; copy the complete table"),
        ("Image,Label\nALWI_000.png,Benign\n", "expected columns Image, Label separated by ';', found Image,Label"),
        ("Image;Label\nALWI_000.png;Unclear\n", "Label: expected benign, malignant, normal, found 'Unclear'"),
        ("Image;Label\nALWI_000.png;\n", "row 2: Label is empty"),
        ("Image;Label\nALWI_000.png;Benign\nALWI_000.png;Normal\n", r"row 3: ALWI_000\.png has a row already"),
    ],
)
def test_bad_tables(table: str, match: str, tmp_path: Path) -> None:
    root = make_one("BUS_UCLM", tmp_path)
    (root / "INFO.csv").write_text(table)
    with pytest.raises(DataError, match=match):
        scan(root)


def test_a_table_without_a_byte_order_mark(tmp_path: Path) -> None:
    root = make_one("BUS_UCLM", tmp_path)
    (root / "INFO.csv").write_text("Image;Label\nALWI_000.png;Malignant\n")
    assert scan(root)[0].label == "malignant"
