"""Groups are the connected components of "same patient" and "near-duplicate"."""

from ultrarefiner_monai.data.groups import group_records, opposite_labels

HASH = "0" * 64
NEAR = "f" * 15 + "0" * 49  # 60 bits away


def test_links_of_both_kinds_chain(make_record) -> None:
    records = [
        make_record("a", patient="1"),
        make_record("b", patient="1", phash=HASH),
        make_record("c", patient="2", phash=NEAR),  # near-duplicate of b
        make_record("d", patient="2"),
        make_record("e", patient="3"),
    ]
    assert group_records(records) == ["a", "a", "a", "a", "e"]


def test_unknown_patients_are_not_one_patient(make_record) -> None:
    assert group_records([make_record("a"), make_record("b")]) == ["a", "b"]


def test_a_group_is_named_after_its_first_id_in_any_order(make_record) -> None:
    records = [make_record("z", patient="1"), make_record("m", patient="1"), make_record("q", patient="1")]
    assert group_records(records) == group_records(records[::-1]) == ["m", "m", "m"]


def test_no_records_make_no_groups() -> None:
    assert group_records([]) == []


def test_opposite_labels_on_near_duplicates_are_found(make_record) -> None:
    records = [
        make_record("a", "benign", phash=HASH),
        make_record("b", "malignant", phash=NEAR),
        make_record("c", "benign", phash=HASH),
        make_record("d", "normal", phash=HASH),
        make_record("e", "malignant"),
    ]
    assert [(a.source.id, b.source.id) for a, b in opposite_labels(records)] == [("a", "b"), ("b", "c")]
