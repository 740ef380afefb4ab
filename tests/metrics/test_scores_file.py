"""The table of images, whole or damaged."""

import math
from pathlib import Path

import pytest

from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.metrics.scores_file import read_rows, write_rows


def test_rows_of_a_table(tmp_path: Path):
    path = tmp_path / "per_image.csv"
    path.write_text("image,patient,class,fold,coarse_dice\nx.png,7,benign,3,0.5\ny.png,8,benign,test,nan\n")
    first, second = read_rows(path)
    assert first == {"id": "x.png", "image": "x.png", "patient": "7", "class": "benign", "fold": 3, "coarse_dice": 0.5}
    assert second["fold"] == "test" and math.isnan(second["coarse_dice"])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read"),
        ("a,b\n1,2\n", "expected columns such as patient"),
        ("patient,class,delta_dice\n1,benign,0.1\n", "expected columns such as patient"),
        ("patient,class,coarse_dice\n1,benign,good\n", "not a table of images"),
        ("patient,class,coarse_dice\n1,benign\n", "not a table of images .a line is cut short"),
        ("patient,class,coarse_dice\n1,benign,0.5,0.5\n", "not a table of images .a line is too long"),
        (
            "patient,class,m_dice,m_probability_a,m_class\n1,a,0.5,0.5,a\n",
            "expected a column m_dice_a beside those of classes",
        ),
        ('patient,class,m_dice,"m_probability_a\nb"\n1,a,0.5,0.5\n', r"expected a column m_class beside"),
    ],
)
def test_no_table(tmp_path: Path, content: str | None, reason: str):
    if content is not None:
        (tmp_path / "t.csv").write_text(content)
    with pytest.raises(DataError, match=reason) as caught:
        read_rows(tmp_path / "t.csv")
    assert "\n" not in str(caught.value)


def test_what_is_written_is_read_digit_by_digit(tmp_path: Path):
    row = {"id": "007", "patient": "1e3", "class": "benign", "coarse_dice": 0.1 + 0.2, "lesions": 2.0, "unit": "px"}
    write_rows(tmp_path / "t.csv", [row, row | {"id": "008"}])
    assert read_rows(tmp_path / "t.csv") == [row, row | {"id": "008"}]
