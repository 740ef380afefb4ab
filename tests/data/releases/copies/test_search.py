"""Planted crops, zooms, rotations and mirror images are found among other pictures, and those are not."""

from pathlib import Path

import numpy as np
import pytest
from made_speckle import speckled
from PIL import Image
from planted import GEOMETRY

from ultrarefiner_monai.data.releases.copies import search as search_module
from ultrarefiner_monai.data.releases.copies.features import Features, features_of
from ultrarefiner_monai.data.releases.copies.search import Match, search, search_files
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.parallel import in_parallel


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """As many pictures as there are kinds of copies."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(len(GEOMETRY)):
        speckled(number, 320 + 8 * number, 300).save(folder / f"{number:02}.png")
    return sorted(folder.iterdir())


def _with_copies(originals: list[Path], folder: Path) -> list[Path]:
    """The originals, and behind them one copy of each, every kind in turn."""
    copies = []
    for number, (file, change) in enumerate(zip(originals, GEOMETRY.values(), strict=True)):
        with Image.open(file) as image:
            change(image.convert("L")).save(folder / f"{number}.png")
        copies.append(folder / f"{number}.png")
    return [*originals, *copies]


@pytest.fixture(scope="module")
def features(pictures: list[Path], tmp_path_factory: pytest.TempPathFactory) -> list[Features]:
    """Key points of the pictures and of their copies."""
    files = _with_copies(pictures, tmp_path_factory.mktemp("copies"))
    return in_parallel(features_of, files)


def _found(matches: list[Match]) -> set[tuple[int, int]]:
    return {(match.first, match.second) for match in matches}


def test_each_kind_of_copy_is_found_and_nothing_else(features: list[Features]) -> None:
    matches = search(features)
    count = len(GEOMETRY)
    assert [(match.first, match.second) for match in matches] == [(index, index + count) for index in range(count)]
    told = dict(zip(GEOMETRY, (str(match.alignment) for match in matches), strict=True))
    assert told["mirrored left-right"] == "mirrored, scale 1.00"
    assert told["rotated by 180 degrees"] in ("turned by 180°, scale 1.00", "turned by -180°, scale 1.00")
    assert told["rotated by 30 degrees"] == "turned by -30°, scale 1.00"
    assert told["zoom 0.6"] == "scale 0.60"


def test_each_kind_of_copy_of_real_images_is_found(shared_data: Path, tmp_path: Path) -> None:
    busbra = sorted((shared_data / "BUS-BRA/BUSBRA/Images").glob("*-l.png"))[: 5 * len(GEOMETRY) : 5]
    matches = search_files(_with_copies(busbra, tmp_path))
    assert _found(matches) == {(index, index + len(busbra)) for index in range(len(busbra))}


def test_the_known_real_pairs_are_found(shared_data: Path) -> None:
    folder = shared_data / "BUSI_copies/Dataset_BUSI_with_GT"
    files = sorted(path for path in folder.rglob("*.png") if "mask" not in path.name)
    matches = search_files(files)
    names = {frozenset((files[match.first].stem, files[match.second].stem)) for match in matches}
    assert names == {
        frozenset(("benign (62)", "benign (140)")),
        frozenset(("malignant (106)", "malignant (107)")),
        frozenset(("malignant (80)", "malignant (81)")),
        frozenset(("benign (333)", "malignant (78)")),
    }
    assert min(match.alignment.correlation for match in matches) > 0.9


def test_neither_blocks_nor_threads_change_what_is_found(
    features: list[Features], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = search(features, workers=1)
    monkeypatch.setattr(search_module, "BLOCK", 5)
    found = search(features, workers=3)
    assert _found(found) == _found(expected)
    assert [str(match.alignment) for match in found] == [str(match.alignment) for match in expected]


def test_every_copy_of_one_image_is_found(features: list[Features]) -> None:
    many = [features[0]] * 14 + features[1:4]  # more than the nearest that each is compared with
    assert _found(search(many)) == {(i, j) for i in range(14) for j in range(i + 1, 14)}


def test_no_image_one_and_empty_ones_have_no_copy(pictures: list[Path], tmp_path: Path) -> None:
    Image.fromarray(np.zeros((80, 100), np.uint8)).save(tmp_path / "black.png")
    assert search([]) == search_files(pictures[:1]) == search_files([tmp_path / "black.png"] * 3) == []


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"none")
    with pytest.raises(DataError, match=r"a\.png: cannot be read as an image"):
        search_files([tmp_path / "a.png"])
