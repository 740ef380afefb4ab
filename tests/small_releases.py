"""Small data sets and the smallest networks, so that whole bundles run in seconds."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ultrarefiner_monai.data.manifests.build import build_document, write_manifest
from ultrarefiner_monai.data.manifests.splits import Options
from ultrarefiner_monai.data.phantom.phantom import generate_phantom
from ultrarefiner_monai.data.releases.records import Record, Source
from ultrarefiner_monai.data.releases.release import read_release
from ultrarefiner_monai.systems import find_stage, find_system

SMALL = {"variant": "tiny", "image_size": 64, "epochs": 1, "batch_size": 4}
TINY = {
    "phase1": SMALL,
    "phase2": {**SMALL, "cache_embeddings": False},
    "phase3": {**SMALL, "cache_embeddings": False, "coarse_variant": "tiny", "coarse_size": 64},
}
TINY_OF_OTHERS = {  # stages that the small study is not made of
    "automedsam": {**SMALL, "classes": "benign+malignant", "cache_embeddings": False},
    "adapt": {**SMALL, "variant": "lite_medsam", "sam_checkpoint": "random"},
    "distill": {**SMALL, "variant": "lite_medsam"},
    "unet": {"image_size": 64, "unet_features": "8+16+16", "epochs": 1, "batch_size": 4},
    "joint": {**SMALL, "variant": "mini", "unet_features": "8+16+16"},
}
BUSI = [
    f"{kind}/{kind} ({n})" for kind, count in (("benign", 4), ("malignant", 4), ("normal", 8)) for n in range(count)
]
PAIR = {f"BUSI/{name}.png": f"BUSI/{name}_mask.png" for name in BUSI}
PAIR |= {f"BUS/original/{n:06}.png": f"BUS/GT/{n:06}.png" for n in range(6)}  # image -> mask of both


@pytest.fixture(scope="session")
def small_release(tmp_path_factory) -> dict[str, str]:
    """Keys of a run on 16 phantom pictures in two folds."""
    root = tmp_path_factory.mktemp("release") / "PHANTOM"
    generate_phantom(root, count=16, seed=3)
    return keys_of("PHANTOM", root)


@pytest.fixture(scope="session")
def small_pair(tmp_path_factory) -> dict[str, str]:
    """Keys of a run on two small releases at once, of smoothed noise with squares for lesions and with 8 normals."""
    root = tmp_path_factory.mktemp("pair")
    generator = np.random.default_rng(0)
    for number, (image, mask) in enumerate(PAIR.items()):
        truth = np.zeros((50, 70), dtype=np.uint8)
        if "normal" not in image:
            truth[10:30, 20 : 30 + number] = 255
        noise = Image.fromarray(generator.integers(0, 256, (10, 14), dtype=np.uint8))
        for path, picture in ((image, noise.resize((70, 50))), (mask, Image.fromarray(truth))):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            picture.save(root / path)
    return keys_of("BUSI+BUS", root)


@pytest.fixture(scope="session")
def small_patients(tmp_path_factory):
    """Keys of a run on ten patients of five pictures in two folds: noise with a dark square, two of five without one."""
    root = tmp_path_factory.mktemp("patients") / "BUS_UCLM"
    generator = np.random.default_rng(0)
    lines = ["Image;Label"]
    for patient, number in ((f"P{letter}", number) for letter in "ABCDEFGHIJ" for number in (1, 2, 3, 10, 11)):
        noise = np.asarray(
            Image.fromarray(generator.integers(90, 256, (10, 14), dtype=np.uint8)).resize((70, 50))
        ).copy()
        truth = np.zeros((50, 70, 3), dtype=np.uint8)
        if number not in (2, 11):
            noise[10:30, 20:45], truth[10:30, 20:45, 1] = 10, 255
        lines.append(f"{patient}_{number}.png;{'normal' if number in (2, 11) else 'benign'}")
        for folder, picture in (("images", noise), ("masks", truth)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(root / folder / f"{patient}_{number}.png")
    (root / "INFO.csv").write_text("\n".join(lines) + "\n")
    return keys_of("BUS_UCLM", root)


def keys_of(name: str, root: Path) -> dict[str, str]:
    """Keys of a run on the data set `name` at `root`, with a manifest of two folds beside it."""
    manifest = root.parent / f"{name}.json"
    write_manifest(build_document(read_release(name, str(root)), Options(folds=2)), manifest)
    return {"dataset": name, "data_root": str(root), "manifest": str(manifest)}


@pytest.fixture(scope="session")
def small_cv(small_release, tmp_path_factory, migrated_database):
    """A complete cross-validation of the small release: two folds through three phases, with its table."""
    return _cross_validated(small_release, tmp_path_factory.mktemp("study"), migrated_database, TINY)


@pytest.fixture(scope="session")
def class_cv(small_release, tmp_path_factory, migrated_database):
    """The same release, two folds through the stage that tells classes apart."""
    return _cross_validated_other(small_release, tmp_path_factory.mktemp("classes"), migrated_database, "automedsam")


@pytest.fixture(scope="session")
def prompted_cv(small_release, tmp_path_factory, migrated_database):
    """The same release, two folds through the stages that are asked about lesions, a teacher and its student."""
    return _cross_validated_other(small_release, tmp_path_factory.mktemp("prompted"), migrated_database, "uniultra")


@pytest.fixture(scope="session")
def steps_cv(small_release, tmp_path_factory, migrated_database):
    """The same release, two folds through a U-Net and the network of three steps that starts from it."""
    return _cross_validated_other(small_release, tmp_path_factory.mktemp("steps"), migrated_database, "rfmedsam2")


def _cross_validated_other(release: dict[str, str], out: Path, database: Path, system: str):
    stages = [stage.name for stage in find_system(system).stages]
    settings = {stage: {**TINY_OF_OTHERS[stage], "log_model": False} for stage in stages}
    return _cross_validated(release, out, database, settings, system)


@pytest.fixture
def cv_of(request):
    """The small cross-validation that has a stage, by the stage's name."""
    fixtures = {
        "ultrarefiner": "small_cv",
        "automedsam": "class_cv",
        "uniultra": "prompted_cv",
        "rfmedsam2": "steps_cv",
    }
    return lambda stage: request.getfixturevalue(fixtures[find_stage(stage)[0].name])


