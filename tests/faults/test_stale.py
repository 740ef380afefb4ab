"""What was computed from other weights, sizes, images or manifests is refused, and the message says how to make it anew."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ultrarefiner_monai.bundle.embeddings import CachedEmbeddings
from ultrarefiner_monai.bundle.prepare_batch import PrepareRefinement
from ultrarefiner_monai.data.manifests.manifest import load_manifest
from ultrarefiner_monai.data.predictions import CoarseMaps, PredictionIndex, write_map
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.networks import build_sam

pytestmark = pytest.mark.fault(19)
IMAGE = {"sha256": "a" * 64, "width": 40, "height": 30}


def embeddings(folder: Path, seed: int = 0, size: int = 64, amp: bool = False) -> CachedEmbeddings:
    """The cache of a tiny SAM whose weights `seed` decides."""
    torch.manual_seed(seed)
    return CachedEmbeddings(build_sam("tiny", size), str(folder), amp)


def embed(cache: CachedEmbeddings, picture: torch.Tensor | None = None, **facts: Any) -> torch.Tensor:
    """What the network gets for an image, of which the picture itself is drawn anew each time unless one is given."""
    item = {**IMAGE, **facts}
    batch = {key: [value] for key, value in item.items()}
    side = cache.sam.image_size
    batch["image"] = torch.rand(1, 1, side, side) if picture is None else picture
    return PrepareRefinement(coarse=False, embeddings=cache)(batch)[3]["embedding"]


def test_an_embedding_comes_again_for_the_same_image_and_encoder(tmp_path):
    assert torch.equal(embed(embeddings(tmp_path)), embed(embeddings(tmp_path)))


@pytest.mark.parametrize("other", [{"seed": 1}, {"size": 128}, {"amp": True}])
def test_embeddings_of_other_weights_sizes_and_arithmetic(other, tmp_path):
    """They lie in folders of their own, and are refused where somebody puts them into another's."""
    first, second = embeddings(tmp_path), embeddings(tmp_path, **other)
    before = embed(first)
    after = embed(second)
    assert before.shape != after.shape or not torch.equal(before, after)
    shutil.rmtree(second.cache.folder)
    shutil.copytree(first.cache.folder, second.cache.folder)
    with pytest.raises(DataError, match=r"npz: stale embedding, expected \S+, found \S+; delete the file, or choose"):
        embed(second)
    for file in second.cache.folder.rglob("*.npz"):
        file.unlink()
    assert embed(second).shape == after.shape


@pytest.mark.parametrize("other", [{"sha256": "b" * 64}, {"width": 41}, {"height": 31}])
def test_an_image_or_grid_of_another_manifest_has_its_own_embedding(other, tmp_path):
    cache = embeddings(tmp_path)
    first = embed(cache)
    assert not torch.equal(embed(cache, **other), first)
    assert torch.equal(embed(cache), first)


def test_an_augmented_image_has_the_embedding_of_its_own_pixels(tmp_path):
    cache = embeddings(tmp_path)
    plain, picture = embed(cache, view=0), torch.rand(1, 1, 64, 64)
    augmented = embed(cache, picture, view=1)
    assert not torch.equal(augmented, plain)
    torch.testing.assert_close(augmented, cache.sam.embed(picture), atol=2e-3, rtol=0)
    assert torch.equal(embed(embeddings(tmp_path), picture, view=2), augmented)
    assert not torch.equal(embed(cache, picture + 0.01, view=1), augmented)
    assert torch.equal(embed(cache, view=0), plain) and len(list(tmp_path.rglob("*.npz"))) == 3


@pytest.fixture
def study(small_cv, tmp_path) -> tuple[CoarseMaps, Path]:
    """The coarse maps of the small study and a copy of its manifest, which a case may change."""
    for fold in range(2):
        source, target = small_cv.folder("phase1", fold), tmp_path / "phase1" / f"fold{fold}"
        shutil.copytree(source / "predictions", target / "predictions")
        shutil.copy(source / "model.json", target)
    manifest = Path(shutil.copy(small_cv.shared["manifest"], tmp_path / "PHANTOM.json"))
    return CoarseMaps(tmp_path / "phase1", load_manifest(manifest)), manifest


def changed(path: Path, **keys: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **keys}), encoding="utf-8")


def paired(study: tuple[CoarseMaps, Path]) -> list[dict[str, Any]]:
    maps, manifest = study
    found = load_manifest(manifest)
    return CoarseMaps(maps.folder, found).pair(found.split("train", 0), "train")


def test_maps_of_the_study_itself_are_taken(study):
    assert len(paired(study)) > 2


def test_a_folds_images_need_the_maps_of_that_fold_alone(study):
    maps, manifest = study
    shutil.rmtree(maps.folder / "fold1")
    assert len(maps.pair(load_manifest(manifest).split("val", 0), "val")) > 2
    with pytest.raises(DataError, match=r"fold1/predictions/predictions.json: missing"):
        paired(study)


@pytest.mark.parametrize("what", ["weights", "image", "manifest", "size", "fold"])
def test_out_of_fold_maps_of_something_else(what, study):
    maps, manifest = study
    document = json.loads(manifest.read_text(encoding="utf-8"))
    folder = maps.folder / "fold1"
    expected = "stale"
    if what == "weights":
        changed(folder / "model.json", sha256="c" * 64)
    elif what == "image":  # its hash is part of the manifest
        document["training"][0]["sha256"] = "d" * 64
        manifest.write_text(json.dumps(document), encoding="utf-8")
    elif what == "manifest":
        changed(manifest, seed=document["seed"] + 1)
    elif what == "size":
        first = PredictionIndex.load(folder / "predictions").items[0]
        write_map(folder / "predictions" / first["file"], np.zeros((5, 4)))
        expected = "wrong-sized"
    else:
        other = json.loads((maps.folder / "fold0/model.json").read_text())["sha256"]
        changed(folder / "predictions/predictions.json", fold=0, model_sha256=other)
        expected = "wrong fold"
    with pytest.raises(DataError, match=rf"run the inference of these folds again: {expected} \d+ \(") as caught:
        paired(study)
    assert "\n" not in str(caught.value)
