"""An inventory and the files it describes give the same manifest, byte for byte."""

from pathlib import Path

import pytest

from ultrarefiner_monai.data.manifests.build import build_document, encode
from ultrarefiner_monai.data.manifests.splits import Options
from ultrarefiner_monai.data.releases.image_facts import measure
from ultrarefiner_monai.data.releases.inventory import COLUMNS, read_inventory
from ultrarefiner_monai.data.releases.readers import find_root, reader
from ultrarefiner_monai.data.releases.release import usable
from ultrarefiner_monai.errors import DataError

RELEASES = {"BUSI": "BUSI", "BUSBRA": "BUS-BRA", "BUS_UCLM": "BUS-UCLM"}
ROW = {
    "dataset": "BUSI",
    "image": "benign/benign (100).png",
    "masks": "benign/benign (100)_mask.png;benign/benign (100)_mask_1.png",
    "width": "323",
    "height": "473",
    "mask_size": "323x473;323x473",
    "lesion_pixels": "10011",
    "image_sha256": "a" * 64,
    "mask_sha256": f"{'b' * 64};{'c' * 64}",
    "phash16": "0" * 64,
    "label": "benign",
    "patient": "",
    "official_fold": "",
}


def _write(path: Path, *rows: dict[str, str]) -> Path:
    lines = [",".join(COLUMNS), *(",".join(row[column] for column in COLUMNS) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_row_becomes_a_record(tmp_path: Path) -> None:
    (record,) = read_inventory("BUSI", _write(tmp_path / "i.csv", ROW))
    assert record.source.id == "benign (100)"
    assert record.source.masks == ("benign/benign (100)_mask.png", "benign/benign (100)_mask_1.png")
    assert (record.size, record.mask_sizes) == ((323, 473), ((323, 473), (323, 473)))
    assert (record.lesion_pixels, record.sha256, record.mask_sha256) == (10011, "a" * 64, ("b" * 64, "c" * 64))


def test_all_bad_rows_are_in_one_error(tmp_path: Path) -> None:
    bad = ({"dataset": "BUSBRA"}, {"width": "wide"}, {"mask_size": "323x473"}, {"official_fold": "first"})
    path = _write(tmp_path / "i.csv", ROW, *({**ROW, **change} for change in bad))
    with pytest.raises(DataError) as caught:
        read_inventory("BUSI", path)
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["line 3", "line 4", "line 5", "line 6"]


def test_a_row_of_another_length_is_told_in_plain_words(tmp_path: Path) -> None:
    path = _write(tmp_path / "i.csv", ROW)
    path.write_text(path.read_text(encoding="utf-8") + "BUSI,benign/benign (1).png\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 3: expected 13 values, found 2"):
        read_inventory("BUSI", path)


def test_missing_columns_are_named(tmp_path: Path) -> None:
    (tmp_path / "i.csv").write_text("dataset,image\nBUSI,a.png\n")
    with pytest.raises(DataError, match="missing masks, width"):
        read_inventory("BUSI", tmp_path / "i.csv")
    with pytest.raises(DataError, match="cannot be read"):
        read_inventory("BUSI", tmp_path / "none.csv")


@pytest.mark.parametrize(("name", "step"), [("BUSI", 1), ("BUSBRA", 10), ("BUS_UCLM", 2)])
def test_files_and_inventory_give_the_same_bytes(name: str, step: int, shared_data: Path) -> None:
    """The inventory restricted to every `step`-th image of the sample, against the same files."""
    root = find_root(name, shared_data / RELEASES[name])
    from_files, _ = measure(reader(name).scan(root)[::step], root)
    images = {record.source.image for record in from_files}
    inventory = read_inventory(name, shared_data / f"inventory/{name}.csv")
    from_inventory = [record for record in inventory if record.source.image in images]
    assert len(from_files) == {"BUSI": 145, "BUSBRA": 76, "BUS_UCLM": 46}[name]
    documents = [build_document(usable(name, records), Options(3, 42, 0.1)) for records in (from_files, from_inventory)]
    assert encode(documents[0]) == encode(documents[1])
