"""Which networks the systems build: variants, input sizes and the weights at hand. Sizes and strides are the networks' own."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from ultrarefiner_monai.bundle.preflight.request import Networks, Request, Substitutions
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.losses.distillation import Levels
from ultrarefiner_monai.models.card import card_or_empty
from ultrarefiner_monai.networks import lite_medsam_weights
from ultrarefiner_monai.networks.prompts.lesions import is_mix
from ultrarefiner_monai.networks.sam.build import VARIANTS as SAMS
from ultrarefiner_monai.networks.sam2.students import LITE_MEDSAM, LITE_MINI, MINI, student_of
from ultrarefiner_monai.networks.sam2.variants import IMAGE_SIZE as SAM2_SIZE
from ultrarefiner_monai.networks.sam2.variants import STRIDE as SAM2_STRIDE
from ultrarefiner_monai.networks.sam2.variants import VARIANTS as SAM2S
from ultrarefiner_monai.networks.transunet import STRIDE
from ultrarefiner_monai.networks.transunet import VARIANTS as TRANSUNETS
from ultrarefiner_monai.systems.classes import told_apart
from ultrarefiner_monai.systems.system import PROMPT_MAPS, PROMPT_SOURCE, TEACHER

COARSE_SIZES = {
    name: (settings["img_size"], STRIDE) for name, settings in TRANSUNETS.items()
}  # px: default side, stride
SAM_SIZES = {name: (variant.image_size, variant.patch) for name, variant in SAMS.items()}
PROMPTED_SIZES = {
    **dict.fromkeys(SAM2S, (SAM2_SIZE, SAM2_STRIDE)),
    LITE_MEDSAM: SAM_SIZES[LITE_MEDSAM],
    LITE_MINI: (SAM_SIZES[LITE_MEDSAM][0], SAM2_STRIDE),
}

LEAST_RATIO = 0.0625  # of an adapter: a channel of the 16 that the narrowest block has
PROMPT_CELLS = 32  # along a side: at 64 (LiteMedSAM, 256 px) AutoMedSAM's prompts see too little around them


def resolve(
    request: Request, demonstration: bool, substitutions: Substitutions, starts: Mapping[str, str | None] | None = None
) -> Networks:
    """UltraRefiner's: complete variants, sizes, weights and number of points; smaller networks where weights are missing.

    Args:
        request: what was asked for.
        demonstration: whether the embedded data set is used because none was named.
        substitutions: takes what is replaced.
        starts: models that the stage starts from.

    Raises:
        DataError: a variant or size that cannot be, or weights that are missing where nothing may be substituted.
    """
    own = dict(request.own)
    parameters: dict[str, Any] = {}
    key_of = {path: key for key, path in request.stage.settings.items()}
    if "coarse" in request.stage.parts:
        variant, size = key_of["coarse.variant"], key_of["coarse.size"]
        _resolve_coarse(own, variant, size, demonstration, substitutions)
        parameters |= {"coarse_variant": own[variant], "coarse_size": own[size]}
    if "refiner" in request.stage.parts:
        _check_encoder(own)
        trained = not demonstration and (request.mode == "evaluate" or bool((starts or {}).get("phase2_checkpoint")))
        resolve_sam(own, trained, substitutions)
        if own["points"] is None:
            own["points"] = 0 if own["variant"] == "lite_medsam" else 1  # LiteMedSAM knows boxes only
        parameters |= {key: own[key] for key in ("variant", "image_size", "fusion", "lora_rank")}
    return Networks(own, own["image_size"], parameters, weights_of(own))


def _check_encoder(own: Mapping[str, Any]) -> None:
    if own.get("encoder") == "tuned" and own["lora_rank"]:
        raise DataError(
            f"encoder tuned with lora_rank {own['lora_rank']}: LoRA is there to leave the encoder as it is; choose one"
        )


def resolve_automedsam(
    request: Request, demonstration: bool, substitutions: Substitutions, starts: Mapping[str, str | None] | None = None
) -> Networks:
    """AutoMedSAM's: complete variant, size, stride and SAM's weights.

    Raises:
        DataError: as `resolve`, what cannot be names of classes, or a stride that does not divide the embedding's grid.
    """
    own = dict(request.own)
    told_apart(own["classes"])
    _check_encoder(own)
    resolve_sam(own, not demonstration and request.mode == "evaluate", substitutions)
    cells = own["image_size"] // SAM_SIZES[own["variant"]][1]
    if own["stride"] is None:
        own["stride"] = cells // PROMPT_CELLS if cells % PROMPT_CELLS == 0 else 1
    elif cells % own["stride"]:
        raise DataError(f"stride {own['stride']}: expected a divisor of {cells}, the cells along an embedding's side")
    return Networks(own, own["image_size"], parameters_of(request, own), weights_of(own))


def resolve_uniultra(
    request: Request, demonstration: bool, substitutions: Substitutions, starts: Mapping[str, str | None] | None = None
) -> Networks:
    """UniUltra's: complete variant, size and SAM's weights.

    Raises:
        DataError: as `resolve`, or maps of lesions to be asked about that are missing or not asked for.
    """
    own = dict(request.own)
    if (own["prompt_source"] == "auto") != (own[PROMPT_MAPS] is not None):
        raise DataError(
            f"prompt_source {own['prompt_source']} with {PROMPT_MAPS} {own[PROMPT_MAPS]}: 'auto' asks about the lesions of "
            f"maps, --prompt_source auto --{PROMPT_MAPS} FOLDER with fold*/predictions in it; the others need none"
        )
    if TEACHER in request.stage.starts:
        _resolve_student(own, request, demonstration, substitutions, (starts or {}).get(TEACHER))
    else:
        resolve_sam(own, not demonstration and request.mode == "evaluate", substitutions, PROMPTED_SIZES, "mini")
    if own.get("sam_version") is None:
        own["sam_version"] = trained_card(request).get("network", {}).get("sam", {}).get("version")
    _check_prompting(own)
    return Networks(own, own["image_size"], parameters_of(request, own), weights_of(own))


def trained_card(request: Request) -> Mapping[str, Any]:
    """The card of the model that is evaluated or predicted with, empty where there is none, and in a training."""
    if request.mode == "train":
        return {}
    folder = request.output_dir or request.results_of(request.stage.name) / request.dataset / f"fold{request.fold}"
    return card_or_empty(Path(request.checkpoint or Path(folder, "model.pt")).with_suffix(".json"))


def _check_prompting(own: Mapping[str, Any]) -> None:
    """Refuse adapters without a channel and chances of prompts that are none, before anything is removed or written."""
    if 0 < own["adapter_ratio"] < LEAST_RATIO:
        raise DataError(
            f"adapter_ratio {own['adapter_ratio']}: expected 0, or at least {LEAST_RATIO}: a channel of the narrowest block"
        )
    mix = own.get("prompt_mix")
    if mix is not None and not is_mix(mix):
        raise DataError(f"prompt_mix {mix}: expected three chances, of box, points, box and point, that sum to 1")


def _resolve_student(
    own: dict[str, Any], request: Request, demonstration: bool, substitutions: Substitutions, teacher: str | None
) -> None:
    """Variant, size and levels of a student, as its teacher's card says, or in an evaluation its own.

    A teacher that is still to be trained has no card.

    Raises:
        DataError: an evaluation with a teacher, or what does not go with the teacher.
    """
    if request.mode == "evaluate" and own.get(TEACHER) is not None:
        raise DataError(f"{TEACHER} is what a student learns from; an evaluation scores the student: --checkpoint FILE")
    if own.pop("sam_checkpoint", None) is not None:
        raise DataError(
            f"sam_checkpoint: a student has the decoder of its teacher, and an encoder of its own; name --{TEACHER} FILE"
        )
    card = card_or_empty(Path(teacher).with_suffix(".json")) if teacher else trained_card(request)
    taught = card.get("network", {}).get("sam", {})
    given = own["variant"]
    if taught and given is not None and student_of(given) != student_of(taught["variant"]):
        raise DataError(
            f"variant {given}: its student is {student_of(given)}, and that of the {f'teacher {teacher}' if teacher else 'model'}"
            f", {taught['variant']}, is {student_of(taught['variant'])}; leave --variant out, or name another"
        )
    own["variant"] = taught.get("variant", given or MINI)
    own["image_size"] = own["image_size"] or taught.get("image_size")
    if taught and own["image_size"] != taught["image_size"]:
        raise DataError(
            f"image_size {own['image_size']}: a student sees images as its teacher does, {taught['image_size']}; leave it out"
        )
    if demonstration and not teacher and own["variant"] != student_of(own["variant"]):
        demonstrated = {"variant": own["variant"], "image_size": None}
        resolve_sam(demonstrated, False, substitutions, PROMPTED_SIZES, MINI)  # as for the teacher's own training
        own["variant"] = demonstrated["variant"]
    own["variant"] = student_of(own["variant"])
    _check("variant", own["variant"], PROMPTED_SIZES, "image_size", own["image_size"])
    own["image_size"] = own["image_size"] or PROMPTED_SIZES[own["variant"]][0]
    _resolve_levels(own, min(own["adapter_ratio"], taught.get("adapter_ratio", math.inf)))
    if request.mode == "train" and own["finetune_epochs"] >= request.epochs:
        raise DataError(
            f"finetune_epochs {own['finetune_epochs']}: expected fewer than all {request.epochs} epochs, whose first are "
            "the encoder's"
        )


def _resolve_levels(own: dict[str, Any], adapter_ratio: float) -> None:
    """The features that student and teacher have in common; `adapter_ratio`: the smaller one of both."""
    allowed: tuple[str, ...]
    if own["variant"] == LITE_MINI:
        allowed, reason = ("embedding",), "a LiteMedSAM teacher has no stages like its student's"
    elif adapter_ratio == 0:
        allowed, reason = ("fpn", "embedding"), "without adapters there is nothing to compare of them"
    else:
        allowed, reason = get_args(Levels), ""
    if own.get("levels") not in (None, *allowed):
        raise DataError(f"levels {own['levels']}: {reason}; choose {' or '.join(allowed)}")
    own["levels"] = own.get("levels") or allowed[0]


def parameters_of(request: Request, own: Mapping[str, Any]) -> dict[str, Any]:
    """What a run's parameters tell of the stage's own keys: those that are no files or models."""
    stage = request.stage
    prompts = (PROMPT_SOURCE, PROMPT_MAPS) if stage.prompted else ()
    return {key: own[key] for key in (*stage.settings, *stage.completed, *prompts) if key in own}


def weights_of(own: Mapping[str, Any]) -> dict[str, str]:
    """Files of published weights by the name of their hash in the run's parameters."""
    return {"sam_weights_sha256": own["sam_checkpoint"]} if own.get("sam_checkpoint") else {}


