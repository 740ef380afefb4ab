"""A thousand random releases: no patient, copy or group stands on both sides of a split, and classes are balanced."""

import random
from collections import Counter
from typing import Any

import pytest

from ultrarefiner_monai.data.manifests.build import build_document
from ultrarefiner_monai.data.manifests.splits import Options
from ultrarefiner_monai.data.manifests.validate import document_faults
from ultrarefiner_monai.data.releases.copies.perceptual_hashes import near_duplicate_pairs
from ultrarefiner_monai.data.releases.records import Record
from ultrarefiner_monai.data.releases.release import usable

pytestmark = pytest.mark.fault(15)


def build(name: str, records: list[Record], **options: Any) -> dict[str, Any]:
    """Document of the manifest of `records`."""
    return build_document(usable(name, records), Options(**options))


def _random_release(seed: int, make_record) -> list[Record]:
    """Patients of 1 to 4 images, some unknown, some images copied into other patients, some normal."""
    chance = random.Random(seed)
    records: list[Record] = []
    for patient in range(chance.randint(25, 60)):
        code = f"p{patient}" if chance.random() < 0.7 else ""
        for view in range(chance.randint(1, 4)):
            copied = chance.choice(records).phash16 if records and chance.random() < 0.05 else None
            label = chance.choices(("benign", "malignant", "normal"), (6, 3, 1))[0]
            pixels = 0 if label == "normal" else chance.randint(1, 8000)
            records.append(make_record(f"{seed}_{patient}_{view}", label, code, copied, lesion_pixels=pixels))
    return records


@pytest.mark.parametrize("hundred", range(10))
def test_a_thousand_random_releases_never_leak(hundred: int, make_record) -> None:
    for seed in range(100 * hundred, 100 * hundred + 100):
        _check_that_nothing_leaks(seed, make_record)


def _check_that_nothing_leaks(seed: int, make_record) -> None:
    records = _random_release(seed, make_record)
    by_id = {record.source.id: record for record in records}
    document = build("BUSI", records, folds=5, seed=seed)
    assert document_faults(document) == []
    lesions = [(item, item.get("fold", "testing")) for key in ("training", "testing") for item in document[key]]
    assert len(lesions) == sum(record.lesion_pixels > 0 for record in records)
    places: dict[str, set] = {}
    for item, place in lesions:
        places.setdefault(item["group"], set()).add(place)
        if patient := by_id[item["id"]].source.patient:
            places.setdefault(f"patient {patient}", set()).add(place)
    assert all(len(found) == 1 for found in places.values())
    pairs = near_duplicate_pairs([item["phash16"] for item, _ in lesions])
    assert all(lesions[i][1] == lesions[j][1] for i, j in pairs)


@pytest.mark.parametrize("seed", range(20))
def test_class_balance_is_within_two_percent_where_groups_allow(seed: int, make_record) -> None:
    chance = random.Random(seed)
    records = []
    for patient in range(400):
        label = chance.choices(("benign", "malignant"), (2, 1))[0]
        for view in range(chance.randint(1, 2)):
            pixels = chance.randint(1, 8000)
            records.append(make_record(f"{seed}_{patient}_{view}", label, f"p{patient}", lesion_pixels=pixels))
    document = build("BUSBRA", records, seed=seed)
    overall = sum(record.source.label == "malignant" for record in records) / len(records)
    by_place: dict[object, Counter] = {}
    for item in (*document["training"], *document["testing"]):
        by_place.setdefault(item.get("fold", "testing"), Counter())[item["class"]] += 1
    assert len(by_place) == 6
    for counts in by_place.values():
        assert abs(counts["malignant"] / counts.total() - overall) <= 0.02