def _cross_validated(
    release: dict[str, str], out: Path, database: Path, settings: dict[str, dict], system: str = "ultrarefiner"
):
    """All folds through all stages of a system, with the table, tracked in a copy of an empty MLflow database."""
    from ultrarefiner_monai.cross_validation.conduct import conduct
    from ultrarefiner_monai.cross_validation.scores import markdown
    from ultrarefiner_monai.cross_validation.tasks import CrossValidation

    store = shutil.copy(database, out / "mlruns.db")
    shared = {"manifest": release["manifest"], "tracking_uri": f"sqlite:///{store}"}
    method = find_system(system)
    cv = CrossValidation("PHANTOM", release["data_root"], out, None, shared, settings, system=method)
    (lines,) = conduct([cv])
    cv.table = markdown(lines)
    return cv


@pytest.fixture(scope="session")
def make_record() -> Callable[..., Record]:
    """Factory of records of images that do not exist; a hash drawn at random unless one is given."""

    def make(name: str, label: str = "benign", patient: str = "", phash: str | None = None, **facts) -> Record:
        masks = facts.pop("masks", (f"masks/{name}.png",))
        digits = f"{random.Random(name).getrandbits(256):064x}"
        defaults = {
            "size": (100, 80),
            "mask_sizes": ((100, 80),) * len(masks),
            "lesion_pixels": 0 if label == "normal" else 500,
            "sha256": digits,
            "mask_sha256": (digits,) * len(masks),
        }
        source = Source(name, f"images/{name}.png", masks, label, patient, facts.pop("official", ""))
        return Record(source=source, phash16=phash or digits, **{**defaults, **facts})

    return make
