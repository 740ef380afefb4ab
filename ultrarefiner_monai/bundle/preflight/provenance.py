"""Which trained models an evaluation scores, what they have learnt from, and whether they may be scored on the data it names."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ultrarefiner_monai.bundle.preflight.request import Request
from ultrarefiner_monai.data.datasets import parts_of
from ultrarefiner_monai.data.manifests.items import Item
from ultrarefiner_monai.data.manifests.manifest import Manifest, load_manifest, shipped_manifest
from ultrarefiner_monai.data.releases.copies.perceptual_hashes import near_duplicates_between
from ultrarefiner_monai.errors import DataError, shown
from ultrarefiner_monai.files import read_json
from ultrarefiner_monai.models.card_schema import check_card
from ultrarefiner_monai.systems.system import PROMPT_MAPS

EXTERNAL = "external"  # the split of all images with a lesion of a data set that the models have not seen
ORIGIN = ("dataset", "fold", "manifest_sha256")  # what a model's card says of its training data


def check_models(request: Request) -> None:
    """Refuse an evaluation of which it is not plain what it scores.

    Raises:
        DataError: a part of a cascade, a cascade and a model at once, or a model of a cascade that does not exist.
    """
    if not request.cascade:
        return
    starts = request.stage.starts
    if lacking := [key for key in starts if request.own.get(key) is None]:
        raise DataError(f"a cascade is evaluated from {len(starts)} models: add --{lacking[0]} FILE")
    if request.checkpoint is not None:
        raise DataError(
            f"checkpoint names a model of {request.stage.name}, {' and '.join(starts)} a cascade: evaluate one at a time"
        )
    for key, stage in starts.items():
        if not Path(request.own[key]).is_file():
            raise DataError(f"no {stage} model at {request.own[key]}; correct --{key} FILE")


def external_origin(request: Request) -> dict[str, Any]:
    """What the model of a request was trained on, which must not be the data set that it is evaluated on.

    Raises:
        DataError: no model is named, its card is missing, or it has learnt from the data set itself.
    """
    if request.own.get(PROMPT_MAPS) is not None:
        raise DataError(
            f"split 'external' with {PROMPT_MAPS}: maps are those of a cross-validation of the same data set; use a true "
            "prompt_source, or 'ultrarefiner predict' with --auto MODEL"
        )
    if request.stage.feeds:
        later = [stage for stage in request.system.stages if request.stage.name in stage.starts.values()]
        cascade = "".join(f" --{key} FILE" for stage in later[:1] for key in stage.starts)
        raise DataError(
            f"{request.stage.name} has no maps of another data set to refine; evaluate the cascade: "
            f"{later[0].name if later else 'a later stage'}'s evaluate.json with{cascade} --split external"
        )
    named = [request.own[key] for key in request.stage.starts] if request.cascade else [request.checkpoint]
    if named[0] is None:
        raise DataError("split 'external' needs the model it evaluates, trained on another data set: --checkpoint FILE")
    model = Path(named[0])
    card = read_json(
        model.with_suffix(".json"),
        dict,
        "it says what the model was trained on; external validation needs model.pt and model.json as a training wrote them",
    )
    check_card(model.with_suffix(".json"), card)
    if lacking := [key for key in ORIGIN if card.get(key) is None]:
        raise DataError(f"{model.with_suffix('.json')}: no {', '.join(lacking)}; use a card as a training wrote it")
    origin = {key: card[key] for key in ORIGIN}
    if set(parts_of(request.dataset)) & set(parts_of(origin["dataset"])):
        raise DataError(
            f"{model} was trained on {origin['dataset']}: split 'external' of {request.dataset} would score images that it "
            "has learnt from; use --split test, or another --dataset"
        )
    return origin


def overlap_with_training(
    origin: dict[str, Any], items: Sequence[Item], manifests: Path | None = None
) -> dict[str, Any]:
    """Which of `items` look like an image that the model has learnt from, or that its best epoch was chosen on.

    Images are compared by their perceptual hashes, mirrored or not (`perceptual_hashes`); ids are
    not, since releases number their images alike. The model's manifest is known by its hash alone: the shipped one of that
    name counts where its hash is equal, from the folder `manifests` or as shipped.

    Returns:
        `checked`, the `reason` why not (else None), and `images`: `{"id", "like"}`, the id of an item and of the
        training image, for each pair.
    """
    try:
        trained = _same_manifest(origin, manifests)
    except DataError as error:
        return {"checked": False, "reason": str(error), "images": []}
    seen = [*trained.training, *trained.normal]
    if unhashed := [item["id"] for item in (*items, *seen) if "phash16" not in item]:
        return {"checked": False, "reason": f"{shown(unhashed, 3)}: no phash16 in the manifest", "images": []}
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


def _same_manifest(origin: dict[str, Any], folder: Path | None) -> Manifest:
    manifest = load_manifest(shipped_manifest(origin["dataset"], folder))
    if manifest.sha256 != origin["manifest_sha256"]:
        raise DataError(
            f"the model was trained with manifest {origin['manifest_sha256'][:12]} of {origin['dataset']}, "
            f"{manifest.path} is {manifest.sha256[:12]}"
        )
    return manifest
