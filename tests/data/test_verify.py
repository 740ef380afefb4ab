"""Every planted fault is told, each once, and a clean release has none."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ultrarefiner_monai.data.errors import DataError
from ultrarefiner_monai.data.manifest import Manifest, load_manifest
from ultrarefiner_monai.data.manifest_build import build_document, release_records, write_manifest
from ultrarefiner_monai.data.verify import verify


@pytest.fixture
def manifest(bus_release: Path, tmp_path: Path) -> Manifest:
    path = tmp_path / "BUS.json"
    write_manifest(build_document("BUS", release_records("BUS", bus_release)), path)
    return load_manifest(path)


def _edit_mask(path: Path, values: np.ndarray) -> None:
    Image.fromarray(values.astype(np.uint8)).save(path)


def test_a_clean_release_has_no_fault(manifest: Manifest, bus_release: Path) -> None:
    assert verify(manifest, bus_release) == []
    assert verify(manifest, bus_release.parent) == []


def test_missing_files_are_faults_unless_allowed(manifest: Manifest, bus_release: Path) -> None:
    (bus_release / "original/000001.png").unlink()
    (bus_release / "GT/000002.png").unlink()
    assert sorted(verify(manifest, bus_release)) == [
        "000001: original/000001.png: missing",
        "000002: GT/000002.png: missing",
    ]
    assert verify(manifest, bus_release, allow_missing=True) == []


def test_extra_files_are_faults(manifest: Manifest, bus_release: Path) -> None:
    shutil.copy(bus_release / "original/000001.png", bus_release / "original/000099.png")
    (bus_release / "readme.txt").touch()
    assert verify(manifest, bus_release) == ["original/000099.png: extra, the manifest does not list it"]


def test_files_of_excluded_images_are_not_extra(bus_release: Path, tmp_path: Path) -> None:
    (bus_release / "GT/000004.png").unlink()
    write_manifest(build_document("BUS", release_records("BUS", bus_release)), tmp_path / "BUS.json")
    manifest = load_manifest(tmp_path / "BUS.json")
    assert manifest.excluded == [{"id": "000004", "reason": "no mask file"}]
    assert verify(manifest, bus_release) == []


def test_changed_bytes_of_image_and_mask(manifest: Manifest, bus_release: Path) -> None:
    for name in ("original/000003.png", "GT/000003.png"):
        with (bus_release / name).open("ab") as file:
            file.write(b"\0")
    faults = verify(manifest, bus_release)
    assert [fault for fault in faults if "sha256 differs" in fault] == faults
    assert len(faults) == 2


@pytest.mark.parametrize("content", [b"", b"no picture"])
def test_unreadable_files(manifest: Manifest, bus_release: Path, content: bytes) -> None:
    (bus_release / "original/000005.png").write_bytes(content)
    faults = verify(manifest, bus_release)
    assert len(faults) == 2  # its bytes changed, and it cannot be read
    assert "cannot be read as an image" in faults[1]


def test_truncated_file(manifest: Manifest, bus_release: Path) -> None:
    path = bus_release / "original/000005.png"
    path.write_bytes(path.read_bytes()[:-600])
    assert "cannot be read as an image" in verify(manifest, bus_release)[1]


def test_sizes(manifest: Manifest, bus_release: Path) -> None:
    Image.new("L", (79, 60)).save(bus_release / "original/000006.png")
    faults = verify(manifest, bus_release)
    assert faults[1] == ("000006: original/000006.png: size differs from the manifest's: expected 80x60, found 79x60")


def test_a_mask_one_pixel_off(manifest: Manifest, bus_release: Path) -> None:
    """Same size, same count of pixels: only the hash can tell, and it does."""
    path = bus_release / "GT/000006.png"
    _edit_mask(path, np.roll(np.asarray(Image.open(path)), 1, axis=1))
    assert verify(manifest, bus_release) == [
        "000006: GT/000006.png: sha256 differs from the manifest's, the file was changed"
    ]


def test_mask_values(manifest: Manifest, bus_release: Path) -> None:
    path = bus_release / "GT/000006.png"
    values = np.asarray(Image.open(path)).copy()
    values[values > 0] = 254
    values[30, 70] = 3
    _edit_mask(path, values)
    fault = verify(manifest, bus_release)[1]
    assert fault == "000006: GT/000006.png: mask values: expected one beside 0, found 2: (3,), (254,)"


def test_both_colours_in_one_mask(manifest: Manifest, bus_release: Path) -> None:
    values = np.zeros((60, 80, 3))
    values[10:20, 10:20, 0] = 255
    values[30:40, 10:20, 1] = 255
    _edit_mask(bus_release / "GT/000006.png", values)
    assert "found 2: (0, 255, 0), (255, 0, 0)" in verify(manifest, bus_release)[1]


def test_blank_masks_and_changed_lesions(manifest: Manifest, bus_release: Path) -> None:
    _edit_mask(bus_release / "GT/000002.png", np.zeros((60, 80)))
    _edit_mask(bus_release / "GT/000003.png", np.eye(60, 80) * 255)
    faults = verify(manifest, bus_release)
    assert "000002: mask is blank: expected 49 lesion pixels" in faults
    assert "000003: lesion pixels: expected 64, found 60" in faults


def test_a_link_out_of_the_root(manifest: Manifest, bus_release: Path, tmp_path: Path) -> None:
    path = bus_release / "original/000008.png"
    shutil.move(path, tmp_path / "outside.png")
    path.symlink_to(tmp_path / "outside.png")
    (fault,) = verify(manifest, bus_release)
    assert fault.startswith("000008: ")
    assert "a link leads out of the dataset root" in fault


def test_another_folder_is_refused(manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="looked for original"):
        verify(manifest, tmp_path / "empty")
