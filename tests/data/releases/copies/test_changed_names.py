"""Files named like a changed copy of another are told and stay with it; numbers that a release gives are none."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ultrarefiner_monai.data.manifests.build import build_document
from ultrarefiner_monai.data.manifests.splits import Options
from ultrarefiner_monai.data.releases.copies.changed_names import named_pairs
from ultrarefiner_monai.data.releases.inventory import read_inventory
from ultrarefiner_monai.data.releases.records import Record
from ultrarefiner_monai.data.releases.release import Release

MakeRecord = Callable[..., Record]
OTHERS = ("other1", "other2", "other3", "other4", "other5")


def _found(make_record: MakeRecord, *names: str) -> dict[str, str]:
    """Origin of each name that is a changed copy's."""
    pairs = named_pairs([make_record(name) for name in (*names, *OTHERS)])
    return {pair.ids[1]: pair.ids[0] for pair in pairs}


SUFFIXES = (
    "_rot15;_rot-15;_rotated_30;_flip;_FLIP;-flip-lr;_aug3;_aug_003;-copy; - Copy; - Copy (2); copy 2; (1);(1);_mirror;_zoom1.5;"
    "_crop2;_hflip_rot90;_bright (1);.aug1;_noise"
)


@pytest.mark.parametrize("suffix", SUFFIXES.split(";"))
def test_what_scripts_and_file_managers_append(suffix: str, make_record: MakeRecord) -> None:
    assert _found(make_record, "case 7", f"case 7{suffix}") == {f"case 7{suffix}": "case 7"}


@pytest.mark.parametrize("other", ["case 7-l", "case 7_2", "case 71", "case 7 left", "case 7_rotten", "case 8_rot15"])
def test_other_names_are_other_images(other: str, make_record: MakeRecord) -> None:
    assert _found(make_record, "case 7", other) == {}


def test_a_copy_of_a_copy_belongs_to_the_nearest_that_is_there(make_record: MakeRecord) -> None:
    assert _found(make_record, "a", "a_flip", "a_flip_rot15", "a_rot15_aug1") == {
        "a_flip": "a",
        "a_flip_rot15": "a_flip",
        "a_rot15_aug1": "a",
    }


def test_numbers_in_parentheses_are_copies_unless_the_release_counts_so(make_record: MakeRecord) -> None:
    busi = [make_record(f"benign ({number})") for number in range(1, 9)]
    assert named_pairs(busi) == []
    assert [pair.ids for pair in named_pairs([*busi, make_record("benign (3) (1)")])] == [
        ("benign (3)", "benign (3) (1)")
    ]
    renamed = [make_record("scan"), *(make_record(f"scan ({number})") for number in range(1, 9))]
    assert named_pairs(renamed) == []
    assert [pair.ids for pair in named_pairs([*renamed, make_record("scan (3)_flip")])] == [
        ("scan (3)", "scan (3)_flip")
    ]


@pytest.mark.parametrize("name", ["BUSI", "BUSBRA", "BUS_UCLM"])
def test_the_complete_releases_have_none(name: str, shared_data: Path) -> None:
    assert named_pairs(read_inventory(name, shared_data / f"inventory/{name}.csv")) == []


def test_build_names_them_and_keeps_them_with_their_origin(make_record: MakeRecord) -> None:
    names = [*OTHERS, *(f"{name}_aug{number}" for name in OTHERS[:2] for number in (1, 2, 3))]
    records = tuple(sorted((make_record(name) for name in names), key=lambda record: record.source.id))
    document = build_document(Release("BUS", records, {}), Options(2, 42, 0.2))
    groups = {item["id"]: item["group"] for key in ("training", "testing") for item in document[key]}
    assert all(groups[f"{name}_aug{number}"] == name for name in OTHERS[:2] for number in (1, 2, 3))
    assert document["warnings"] == [
        "6 files are named like changed copies of others and stay with them: other1_aug1 of other1, other1_aug2 of other1,"
        " other1_aug3 of other1, other2_aug1 of other2, other2_aug2 of other2 and 1 more"
    ]
    assert "of files named like a changed copy of another" in document["grouping"]
