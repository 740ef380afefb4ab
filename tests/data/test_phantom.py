import csv
from collections import Counter, defaultdict
from pathlib import Path

import imagehash
import numpy as np
import pytest
from numpy.random import default_rng
from PIL import Image
from scipy.ndimage import binary_dilation

from ultrarefiner_monai.data.b_mode import render
from ultrarefiner_monai.data.phantom import draw_breast, generate_phantom
from ultrarefiner_monai.data.readers.phantom import scan

COUNT = 60


@pytest.fixture(scope="module")
def phantom(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    generate_phantom(folder, COUNT)
    return folder


@pytest.fixture(scope="module")
def cases(phantom) -> list[dict[str, str]]:
    with (phantom / "cases.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_rerun_gives_the_same_bytes_and_more_pictures_only_add(phantom, tmp_path):
    generate_phantom(tmp_path, 12)
    again = content(tmp_path)
    first = content(phantom)
    assert len(again) == 25
    assert all(first[name] == data for name, data in again.items() if name != "cases.csv")
    assert first["cases.csv"].startswith(again["cases.csv"])


def test_another_seed_gives_other_pictures(phantom, tmp_path):
    generate_phantom(tmp_path, 3, seed=43)
    others = {data for name, data in content(tmp_path).items() if name.startswith("images")}
    assert not others & set(content(phantom).values())


def test_pictures_and_masks_fit_each_other(phantom, cases):
    assert len(cases) == COUNT == len({row["image"] for row in cases})
    for row in cases:
        picture, mask = Image.open(phantom / row["image"]), Image.open(phantom / row["mask"])
        assert picture.mode == mask.mode == "L"
        assert picture.size == mask.size
        assert picture.width != picture.height
        assert min(picture.size) >= 150 and max(picture.size) <= 261
        values = set(np.unique(np.asarray(mask)).tolist())
        assert values == ({0} if row["class"] == "normal" else {0, 255})


def test_classes_patients_and_views(cases):
    views = defaultdict(list)
    for row in cases:
        views[row["patient"]].append(row["class"])
    assert {len(kinds) for kinds in views.values()} == {1, 2, 3}
    assert all(len(set(kinds)) == 1 for kinds in views.values())
    shares = Counter(row["class"] for row in cases)
    assert 0.02 <= shares["normal"] / COUNT <= 0.2
    assert min(shares["benign"], shares["malignant"]) >= 0.25 * COUNT
    assert {int(row["lesions"]) for row in cases} >= {0, 1, 2}


def test_lesions_are_darker_than_what_surrounds_them(phantom, cases):
    contrasts = []
    for row in cases:
        mask = np.asarray(Image.open(phantom / row["mask"])) > 0
        if mask.any():
            picture = np.asarray(Image.open(phantom / row["image"]), float)
            around = binary_dilation(mask, iterations=8) & ~binary_dilation(mask, iterations=2)
            contrasts.append(picture[around].mean() - picture[mask].mean())
            assert 0.001 < mask.mean() < 0.4
    assert np.mean(np.array(contrasts) > 0) >= 0.95
    assert np.median(contrasts) > 20


def test_grey_values_are_spread_like_a_scan(phantom, cases):
    pictures = [np.asarray(Image.open(phantom / row["image"])) for row in cases]
    means = np.array([picture.mean() for picture in pictures])
    assert 45 < means.mean() < 100  # BUS-BRA: 66
    assert means.std() > 10  # the gain varies
    assert np.mean([np.mean(picture == 255) for picture in pictures]) < 0.01


def test_patients_are_no_near_duplicates_of_each_other(phantom, cases):
    hashes = np.stack([imagehash.phash(Image.open(phantom / row["image"]), hash_size=16).hash.ravel() for row in cases])
    patients = np.array([row["patient"] for row in cases])
    distances = (hashes[:, None] != hashes[None]).sum(-1)
    assert distances[patients[:, None] != patients[None]].min() > 60


def test_the_shadow_lies_below_a_malignant_lesion():
    rng = default_rng(5)
    darker = []
    for _ in range(12):
        breast = draw_breast(rng, "malignant")
        picture, mask = render(rng, breast)
        if len(breast.lesions) > 1 or breast.lesions[0].attenuation < 0.1:
            continue
        bottom, columns = np.flatnonzero(mask.any(1))[-1], mask.any(0)
        below = picture[bottom + 3 : bottom + 30]
        if len(below) > 10:
            darker.append(below[:, columns].mean() - below[:, ~columns].mean())
    assert len(darker) >= 3
    assert np.mean(darker) < -5


def test_the_reader_lists_every_case(phantom, cases):
    sources = scan(phantom)
    assert [source.image for source in sources] == [row["image"] for row in cases]
    assert len({source.id for source in sources}) == COUNT
    assert all((phantom / path).is_file() for source in sources for path in (source.image, *source.masks))
    assert [(s.label, s.patient) for s in sources] == [(row["class"], row["patient"]) for row in cases]


def test_a_manifest_can_be_built_and_verified(phantom, tmp_path):
    from ultrarefiner_monai.data.manifest import load_manifest
    from ultrarefiner_monai.data.manifest_build import build_document, release_records, write_manifest
    from ultrarefiner_monai.data.verify import verify

    write_manifest(build_document("PHANTOM", release_records("PHANTOM", phantom)), tmp_path / "PHANTOM.json")
    manifest = load_manifest(tmp_path / "PHANTOM.json")
    assert verify(manifest, phantom) == []
    assert len(manifest.items()) == COUNT
    assert manifest.num_folds == 5
    assert all(manifest.split("val", fold) for fold in range(5))
    assert manifest.testing and manifest.normal


def test_the_shipped_manifest_describes_the_default_phantom(phantom):
    from ultrarefiner_monai.data.manifest import load_manifest, shipped_manifest
    from ultrarefiner_monai.data.verify import verify

    assert verify(load_manifest(shipped_manifest("PHANTOM")), phantom) == []
