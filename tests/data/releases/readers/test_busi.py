"""BUSI as it really is: several masks, masks of three kinds, blank normals, one image under two classes."""

from collections import Counter
from pathlib import Path

from made_releases import touch
from PIL import Image

from ultrarefiner_monai.data.manifests.build import build_document
from ultrarefiner_monai.data.manifests.splits import Options
from ultrarefiner_monai.data.releases.image_facts import measure
from ultrarefiner_monai.data.releases.inventory import read_inventory
from ultrarefiner_monai.data.releases.readers.busi import scan
from ultrarefiner_monai.data.releases.records import Record, Source
from ultrarefiner_monai.data.releases.release import usable

NAME = "BUSI"


def _records(sample: Path, sources: list[Source]) -> list[Record]:
    records, bad = measure(sources, sample)
    assert not bad
    return records


def test_classes_and_masks_in_numerical_order(tmp_path: Path) -> None:
    touch(tmp_path, *(f"benign/benign (4){end}.png" for end in ("", "_mask", "_mask_10", "_mask_2", "_mask_1")))
    touch(tmp_path, "malignant/malignant (1).png", "normal/normal (2).png", "normal/normal (2)_mask.png")
    sources = {source.id: source for source in scan(tmp_path)}
    assert sorted(sources) == ["benign (4)", "malignant (1)", "normal (2)"]
    assert sources["benign (4)"].image == "benign/benign (4).png"
    assert sources["benign (4)"].masks == tuple(f"benign/benign (4)_mask{end}.png" for end in ("", "_1", "_2", "_10"))
    assert sources["malignant (1)"].masks == ()
    assert sources["normal (2)"].label == "normal"


def test_a_release_without_normals(tmp_path: Path) -> None:
    touch(tmp_path, "benign/benign (1).png", "malignant/malignant (1).png")
    assert [source.label for source in scan(tmp_path)] == ["benign", "malignant"]


def test_a_mask_without_an_image_is_no_image(tmp_path: Path) -> None:
    touch(tmp_path, "benign/benign (1).png", "benign/benign (2)_mask.png", "malignant/malignant (1).png")
    assert [source.id for source in scan(tmp_path)] == ["benign (1)", "malignant (1)"]


def test_the_sample_is_complete(sources: dict[str, Source]) -> None:
    assert Counter(source.label for source in sources.values()) == {"benign": 73, "malignant": 48, "normal": 24}
    assert sum(len(source.masks) for source in sources.values()) == 163
    assert all(source.masks for source in sources.values())
    assert {source.patient for source in sources.values()} == {""}


def test_several_masks_are_united(sample: Path, sources: dict[str, Source], shared_data: Path) -> None:
    several = [source for source in sources.values() if len(source.masks) > 1]
    assert Counter(len(source.masks) for source in several) == {2: 16, 3: 1}
    known = {record.source.id: record for record in read_inventory("BUSI", shared_data / "inventory/BUSI.csv")}
    contained = []
    for record in _records(sample, several):
        alone, _ = measure([Source(m, record.source.image, (m,), "benign") for m in record.source.masks], sample)
        areas = [single.lesion_pixels for single in alone]
        assert max(areas) <= record.lesion_pixels <= sum(areas)
        contained += [record.source.id] if record.lesion_pixels == max(areas) else []
        assert record.lesion_pixels == known[record.source.id].lesion_pixels
        assert record.source.masks == known[record.source.id].source.masks
    assert contained == ["benign (58)"]  # whose second mask lies within the first


def test_the_two_masks_with_alpha(sample: Path, sources: dict[str, Source]) -> None:
    """Their alpha is 255 everywhere: taken for a channel, the lesion would be the whole picture."""
    found = [mask for source in sources.values() for mask in source.masks if Image.open(sample / mask).mode == "RGBA"]
    assert found == ["benign/benign (4)_mask_1.png", "benign/benign (54)_mask_1.png"]
    for record in _records(sample, [sources["benign (4)"], sources["benign (54)"]]):
        assert 0 < record.lesion_pixels < 0.5 * record.size[0] * record.size[1]


def test_normals_have_blank_coloured_masks_and_a_list_of_their_own(sample: Path, sources: dict[str, Source]) -> None:
    chosen = [source for source in sources.values() if source.label == "normal" or source.id[-2:] in ("1)", "3)")]
    normals = [source for source in chosen if source.label == "normal"]
    assert {Image.open(sample / source.masks[0]).mode for source in normals} == {"RGB"}
    document = build_document(usable("BUSI", _records(sample, chosen)), Options(2, 42, 0.2))
    assert {item["id"] for item in document["normal"]} == {source.id for source in normals}
    assert {item["lesion_pixels"] for item in document["normal"]} == {0}
    assert document["excluded"] == []


def test_one_image_under_two_classes_is_one_group_and_told(sample: Path, sources: dict[str, Source]) -> None:
    twins = ["benign (433)", "malignant (145)"]
    others = [id for id in sources if id.endswith("1)")][:6]
    records = {r.source.id: r for r in _records(sample, [sources[id] for id in dict.fromkeys(twins + others)])}
    assert records[twins[0]].phash16 == records[twins[1]].phash16
    assert records[twins[0]].thumbnail == records[twins[1]].thumbnail
    document = build_document(usable("BUSI", list(records.values())), Options(2, 42, 0.2))
    items = {item["id"]: item for item in document["training"] + document["testing"]}
    assert items[twins[0]]["group"] == items[twins[1]]["group"]
    assert items[twins[0]].get("fold") == items[twins[1]].get("fold")
    assert any(all(twin in warning for twin in twins) for warning in document["warnings"])
