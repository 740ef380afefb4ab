"""BUSI's known copies: the table is the one that was looked at, and grouping goes by it, from files and tables alike."""

import csv
from collections.abc import Callable
from pathlib import Path

from ultrarefiner_monai.data.manifests.build import build_document, encode
from ultrarefiner_monai.data.manifests.groups import excluded_duplicates, group_records
from ultrarefiner_monai.data.manifests.manifest import load_manifest, shipped_manifest
from ultrarefiner_monai.data.manifests.splits import Options
from ultrarefiner_monai.data.manifests.summary import places
from ultrarefiner_monai.data.releases.copies.known import known_pairs
from ultrarefiner_monai.data.releases.copies.pairs import NEIGHBOURS, SAME_FRAME, TABLE, CopyPair
from ultrarefiner_monai.data.releases.image_facts import measure
from ultrarefiner_monai.data.releases.inventory import read_inventory
from ultrarefiner_monai.data.releases.readers import find_root, reader
from ultrarefiner_monai.data.releases.records import Record, prefixed
from ultrarefiner_monai.data.releases.release import Release, usable

MakeRecord = Callable[..., Record]


def test_the_table_is_what_was_looked_at(shared_data: Path) -> None:
    pairs = _all_pairs(shared_data)
    with (shared_data / "inventory/BUSI_copies.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(*pair.ids, pair.correlation, pair.transform) for pair in pairs] == [
        (row["first"], row["second"], float(row["correlation"]), f"scale {row['scale']}") for row in rows
    ]
    kinds = [pair.kind for pair in pairs]
    assert (kinds.count(SAME_FRAME), kinds.count(NEIGHBOURS), len(kinds)) == (11, 6, 17)
    assert [pair.ids for pair in pairs if pair.opposite] == [("benign (333)", "malignant (78)")]


def _all_pairs(shared_data: Path) -> list[CopyPair]:
    records = usable("BUSI", read_inventory("BUSI", shared_data / "inventory/BUSI.csv")).records
    return known_pairs("BUSI", records)


def test_no_known_copies_lie_on_two_sides_of_the_shipped_manifest(shared_data: Path) -> None:
    manifest = load_manifest(shipped_manifest("BUSI"))
    place = {item["id"]: name for name, lists in places(manifest).items() for items in lists for item in items}
    assert [pair.ids for pair in _all_pairs(shared_data) if place[pair.ids[0]] != place[pair.ids[1]]] == []
    assert any("benign (333) (benign) and malignant (78) (malignant)" in line for line in manifest.header["warnings"])


def test_same_frames_and_neighbours_share_a_group_and_one_of_a_frame_stays(make_record: MakeRecord) -> None:
    names = ("benign (62)", "benign (140)", "malignant (7)", "malignant (5)", "malignant (4)", "malignant (99)")
    records = [make_record(name) for name in names]
    pairs = known_pairs("BUSI", records)
    assert {pair.ids for pair in pairs} == {
        ("benign (62)", "benign (140)"),
        ("malignant (7)", "malignant (5)"),
        ("malignant (7)", "malignant (4)"),
    }
    groups = group_records(records, pairs)
    assert groups["benign (62)"] == groups["benign (140)"] == "benign (140)"
    assert groups["malignant (7)"] == groups["malignant (5)"] == groups["malignant (4)"] == "malignant (4)"
    assert groups["malignant (99)"] == "malignant (99)"  # malignant (98) is not there
    assert excluded_duplicates(pairs) == {"benign (62)": "near-duplicate of benign (140)"}


def test_a_combined_data_set_has_them_under_its_ids_and_others_have_none(make_record: MakeRecord) -> None:
    records = [make_record(name) for name in ("benign (62)", "benign (140)")]
    combined = [prefixed(record, "BUSI") for record in records]
    assert [pair.ids for pair in known_pairs("BUSI+BUSBRA", combined)] == [("BUSI/benign (62)", "BUSI/benign (140)")]
    assert known_pairs("BUS", records) == []


def test_the_manifest_names_the_reason(make_record: MakeRecord) -> None:
    records = [make_record(f"benign ({number})") for number in (*range(1, 9), 62, 140)]
    document = build_document(Release("BUSI", tuple(records), {}), Options(2, 42, 0.2))
    assert "of copies known of this release" in document["grouping"]
    without = build_document(Release("BUSI", tuple(records[:-1]), {}), Options(2, 42, 0.2))
    assert "known" not in without["grouping"].partition("an item")[0]


def test_files_and_inventory_of_the_copies_give_the_same_bytes(shared_data: Path) -> None:
    root = Path(str(find_root("BUSI", shared_data / "BUSI_copies")))
    from_files, _ = measure(reader("BUSI").scan(root), root)
    images = {record.source.image for record in from_files}
    inventory = read_inventory("BUSI", shared_data / "inventory/BUSI.csv")
    from_inventory = [record for record in inventory if record.source.image in images]
    built = [build_document(usable("BUSI", records), Options(2, 42, 0)) for records in (from_files, from_inventory)]
    assert encode(built[0]) == encode(built[1])
    groups = {item["id"]: item["group"] for item in built[0]["training"]}
    assert len(set(groups.values())) == 4 and groups["benign (333)"] == groups["malignant (78)"] == "benign (333)"


def test_every_pair_of_the_table_was_found_by_pixels(shared_data: Path) -> None:
    assert all(pair.found_by == TABLE and (pair.correlation or 0) > 0.6 for pair in _all_pairs(shared_data))
