"""A small data set and the smallest networks, so that whole bundles run in seconds."""

from pathlib import Path

import pytest

from ultrarefiner_monai.data.manifest_build import build_document, release_records, write_manifest
from ultrarefiner_monai.data.phantom import generate_phantom

SMALL = {"variant": "tiny", "image_size": 64, "epochs": 1, "batch_size": 4}
TINY = {
    "phase1": SMALL,
    "phase2": {**SMALL, "cache_embeddings": False},
    "phase3": {**SMALL, "cache_embeddings": False, "coarse_variant": "tiny", "coarse_size": 64},
}


@pytest.fixture(scope="session")
def small_release(tmp_path_factory) -> dict[str, str]:
    """Keys of a run on 16 phantom pictures in two folds."""
    root = tmp_path_factory.mktemp("release") / "PHANTOM"
    generate_phantom(root, count=16, seed=3)
    manifest = root.parent / "PHANTOM.json"
    write_manifest(build_document("PHANTOM", release_records("PHANTOM", str(root)), folds=2), manifest)
    return {"dataset": "PHANTOM", "data_root": str(root), "manifest": str(manifest)}


@pytest.fixture(scope="session")
def small_study(small_release, tmp_path_factory):
    """A complete cross-validation of the small release: two folds through three phases, with its table."""
    from ultrarefiner_monai.bundle.study import Study
    from ultrarefiner_monai.reports.cross_validation import conduct

    out = tmp_path_factory.mktemp("study")
    shared = {"manifest": small_release["manifest"], "tracking_uri": f"sqlite:///{out / 'mlruns.db'}"}
    study = Study("PHANTOM", small_release["data_root"], Path(out), None, shared, TINY)
    study.table = conduct(study, ("phase1", "phase2", "phase3"))
    return study
