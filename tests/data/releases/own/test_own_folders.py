"""Folders of images and masks, and masks beside their images: which belongs to which."""

from pathlib import Path

import pytest
from made_own import listed, masks_of, names

from ultrarefiner_monai.errors import DataError


@pytest.mark.parametrize(
    ("images", "masks"),
    [("images", "masks"), ("imgs", "labels"), ("IMAGES", "GT"), ("original", "ground_truth"), ("img", "Ground Truth")],
)
@pytest.mark.parametrize("suffix", ["", "_mask", "_seg", "-gt", "_label", " lesion", "_anything"])
def test_two_folders_are_found_with_any_suffix(images: str, masks: str, suffix: str, tmp_path: Path) -> None:
    for stem in ("p1", "p10", "p2"):
        names(tmp_path, f"{images}/{stem}.png", f"{masks}/{stem}{suffix}.PNG")
    listing = listed(tmp_path)
    assert masks_of(listing) == {f"{images}/{s}.png": (f"{masks}/{s}{suffix}.PNG",) for s in ("p1", "p10", "p2")}
    assert [source.id for source in listing.sources] == ["p1", "p10", "p2"]
    assert f"masks: NAME{suffix}" in listing.description


def test_folders_may_be_named(tmp_path: Path) -> None:
    names(tmp_path, "scans/a.png", "scans/b.png", "drawn/a_x.png", "drawn/b_x.png", "masks/a.png")
    listing = listed(tmp_path, images="scans", masks="drawn")
    assert masks_of(listing) == {"scans/a.png": ("drawn/a_x.png",), "scans/b.png": ("drawn/b_x.png",)}
    assert "1 other pictures are left alone: masks/ (1)" in listing.notes
    assert masks_of(listed(tmp_path, images="scans")) == {"scans/a.png": ("masks/a.png",), "scans/b.png": ()}


@pytest.mark.parametrize("option", ["images", "masks"])
@pytest.mark.parametrize(
    ("folder", "told"), [("../x", "leaves the dataset root"), ("/tmp", "is absolute"), ("none", "no such folder")]
)
def test_named_folders_lie_below_the_root(option: str, folder: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"MYSET: --{option}.*{told}"):
        listed(names(tmp_path, "images/a.png", "masks/a.png"), **{option: folder})


def test_several_masks_of_an_image_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    numbers = ("", "_1", "_2", "_10")
    names(tmp_path, "images/a.png", "images/b.png", "masks/b_mask.png", *(f"masks/a_mask{n}.png" for n in numbers))
    assert masks_of(listed(tmp_path))["images/a.png"] == tuple(f"masks/a_mask{n}.png" for n in numbers)


def test_a_number_alone_is_no_suffix_where_it_may_be_another_image(tmp_path: Path) -> None:
    names(tmp_path, "images/p1.png", "images/p2.png", "masks/p1.png", "masks/p2.png", "masks/p1_1.png", "masks/p10.png")
    listing = listed(tmp_path)
    assert masks_of(listing) == {"images/p1.png": ("masks/p1.png",), "images/p2.png": ("masks/p2.png",)}
    assert "2 masks have no image: masks/p10.png, masks/p1_1.png" in listing.notes


def test_numbers_alone_count_masks_where_none_is_called_like_the_image(tmp_path: Path) -> None:
    names(tmp_path, "images/a.png", "images/b.png", "masks/a_1.png", "masks/a_2.png", "masks/b_1.png")
    assert masks_of(listed(tmp_path)) == {
        "images/a.png": ("masks/a_1.png", "masks/a_2.png"),
        "images/b.png": ("masks/b_1.png",),
    }


@pytest.mark.parametrize(
    ("image", "mask"),
    [("bus_{}", "mask_{}"), ("image{}", "mask{}"), ("{}_image", "{}_mask"), ("US-{}-img", "US-{}-seg")],
)
def test_beginnings_and_words_may_differ(image: str, mask: str, tmp_path: Path) -> None:
    for number in ("0001-l", "0001-r", "0012-l"):
        names(tmp_path, f"images/{image.format(number)}.png", f"masks/{mask.format(number)}.png")
    found = masks_of(listed(tmp_path))
    assert found == {
        f"images/{image.format(n)}.png": (f"masks/{mask.format(n)}.png",) for n in ("0001-l", "0001-r", "0012-l")
    }


def test_images_with_their_masks_beside_them_in_class_folders(tmp_path: Path) -> None:
    names(tmp_path, "benign/b (1).png", "benign/b (1)_mask.png", "benign/b (1)_mask_1.png", "benign/b (10).png")
    names(tmp_path, "benign/b (10)_mask.png", "malignant/m.png", "malignant/m_mask.png", "normal/n.png")
    listing = listed(tmp_path)
    assert masks_of(listing) == {
        "benign/b (1).png": ("benign/b (1)_mask.png", "benign/b (1)_mask_1.png"),
        "benign/b (10).png": ("benign/b (10)_mask.png",),
        "malignant/m.png": ("malignant/m_mask.png",),
        "normal/n.png": (),
    }
    assert {source.id: source.label for source in listing.sources} == {
        "benign/b (1)": "benign",
        "benign/b (10)": "benign",
        "malignant/m": "malignant",
        "normal/n": "normal",
    }
    assert "1 normal images have no mask: a blank one is made" in listing.notes
    assert list(listing.drawings) == ["normal/n"]


