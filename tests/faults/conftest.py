"""Fixtures of the tests of faults."""

from contextlib import ExitStack

import numpy as np
import pytest
from made_dicom import write_dicom
from made_results import MadeResults
from small_disks import tmpfs
from untrained import save_untrained
from verbs import Given

from ultrarefiner_monai.cross_validation.scores import score
from ultrarefiner_monai.cross_validation.tasks import CrossValidation
from ultrarefiner_monai.data.manifests.build import build_document, write_manifest
from ultrarefiner_monai.data.manifests.splits import Options
from ultrarefiner_monai.data.phantom.phantom import generate_phantom
from ultrarefiner_monai.data.releases.release import read_release
from ultrarefiner_monai.metrics.scores_file import PER_IMAGE, write_rows


@pytest.fixture(scope="session")
def given(tmp_path_factory, migrated_database) -> Given:
    """Inputs of all verbs: an untrained model of the first stage, pictures, a release, and the results of a study."""
    base = tmp_path_factory.mktemp("given")
    release, manifest = base / "PHANTOM", base / "PHANTOM.json"
    generate_phantom(release, count=8, seed=3)
    write_manifest(build_document(read_release("PHANTOM", str(release)), Options(folds=2)), manifest)
    picture = base / "picture.png"
    picture.write_bytes(next((release / "images").iterdir()).read_bytes())
    facts = {"dataset": "PHANTOM", "fold": 0, "manifest_sha256": "0" * 64, "epoch": 3, "metric": {"coarse_dice": 0.75}}
    model, _ = save_untrained(base / "model" / "model.pt", "phase1", **facts, version="0.1.0")
    made = MadeResults(base / "made")
    study = CrossValidation("PHANTOM", str(made.root), made.folder, shared={"manifest": str(made.manifest)})
    write_rows(made.folder / PER_IMAGE, score(study, made.root).images)
    dicom = write_dicom(base / "scan.dcm", np.full((40, 50), 90, np.uint8))
    return Given(model, picture, dicom, release, manifest, made.folder, migrated_database)


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a file system of a size, such as "256k", at a folder of the test."""
    with ExitStack() as stack:
        yield lambda size: stack.enter_context(tmpfs(tmp_path / "disk", size))
