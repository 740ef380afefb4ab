"""Counts of manifests worked out by hand, and of the shipped ones against what is known of the releases."""

import json
from pathlib import Path

import pytest

from ultrarefiner_monai.data.manifests.manifest import Manifest, load_manifest, shipped_manifest
from ultrarefiner_monai.data.manifests.summary import aligned, document, places, summarise, table


def item(name: str, label: str, patient: str, pixels: int, **facts) -> dict:
    """10 x 20 pixels, so that two lesion pixels are one per cent; a group a patient."""
    files = {"id": name, "image": f"i/{name}.png", "label": f"m/{name}.png", "sha256": name}
    known = {"class": label, "patient": patient, "group": f"group of {patient}", "lesion_pixels": pixels}
    return {**files, **known, "width": 10, "height": 20, **facts}


def manifest(training: list, testing: list = (), normal: list = (), **header) -> Manifest:
    excluded = header.pop("excluded", [])
    lists = {"training": list(training), "testing": list(testing), "normal": list(normal), "excluded": excluded}
    return Manifest(name="BUS", num_folds=2, seed=42, sha256="f" * 64, path=Path("BUS.json"), header=header, **lists)


@pytest.fixture
def small() -> Manifest:
    return manifest(
        training=[
            item("a", "benign", "1", 2, fold=0),
            item("b", "benign", "1", 4, fold=0, width=30),
            item("c", "malignant", "2", 60, fold=1, image_size=[9, 9]),
            item("d", "benign", "3", 40, fold=1),
        ],
        testing=[item("e", "malignant", "4", 20)],
        normal=[item("n", "normal", "1", 0, fold=0), item("o", "normal", "5", 0), item("p", "normal", "5", 0)],
        excluded=[{"id": "x", "reason": "no mask file"}],
        description="planted",
        split="stratified",
        test_fraction=0.2,
        warnings=["look at b"],
    )


def test_counts_by_place(small: Manifest) -> None:
    (part,) = summarise(small).parts
    counts = {place.name: place for place in part.places}
    assert list(counts) == ["fold 0", "fold 1", "test", "normal", "all"]
    assert {name: (p.images, p.patients, p.groups, p.normals) for name, p in counts.items()} == {
        "fold 0": (2, 1, 1, 1),
        "fold 1": (2, 2, 2, 0),
        "test": (1, 1, 1, 2),
        "normal": (3, 2, 2, 0),
        "all": (8, 5, 5, 0),
    }
    assert counts["fold 1"].classes == {"benign": 1, "malignant": 1}
    assert counts["all"].classes == {"benign": 3, "malignant": 2, "normal": 3}


def test_size_thirds_are_of_each_class(small: Manifest) -> None:
    """Benign shares in per cent: b 0.67 < a 1 < d 20; malignant ones: e 10 < c 30, of which ranks 0 and 1 are thirds 0 and 1."""
    sizes = {place.name: place.sizes for place in summarise(small).parts[0].places}
    assert sizes["fold 0"] == {"small": 1, "middle": 1, "large": 0}
    assert sizes["fold 1"] == {"small": 0, "middle": 1, "large": 1}
    assert sizes["test"] == {"small": 1, "middle": 0, "large": 0}
    assert sizes["all"] == {"small": 2, "middle": 2, "large": 1}


def test_image_sizes_and_lesion_shares(small: Manifest) -> None:
    (part,) = summarise(small).parts
    assert part.width == {"min": 10, "median": 10, "max": 30}
    assert part.height == {"min": 20, "median": 20, "max": 20}
    assert part.stretched == 1
    assert list(part.lesion_share) == ["benign", "malignant", "all"]
    assert part.lesion_share["malignant"] == pytest.approx(
        {"0": 10, "5": 11, "25": 15, "50": 20, "75": 25, "95": 29, "100": 30}
    )
    assert part.lesion_share["all"]["50"] == pytest.approx(10)


def test_patients_that_the_release_does_not_tell_are_not_counted() -> None:
    """Such an item has its group's name for its patient's."""
    told, untold = item("a", "benign", "1", 2, fold=0), item("b", "benign", "b", 2, fold=0, group="b")
    summary = summarise(manifest([told, untold, item("c", "benign", "c", 2, fold=1, group="c")]))
    assert [place.patients for place in summary.parts[0].places] == [1, 0, 0, 0, 1]
    fold_1 = next(line for line in table(summary).splitlines() if line.startswith("fold 1"))
    assert fold_1.split()[2:5] == ["1", "-", "1"]


