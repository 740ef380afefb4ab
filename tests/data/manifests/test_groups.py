"""Groups are the connected components of "same patient" and "near-duplicate"."""

from ultrarefiner_monai.data.manifests.groups import group_records
from ultrarefiner_monai.data.releases.copies.near_duplicates import duplicate_pairs
from ultrarefiner_monai.data.releases.records import Record

HASH = "0" * 64
NEAR = "f" * 15 + "0" * 49  # 60 bits away


def _groups(records: list[Record]) -> list[str]:
    """Group of each record."""
    groups = group_records(records, duplicate_pairs(records))
    return [groups[record.source.id] for record in records]


def test_links_of_both_kinds_chain(make_record) -> None:
    records = [
        make_record("a", patient="1"),
        make_record("b", patient="1", phash=HASH),
        make_record("c", patient="2", phash=NEAR),  # near-duplicate of b
        make_record("d", patient="2"),
        make_record("e", patient="3"),
    ]
    assert _groups(records) == ["a", "a", "a", "a", "e"]


def test_unknown_patients_are_not_one_patient(make_record) -> None:
    assert _groups([make_record("a"), make_record("b")]) == ["a", "b"]


def test_a_group_is_named_after_its_first_id_in_any_order(make_record) -> None:
    records = [make_record("z", patient="1"), make_record("m", patient="1"), make_record("q", patient="1")]
    assert _groups(records) == _groups(records[::-1]) == ["m", "m", "m"]


def test_no_records_make_no_groups() -> None:
    assert group_records([], []) == {}