def _resolve_coarse(
    own: dict[str, Any], key: str, size_key: str, demonstration: bool, substitutions: Substitutions
) -> None:
    _check(key, own[key], COARSE_SIZES, size_key, own[size_key])
    if demonstration and own[key] != "tiny":
        substitutions.add(f"TransUNet 'tiny' in place of '{own[key]}'")
        own[key] = "tiny"
    own[size_key] = own[size_key] or COARSE_SIZES[own[key]][0]


def resolve_sam(
    own: dict[str, Any],
    trained: bool,
    substitutions: Substitutions,
    sizes: Mapping[str, tuple[int, int]] = SAM_SIZES,
    untrained: str = "tiny",
) -> None:
    """Variant of `sizes`, size and weights; no weights are looked for where a trained model brings its own.

    `untrained` is the variant for which there are none.
    """
    _check("variant", own["variant"], sizes, "image_size", own["image_size"])
    if own.get("sam_checkpoint") is None and own["variant"] != untrained and not trained:
        _find_weights(own, substitutions, untrained)
    if own.get("sam_checkpoint") == "random":
        own["sam_checkpoint"] = None
    own["image_size"] = own["image_size"] or sizes[own["variant"]][0]


def _find_weights(own: dict[str, Any], substitutions: Substitutions, untrained: str) -> None:
    missing = None
    try:
        weights = str(lite_medsam_weights())
    except (FileNotFoundError, ValueError) as error:
        missing = str(error)
    if own["variant"] != "lite_medsam":
        message = f"no weights for SAM {own['variant']} (--sam_checkpoint FILE)"
        own["variant"] = untrained if missing else "lite_medsam"
        substitutions.add(
            f"{message}, SAM '{own['variant']}' takes its place",
            f"{message}; or --variant lite_medsam (UltraRefiner's cross-validation: --sam_variant), whose weights 'make install' "
            "brings",
        )
    elif missing:
        substitutions.add(f"{missing}; an untrained SAM '{untrained}' takes its place", missing)
        own["variant"] = untrained
    if own["variant"] == "lite_medsam":
        own["sam_checkpoint"] = weights


def _check(key: str, name: str, sizes: Mapping[str, tuple[int, int]], size_key: str, size: int | None) -> None:
    if name not in sizes:
        raise DataError(f"{key} '{name}': expected one of {', '.join(sizes)}")
    stride = sizes[name][1]
    if size is not None and (not isinstance(size, int) or size <= 0 or size % stride):
        raise DataError(f"{size_key} {size}: expected a positive multiple of {stride}")
