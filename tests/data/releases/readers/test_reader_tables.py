"""Tables of releases, whole and damaged."""

from pathlib import Path

import pytest

from ultrarefiner_monai.data.releases.readers.tables import check_complete, read_table
from ultrarefiner_monai.errors import DataError

COLUMNS = {"case": (), "class": ("benign", "malignant")}
TABLE = "id,case,class,note\na,1,Benign,\nb, 2 ,malignant,x\n"


def _write(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "table.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    "content",
    [TABLE, "\ufeff" + TABLE, TABLE.replace("\n", "\r\n"), TABLE + "\n\n", TABLE.rstrip(), TABLE.replace("id", '"id"')],
)
def test_rows_by_key(content: str, tmp_path: Path) -> None:
    assert read_table(_write(tmp_path, content), "id", COLUMNS) == {
        "a": {"id": "a", "case": "1", "class": "benign", "note": ""},
        "b": {"id": "b", "case": "2", "class": "malignant", "note": "x"},
    }


def test_all_bad_rows_are_in_one_error(tmp_path: Path) -> None:
    table = "id,case,class\na,1,benign\na,1,benign\nb,,cyst\nc,1\n,1,benign\n"
    with pytest.raises(DataError) as caught:
        read_table(_write(tmp_path, table), "id", COLUMNS)
    assert caught.value.problems == (
        "row 3: a has a row already",
        "row 4: case is empty",
        "row 4: class: expected benign, malignant, found 'cyst'",
        "row 5: expected 3 values, found 2",
        "row 6: id is empty",
    )


@pytest.mark.parametrize("content", [TABLE.encode("utf-16"), b"id,case,class\n\xff,1,benign\n"])
def test_files_that_are_no_utf8(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"table\.csv: cannot be read as a UTF-8 table") as caught:
        read_table(_write(tmp_path, content), "id", COLUMNS)
    assert "\n" not in str(caught.value)


def test_missing_tables_and_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv: cannot be read .*No such file"):
        read_table(tmp_path / "none.csv", "id", COLUMNS)
    with pytest.raises(DataError, match=r"cannot be read .*no regular file"):
        read_table(tmp_path, "id", COLUMNS)


def test_another_separator_is_told(tmp_path: Path) -> None:
    path = _write(tmp_path, TABLE.replace(",", ";"))
    with pytest.raises(DataError, match="expected columns id, case, class separated by ',', found id;case;class;note;"):
        read_table(path, "id", COLUMNS)
    assert set(read_table(path, "id", COLUMNS, separator=";")) == {"a", "b"}


def test_images_without_a_row_are_named(tmp_path: Path) -> None:
    check_complete(tmp_path, ["a", "b"], ["b"])
    with pytest.raises(DataError, match="no row for c, d; copy the complete table"):
        check_complete(tmp_path, ["a"], ["d", "a", "c"])
    with pytest.raises(DataError, match=r"no row for 0, 1, 2, 3, 4, 5, 6, 7 and 2 more"):
        check_complete(tmp_path, [], map(str, range(10)))