def test_a_combined_manifest_is_told_by_data_set_too() -> None:
    items = [
        item(f"{name}/{i}", "benign", f"{name}/{i}", pixels, fold=i % 2, dataset=name)
        for name, start in (("BUSI", 2), ("BUSBRA", 100))
        for i, pixels in enumerate(range(start, start + 6, 2))
    ]
    summary = summarise(manifest(items))
    assert [part.name for part in summary.parts] == ["BUS", "BUSBRA", "BUSI"]
    assert [part.places[-1].images for part in summary.parts] == [6, 3, 3]
    assert [part.lesion_share["all"]["50"] for part in summary.parts[1:]] == pytest.approx([51, 2])
    for part in summary.parts[1:]:  # thirds within each data set, or one would hold the small ones only
        assert part.places[-1].sizes == {"small": 1, "middle": 1, "large": 1}
    assert {"BUSBRA", "BUSI"} <= set(table(summary).splitlines())


def test_areas_that_the_manifest_does_not_tell_are_left_out() -> None:
    """Only the keys of `ITEM_TYPES` are demanded of a manifest that others wrote."""
    bare = item("a", "benign", "1", 2, fold=0)
    del bare["lesion_pixels"]
    (part,) = summarise(manifest([bare, item("b", "benign", "2", 4, fold=1)])).parts
    assert part.places[-1].images == 2
    assert part.places[-1].sizes == {"small": 1, "middle": 0, "large": 0}
    assert part.lesion_share["all"]["0"] == part.lesion_share["all"]["100"] == 2


def test_a_manifest_without_items_has_a_table() -> None:
    assert "all     0" in " ".join(table(summarise(manifest([]))).split("  "))


def test_table(small: Manifest) -> None:
    assert table(summarise(small)).splitlines() == [
        "BUS: planted",
        "2 folds, seed 42, split stratified, test_fraction 0.2",
        f"sha256 {'f' * 64}",
        "",
        "        images  patients  groups  benign  malignant  normal  small  middle  large  + normals",
        "fold 0       2         1       1       2          0       0      1       1      0          1",
        "fold 1       2         2       2       1          1       0      0       1      1",
        "test         1         1       1       0          1       0      1       0      0          2",
        "normal       3         2       2       0          0       3      0       0      0",
        "all          8         5       5       3          2       3      2       2      1",
        "",
        "pixels  min  median  max",
        "width    10      10   30",
        "height   20      20   20",
        "1 images are stretched onto their mask's size",
        "",
        "lesion in % of the image   min   5 %  25 %  50 %  75 %  95 %   max",
        "benign                     0.7   0.7   0.8   1.0  10.5  18.1  20.0",
        "malignant                 10.0  11.0  15.0  20.0  25.0  29.0  30.0",
        "all                        0.7   0.7   1.0  10.0  20.0  28.0  30.0",
        "",
        "excluded x: no mask file",
        "warning: look at b",
    ]


def test_document_is_json_with_the_same_facts(small: Manifest) -> None:
    told = json.loads(json.dumps(document(summarise(small))))
    assert told["sha256"] == "f" * 64
    assert told["header"] == {"description": "planted", "split": "stratified", "test_fraction": 0.2}
    assert told["parts"][0]["places"][0]["classes"] == {"benign": 2}
    assert told["parts"][0]["lesion_share"]["benign"]["50"] == 1
    assert told["excluded"] == [{"id": "x", "reason": "no mask file"}]
    assert told["warnings"] == ["look at b"]


def test_aligned_columns() -> None:
    assert aligned([("", "n"), ("long", "7"), ("a", "12")]) == ["       n", "long   7", "a     12"]


@pytest.mark.parametrize(
    ("name", "images", "patients", "lesions", "normals"),
    [("BUSI", 780, 0, 647, 133), ("BUSBRA", 1875, 1064, 1875, 0), ("BUS_UCLM", 683, 37, 264, 419)],
)
def test_shipped_manifests(name: str, images: int, patients: int, lesions: int, normals: int) -> None:
    """Counts as published; of BUS-UCLM's 38 patient codes two are one person."""
    content = load_manifest(shipped_manifest(name))
    (part,) = summarise(content).parts
    *folds, test, normal, everything = part.places
    assert (everything.images, everything.patients, normal.images) == (images, patients, normals)
    assert sum(place.images for place in folds) + test.images == lesions == sum(everything.sizes.values())
    assert sum(place.normals for place in (*folds, test)) == normals
    assert max(everything.sizes.values()) - min(everything.sizes.values()) <= 2


def test_every_item_has_one_place() -> None:
    content = load_manifest(shipped_manifest("BUS_UCLM"))
    ids = [item["id"] for pair in places(content).values() for items in pair for item in items]
    assert sorted(ids) == sorted(item["id"] for item in content.items())
