"""Which trained models an evaluation scores, what they have learnt from, and whether they may be scored on the data it names."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ultrarefiner_monai.data.datasets import parts_of
from ultrarefiner_monai.data.manifests.items import Item
from ultrarefiner_monai.data.manifests.manifest import Manifest, load_manifest, shipped_manifest
from ultrarefiner_monai.data.releases.near_duplicates import near_duplicates_between
from ultrarefiner_monai.errors import DataError

if TYPE_CHECKING:
    from ultrarefiner_monai.bundle.preflight.plan import Plan

EXTERNAL = "external"  # the split of all images with a lesion of a data set that the models have not seen
ORIGIN = ("dataset", "fold", "manifest_sha256")  # what a model's card says of its training data


def check_models(plan: "Plan") -> None:
    """Refuse an evaluation of which it is not plain what it scores.

    Raises:
        DataError: one half of a cascade, a cascade and a model at once, or a model of a cascade that does not exist.
    """
    halves = [plan.phase1_checkpoint, plan.phase2_checkpoint]
    if plan.phase != "phase3" or plan.mode != "evaluate" or halves == [None, None]:
        return
    if None in halves:
        lacking = "phase1" if plan.phase1_checkpoint is None else "phase2"
        raise DataError(f"a cascade is evaluated from two models, one is named: add --{lacking}_checkpoint FILE")
    if plan.checkpoint is not None:
        raise DataError(
            "checkpoint names a model of phase 3, phase1_checkpoint and phase2_checkpoint a cascade: evaluate one at a time"
        )
    for phase, path in plan.models.items():
        if not path.is_file():
            raise DataError(f"no {phase} model at {path}; correct --{phase}_checkpoint FILE")


def external_origin(plan: "Plan") -> dict[str, Any]:
    """Data set, fold and manifest hash that the plan's first model was trained on, which is not what it is evaluated on.

    Raises:
        DataError: no model is named, its card is missing, or it has learnt from the data set itself.
    """
    if plan.phase == "phase2":
        raise DataError(
            "phase 2 has no coarse maps of another data set; evaluate the cascade: "
            "phase 3's evaluate.json with --phase1_checkpoint FILE --phase2_checkpoint FILE --split external"
        )
    if plan.checkpoint is None and not plan.cascade:
        raise DataError("split 'external' needs the model it evaluates, trained on another data set: --checkpoint FILE")
    model = next(iter(plan.models.values()))
    origin = _read_origin(model)
    if set(parts_of(plan.dataset)) & set(parts_of(origin["dataset"])):
        raise DataError(
            f"{model} was trained on {origin['dataset']}: split 'external' of {plan.dataset} would score images that it "
            "has learnt from; use --split test, or another --dataset"
        )
    return origin


def overlap_with_training(origin: dict[str, Any], items: Sequence[Item]) -> dict[str, Any]:
    """Which of `items` look like an image that the model has learnt from, or that its best epoch was chosen on.

    Images are compared by their perceptual hashes, mirrored or not (`near_duplicates`); ids are
    not, since releases number their images alike. The model's manifest is known by its hash alone: the shipped one of that
    name counts where its hash is equal.

    Returns:
        `checked`, the `reason` why not (else None), and `images`: `{"id", "like"}`, the id of an item and of the
        training image, for each pair.
    """
    try:
        trained = _same_manifest(origin)
    except DataError as error:
        return {"checked": False, "reason": str(error), "images": []}
    seen = [*trained.training, *trained.normal]
    pairs = near_duplicates_between(
        [item["phash16"] for item in items],
        [item["phash16"] for item in seen],
    )
    return {
        "checked": True,
        "reason": None,
        "images": [{"id": items[i]["id"], "like": seen[j]["id"]} for i, j in pairs],
    }


def describe_overlap(overlap: dict[str, Any], images: int) -> str | None:
    """The warning that an overlap deserves, or None."""
    if not overlap["checked"]:
        return f"not checked whether the model has learnt from images like these: {overlap['reason']}"
    alike = {pair["id"] for pair in overlap["images"]}
    if not alike:
        return None
    return (
        f"{len(alike)} of {images} images are near-duplicates of images that the model has learnt from; they are scored all "
        "the same, metrics.json lists them"
    )


def _read_origin(model: Path) -> dict[str, Any]:
    """What the card beside `model` says of its training data; `load_model` checks that the card is the file's."""
    card = model.with_suffix(".json")
    try:
        content = json.loads(card.read_text(encoding="utf-8"))
        return {key: content[key] for key in ORIGIN}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{model}: its card {card.name}, which says what it was trained on, cannot be used "
            f"({type(error).__name__}: {error}); external validation needs model.pt and model.json as a training wrote them"
        ) from error


def _same_manifest(origin: dict[str, Any]) -> Manifest:
    manifest = load_manifest(shipped_manifest(origin["dataset"]))
    if manifest.sha256 != origin["manifest_sha256"]:
        raise DataError(
            f"the model was trained with manifest {origin['manifest_sha256'][:12]} of {origin['dataset']}, "
            f"{manifest.path} is {manifest.sha256[:12]}"
        )
    return manifest