@pytest.mark.parametrize("form", ["{split}/images/{name}", "images/{split}/{name}"])
def test_split_folders_tell_the_published_split(form: str, tmp_path: Path) -> None:
    for split in ("train", "Valid", "test"):
        for name in ("a.png", "b.png"):
            image = form.format(split=split, name=f"{split}_{name}")
            names(tmp_path, image, image.replace("images", "masks"))
    listing = listed(tmp_path)
    assert {Path(s.image).name: s.official for s in listing.sources} == {
        f"{split}_{name}": official
        for split, official in (("train", "2"), ("Valid", "1"), ("test", "test"))
        for name in ("a.png", "b.png")
    }
    assert all(source.masks for source in listing.sources)


def test_equal_names_in_split_folders_keep_their_own_masks(tmp_path: Path) -> None:
    for split in ("train", "test"):
        names(tmp_path, f"images/{split}/1.png", f"masks/{split}/1.png")
    listing = listed(tmp_path)
    assert masks_of(listing) == {f"images/{s}/1.png": (f"masks/{s}/1.png",) for s in ("test", "train")}
    assert {source.id: source.official for source in listing.sources} == {"train/1": "train", "test/1": "test"}


def test_masks_of_another_folder_structure_are_found_by_their_names_alone(tmp_path: Path) -> None:
    names(tmp_path, "images/p1/a.png", "images/p2/b.png", "masks/a.png", "masks/b.png")
    assert masks_of(listed(tmp_path)) == {"images/p1/a.png": ("masks/a.png",), "images/p2/b.png": ("masks/b.png",)}
    names(tmp_path, "images/p3/a.png")
    assert masks_of(listed(tmp_path))["images/p1/a.png"] == ()  # which of the two is meant?


def test_the_reason_found_in_most_files_is_told(tmp_path: Path) -> None:
    names(tmp_path, *(f"images/i{n}.png" for n in range(30)), *(f"masks/other-{n:03}x.png" for n in range(4)))
    with pytest.raises(
        DataError,
        match=r"30 of 30 images have no mask: images/i0\.png, .* and 27 more; looked for .* in masks/, found other",
    ):
        listed(tmp_path)


def test_some_images_without_a_mask_are_counted(tmp_path: Path) -> None:
    names(tmp_path, *(f"images/i{n}.png" for n in range(5)), *(f"masks/i{n}.png" for n in range(3)))
    (note, _) = listed(tmp_path).notes
    assert note.startswith("2 of 5 images have no mask: images/i3.png, images/i4.png; looked for")


def test_normal_images_alone_need_one_mask_at_least(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"1 of 1 images have no mask: images/normal/a\.png; looked for .* in masks/, found b\.png"
    ):
        listed(names(tmp_path, "images/normal/a.png", "masks/b.png"))


def test_no_layout_at_all(tmp_path: Path) -> None:
    names(tmp_path, *(f"images/i{n}.png" for n in range(30)))
    with pytest.raises(DataError, match="MYSET: 30 of 30 pictures have no mask: looked for a folder of images beside"):
        listed(tmp_path)
    names(tmp_path, "empty/images/a.nii.gz", "empty/images/b.mha")
    with pytest.raises(DataError, match=r"MYSET: no pictures \(\.png, .*found images; looked for"):
        listed(tmp_path / "empty")


def test_folders_that_could_both_be_meant_are_refused(tmp_path: Path) -> None:
    names(tmp_path, "images/a.png", "masks/a.png", "gt/a.png")
    with pytest.raises(DataError, match=r"several folders of masks in .*: gt, masks; name one with --masks FOLDER"):
        listed(tmp_path)
    assert masks_of(listed(tmp_path, masks="gt")) == {"images/a.png": ("gt/a.png",)}


def test_links_are_not_followed_and_said(tmp_path: Path) -> None:
    names(tmp_path / "elsewhere", "a.png")
    (tmp_path / "data").mkdir()
    for folder in ("images", "masks"):
        (tmp_path / "data" / folder).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="links to folders are not followed: images, masks"):
        listed(tmp_path / "data")


def test_hidden_and_made_files_are_no_images(tmp_path: Path) -> None:
    names(tmp_path, "images/a.png", "masks/a.png", "images/._a.png", ".cache/images/b.png", "__MACOSX/images/c.png")
    names(tmp_path, "ultrarefiner_masks/OTHER/a.png")
    listing = listed(tmp_path)
    assert masks_of(listing) == {"images/a.png": ("masks/a.png",)}
    assert not any("left alone" in note for note in listing.notes)
