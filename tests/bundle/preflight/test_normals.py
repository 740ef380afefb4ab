"""Which normals a model is trained with."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from ultrarefiner_monai.bundle.preflight.normals import choose_normals
from ultrarefiner_monai.data.manifests.manifest import Manifest

FOLDS = {f"n{number:02}": number % 5 for number in range(50)}  # and ten normals held out with the test set


@pytest.fixture
def manifest() -> Manifest:
    normal = [{"id": name, "fold": fold} for name, fold in FOLDS.items()] + [{"id": f"t{n}"} for n in range(10)]
    return Manifest("BUSI", 5, 42, "", [], [], normal, [], Path(), {})


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (0.2, 15), (0.25, 20), (0.01, 1)])
def test_share_is_of_all_training_images(manifest, share, expected):
    assert len(choose_normals(manifest, 0, lesions=60, share=share)) == expected


def test_choice_does_not_depend_on_the_order(manifest):
    shuffled = replace(manifest, normal=random.Random(1).sample(manifest.normal, len(manifest.normal)))
    chosen = choose_normals(manifest, 0, 60, 0.2)
    assert choose_normals(shuffled, 0, 60, 0.2) == chosen
    assert [item["id"] for item in chosen] == sorted(item["id"] for item in chosen)
    assert choose_normals(replace(manifest, seed=43), 0, 60, 0.2) != chosen


@pytest.mark.parametrize("fold", range(5))
def test_no_normal_is_both_trained_on_and_evaluated(manifest, fold):
    trained = {item["id"] for item in choose_normals(manifest, fold, 60, 0.4)}
    evaluated = {item["id"] for item in manifest.split("normal", fold)}
    assert len(trained) == 40
    assert evaluated == {f"t{n}" for n in range(10)} | {name for name, k in FOLDS.items() if k == fold}
    assert not trained & evaluated


def test_too_few_are_all_taken_and_told(manifest, caplog):
    assert len(choose_normals(manifest, 0, 60, 0.5)) == 40
    assert [record.message for record in caplog.records] == [
        "BUSI: normal_share 0.5 of fold 0 asks for 60 normals, 40 are there and taken"
    ]
