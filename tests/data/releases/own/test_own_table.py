"""A table of one's own: its columns and rows are found, or what is missing is told with what was probably meant."""

from pathlib import Path

import pytest
from made_own import listed, names, write

from ultrarefiner_monai.errors import DataError

IMAGES = ("images/a1.png", "images/a2.png", "images/b1.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return names(tmp_path / "data", *IMAGES, *(name.replace("images", "masks") for name in IMAGES))


def told(root: Path, text: str, encoding: str = "utf-8", **columns: str) -> dict[str, tuple[str, str, str]]:
    """Patient, class and official place of each image by a table."""
    table = root.parent / "table.csv"
    table.write_bytes(text.encode(encoding))
    return {s.id: (s.patient, s.label, s.official) for s in listed(root, table=table, columns=columns).sources}


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_any_separator_and_usual_names(separator: str, root: Path) -> None:
    rows = ["File Name,Patient_ID,Pathology,Split", "a1.png,7,Benign,train", "a2.png,7,B,test", "b1.png,,,val"]
    assert told(root, "\n".join(rows).replace(",", separator), "utf-8-sig") == {
        "a1": ("7", "benign", "2"),
        "a2": ("7", "benign", "test"),
        "b1": ("", "unknown", "1"),
    }


@pytest.mark.parametrize("key", ["images/{}.png", "images/{}", "{}.png", "{}", ".\\images\\{}.png"])
def test_rows_name_their_image_in_any_way(key: str, root: Path) -> None:
    rows = "\n".join(f"{key.format(name)},{name[0]}" for name in ("b1", "a1", "a2"))
    assert {id: found[0] for id, found in told(root, f"image,patient\n{rows}\n").items()} == {
        "a1": "a",
        "a2": "a",
        "b1": "b",
    }


def test_rows_may_name_cases_of_nnunet(tmp_path: Path) -> None:
    root = names(tmp_path / "data", "imagesTr/c1_0000.png", "labelsTr/c1.png")
    write(root, {"dataset.json": '{"file_ending": ".png"}'})
    assert told(root, "case,subject\nc1,7\n", image="case") == {"c1_0000": ("7", "unknown", "train")}


def test_columns_may_be_named(root: Path) -> None:
    text = "Bild;Frau;Befund;Teil\na1;x;normal;II\na2;x;M;I\nb1;y;b;I\n"
    columns = {"image": "Bild", "patient": "Frau", "class": "Befund", "fold": "Teil"}
    assert told(root, text, **columns) == {
        "a1": ("x", "normal", "2"),
        "a2": ("x", "malignant", "1"),
        "b1": ("y", "benign", "1"),
    }


def test_folds_and_a_test_set(root: Path) -> None:
    assert told(root, "image,split,fold\na1,train,3\na2,train,12\nb1,test,\n") == {
        "a1": ("", "unknown", "1"),
        "a2": ("", "unknown", "2"),
        "b1": ("", "unknown", "test"),
    }


def test_rows_of_no_image_are_counted(root: Path) -> None:
    table = write(root.parent, {"t.csv": "image,patient\na1,1\na2,1\nb1,2\nc1,3\nc2,3\n"}) / "t.csv"
    assert "2 rows of t.csv are of no image: c1, c2" in listed(root, table=table).notes


def test_known_patients_end_the_warning(root: Path) -> None:
    table = write(root.parent, {"t.csv": "image,patient\na1,1\na2,1\nb1,\n"}) / "t.csv"
    assert [
        note for note in listed(root, table=table).notes if note.startswith("patients of 1 of 3 images are not known")
    ]
    write(root.parent, {"t.csv": "image,patient\na1,1\na2,1\nb1,2\n"})
    assert listed(root, table=table).notes == ()
    assert any(note.startswith("patients of 3 of 3 images are not known") for note in listed(root).notes)


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("image,patient\na1,1\na2,1\n", {}, r"no row for 1 of 3 images: images/b1\.png; rows without an image: none"),
        ("image,patient\na1,1\na2,1\nb11,2\n", {}, r"no row for 1 of 3 images: images/b1\.png; did you mean 'b11'"),
        ("image,patient\nx,1\n", {}, r"no row for 3 of 3 images: .*; rows without an image: x"),
        ("image,patient\n", {"patient": "pateint"}, r"no column 'pateint' \(--patient_column\): did you mean 'patient'\?"),
        ("foto,patient\n", {}, "no column names the images; name it with --image_column: foto, patient"),
        ("image,notes\n", {}, "no column tells patient, class, split or fold; .*: image, notes"),
        ("image,class,label\n", {}, "class may be class or label; name it with --class_column"),
        ("image,class\na1,cyst\na2,b\nb1,b\n", {}, "row 2: class: expected one of benign, malignant, normal, unknown, found"),
        ("image,split\na1,dev\na2,train\nb1,train\n", {}, "row 2: split: expected one of train, val, test, found 'dev'"),
        ("image,patient\na1,1\na1.png,2\na2,1\nb1,1\n", {}, r"row 3: a1\.png has another row with other values"),
        ("image,patient\na1,1,2\na2,1\nb1,1\n", {}, "row 2: expected 2 values, found 3"),
        ("", {}, "no column names the images; name it with --image_column: none"),
        ("image,patient\n\u00e9,1\n", {}, "cannot be read as a UTF-8 table"),
    ],
)  # fmt: skip
def test_faulty_tables(text: str, columns: dict[str, str], message: str, root: Path) -> None:
    with pytest.raises(DataError, match=rf"MYSET: .*table\.csv: .*{message}"):
        told(root, text, "latin-1", **columns)


def test_a_name_that_two_images_have_needs_the_path(tmp_path: Path) -> None:
    for folder in ("benign", "malignant"):
        names(tmp_path / "data", f"{folder}/1.png", f"{folder}/1_mask.png")
    with pytest.raises(DataError, match=r"row 2: '1' may be benign/1\.png or malignant/1\.png; give its path"):
        told(tmp_path / "data", "image,patient\n1,7\n")
    text = "image,patient\nbenign/1,7\nmalignant/1.png,8\n"
    assert told(tmp_path / "data", text) == {"benign/1": ("7", "benign", ""), "malignant/1": ("8", "malignant", "")}


def test_a_table_that_is_not_there(root: Path) -> None:
    with pytest.raises(DataError, match=r"MYSET: .*none\.csv: cannot be read as a UTF-8 table \(No such file"):
        listed(root, table=root / "none.csv")
