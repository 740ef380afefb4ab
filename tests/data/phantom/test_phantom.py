"""The phantom: the same bytes anywhere, patients with views, pictures whose figures lie near those of real scans."""

import csv
import os
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import imagehash
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_dilation

from ultrarefiner_monai.data.phantom.phantom import PhantomSettings, generate_phantom
from ultrarefiner_monai.data.releases.readers.phantom import scan
from ultrarefiner_monai.errors import DataError

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


def test_the_bytes_do_not_depend_on_the_processors_vector_units(phantom, tmp_path):
    known = "from numpy._core import _multiarray_umath as m; print(*m.__cpu_dispatch__)"
    features = subprocess.run([sys.executable, "-c", known], capture_output=True, text=True, check=True).stdout.strip()
    make = "import sys; from ultrarefiner_monai.data.phantom.phantom import generate_phantom as g; g(sys.argv[1], 6)"
    plain = os.environ | {"NPY_DISABLE_CPU_FEATURES": features}
    subprocess.run([sys.executable, "-c", make, str(tmp_path)], env=plain, check=True)
    assert {name: data for name, data in content(phantom).items() if name in content(tmp_path)} | {
        "cases.csv": (tmp_path / "cases.csv").read_bytes()
    } == content(tmp_path)


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
        assert min(picture.size) >= 150 and max(picture.size) <= 260
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


def test_a_user_sets_what_the_phantom_holds(tmp_path):
    generate_phantom(tmp_path, 20, 7, PhantomSettings(0.5, 0.5, lesions=1, views=1, size=(96, 120), marks=1))
    with (tmp_path / "cases.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len({row["patient"] for row in rows}) == 20
    shares = Counter(row["class"] for row in rows)
    assert set(shares) == {"normal", "malignant"} and 8 <= shares["normal"] <= 12
    assert {row["lesions"] for row in rows} == {"0", "1"}
    for row in rows:
        picture, mask = (np.asarray(Image.open(tmp_path / row[key])) for key in ("image", "mask"))
        assert 96 <= min(picture.shape) < max(picture.shape) <= 120
        assert (picture == 235).sum() > 50  # burnt-in text
        assert mask.any() == (row["class"] == "malignant")


@pytest.mark.parametrize("normal", [0.0, 0.1, 0.25, 1.0])
def test_any_run_of_patients_has_about_the_shares(tmp_path, normal):
    generate_phantom(tmp_path, 24, 5, PhantomSettings(normal, malignant=0, views=1, size=(96, 97), marks=0))
    with (tmp_path / "cases.csv").open(newline="") as stream:
        kinds = [row["class"] for row in csv.DictReader(stream)]
    assert abs(kinds[:12].count("normal") - 12 * normal) <= 2
    assert abs(kinds.count("normal") - 24 * normal) <= 2


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"normal": 1.5}, "normal to be a share from 0 to 1, found 1.5"),
        ({"normal": 0.7, "malignant": 0.4}, "malignant to be a share from 0 to 1 less normal, found 0.4"),
        ({"normal": "few"}, "normal to be a share from 0 to 1, found 'few'"),
        ({"lesions": 4}, "lesions to be 1 to 3, found 4"),
        ({"views": 0}, "views to be a whole number from 1, found 0"),
        ({"size": (200, 100)}, r"size to be two whole numbers, the lesser first, from 96, found \(200, 100\)"),
        ({"size": 200}, "size to be two whole numbers"),
        ({"marks": float("nan")}, "marks to be a share from 0 to 1, found nan"),
    ],
)
def test_settings_out_of_range_are_one_line(change, expected):
    with pytest.raises(DataError, match=f"^phantom: expected {expected}"):
        PhantomSettings(**change)


@pytest.mark.parametrize(("count", "seed"), [(0, 1), (3, -1), (2.5, 1), ("many", 1)])
def test_count_and_seed_are_checked(tmp_path, count, seed):
    with pytest.raises(DataError, match="phantom: expected whole numbers, a count from 1 and a seed from 0"):
        generate_phantom(tmp_path / "out", count, seed)
    assert not (tmp_path / "out").exists()


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
    assert 40 < np.median(contrasts) < 75  # BUS-BRA 46, BUSI 64


def test_grey_values_and_speckle_lie_near_those_of_real_scans(phantom, cases):
    pictures = [np.asarray(Image.open(phantom / row["image"]), float) for row in cases]
    quantiles = np.median([np.percentile(picture, (5, 50, 95, 99)) for picture in pictures], axis=0)
    assert np.allclose(
        quantiles, (25, 74, 162, 205), atol=20
    )  # mean of BUS-BRA's and BUSI's medians, 150 pictures each
    assert np.std([picture.mean() for picture in pictures]) > 15  # the gain varies
    assert np.mean([np.mean(picture == 255) for picture in pictures]) < 0.01
    fine = [picture - picture.mean(axis=1, keepdims=True) for picture in pictures]
    down = np.mean([(a[1:] * a[:-1]).mean() / a.var() for a in fine])
    across = np.mean([(a[:, 1:] * a[:, :-1]).mean() / a.var() for a in fine])
    assert across > down + 0.05  # speckle is wider than deep


def test_patients_are_no_near_duplicates_of_each_other(phantom, cases):
    hashes = np.stack([imagehash.phash(Image.open(phantom / row["image"]), hash_size=16).hash.ravel() for row in cases])
    patients = np.array([row["patient"] for row in cases])
    distances = (hashes[:, None] != hashes[None]).sum(-1)
    assert distances[patients[:, None] != patients[None]].min() > 60


def test_the_reader_lists_every_case(phantom, cases):
    sources = scan(phantom)
    assert [source.image for source in sources] == [row["image"] for row in cases]
    assert len({source.id for source in sources}) == COUNT
    assert all((phantom / path).is_file() for source in sources for path in (source.image, *source.masks))
    assert [(s.label, s.patient) for s in sources] == [(row["class"], row["patient"]) for row in cases]


def test_a_manifest_can_be_built_and_verified(phantom, tmp_path):
    from ultrarefiner_monai.data.integrity.verification import verify
    from ultrarefiner_monai.data.manifests.build import build_document, write_manifest
    from ultrarefiner_monai.data.manifests.manifest import load_manifest
    from ultrarefiner_monai.data.manifests.splits import Options
    from ultrarefiner_monai.data.releases.release import read_release

    write_manifest(build_document(read_release("PHANTOM", str(phantom)), Options()), tmp_path / "PHANTOM.json")
    manifest = load_manifest(tmp_path / "PHANTOM.json")
    assert verify(manifest.path, phantom).faults == ()
    assert len(manifest.items()) == COUNT
    assert manifest.num_folds == 5
    assert all(manifest.split("val", fold) for fold in range(5))
    assert manifest.testing and manifest.normal


def test_the_shipped_manifest_describes_the_default_phantom(phantom):
    from ultrarefiner_monai.data.integrity.verification import verify
    from ultrarefiner_monai.data.manifests.manifest import shipped_manifest

    assert verify(shipped_manifest("PHANTOM"), phantom).faults == ()
