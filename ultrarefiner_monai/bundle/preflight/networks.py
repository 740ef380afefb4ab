"""Which networks a run builds: variants, input sizes, the weights at hand and the models that it starts from."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ultrarefiner_monai.bundle.paths import results_root
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.networks import lite_medsam_weights

if TYPE_CHECKING:
    from ultrarefiner_monai.bundle.preflight.plan import Plan

COARSE_SIZES = {"r50_vit_b16": 224, "tiny": 128}
SAM_SIZES = {"vit_b": 1024, "vit_l": 1024, "vit_h": 1024, "lite_medsam": 256, "tiny": 128}
STRIDE = 16  # of TransUNet and of SAM's ViT; also what LiteMedSAM's grid is padded to


def check_networks(plan: "Plan") -> None:
    """Refuse a variant that does not exist and a size that no patch grid divides.

    Raises:
        DataError: says what is expected.
    """
    if plan.variant is not None:
        _check_network("variant", plan.variant, SAM_SIZES, "image_size", plan.image_size)
    if plan.coarse_variant is not None:
        keys = ("variant", "image_size") if plan.phase == "phase1" else ("coarse_variant", "coarse_size")
        _check_network(keys[0], plan.coarse_variant, COARSE_SIZES, keys[1], plan.coarse_size)


def resolve_networks(plan: "Plan") -> None:
    """Complete variants, sizes, SAM's weights and the number of points; smaller networks where weights are missing.

    Raises:
        DataError: weights are missing and the plan is strict.
    """
    if plan.coarse_variant is not None:
        if plan.demonstration and plan.coarse_variant != "tiny":
            plan.substitute(f"TransUNet 'tiny' in place of '{plan.coarse_variant}'")
            plan.coarse_variant = "tiny"
        plan.coarse_size = plan.coarse_size or COARSE_SIZES[plan.coarse_variant]
    if plan.variant is not None:
        _resolve_sam(plan)
        plan.image_size = plan.image_size or SAM_SIZES[plan.variant]
        plan.points = (0 if plan.variant == "lite_medsam" else 1) if plan.points is None else plan.points


def resolve_start(plan: "Plan", phase: str, named: str | None) -> str | None:
    """The trained model of `phase` that phase 3 starts from: `named`, or the same fold's; None where there is none.

    Raises:
        DataError: there is none and the plan is strict.
    """
    path = Path(
        named or f"{results_root(plan.bundle_root).parent}/{phase}/models/{plan.dataset}/fold{plan.fold}/model.pt"
    )
    if path.is_file():
        return str(path)
    message = f"no {phase} model at {path}"
    if plan.strict:
        raise DataError(f"{message}; train {phase} on fold {plan.fold} first or name --{phase}_checkpoint FILE")
    start = "coarse network starts untrained" if phase == "phase1" else "refiner starts from SAM's own weights"
    plan.substitute(f"{message}, the {start}")
    return None


def _resolve_sam(plan: "Plan") -> None:
    trained = not plan.demonstration and (plan.mode == "evaluate" or plan.phase2_checkpoint is not None)
    if plan.sam_checkpoint is not None or plan.variant == "tiny" or trained:
        return
    if str(plan.variant).startswith("vit"):
        message = f"no weights for SAM {plan.variant} (--sam_checkpoint FILE)"
        if plan.strict:
            raise DataError(f"{message}; or --variant lite_medsam, whose weights 'make install' brings")
        plan.variant = "tiny" if _missing_lite_medsam() else "lite_medsam"
        plan.substitute(f"{message}, SAM '{plan.variant}' takes its place")
    if plan.variant == "lite_medsam":
        missing = _missing_lite_medsam()
        if missing and plan.strict:
            raise DataError(missing)
        if missing:
            plan.substitute(f"{missing}; an untrained SAM 'tiny' takes its place")
            plan.variant = "tiny"
        else:
            plan.sam_checkpoint = str(lite_medsam_weights())


def _check_network(key: str, name: str, sizes: Iterable[str], size_key: str, size: int | None) -> None:
    if name not in sizes:
        raise DataError(f"{key} '{name}': expected one of {', '.join(sizes)}")
    if size is not None and (not isinstance(size, int) or size <= 0 or size % STRIDE):
        raise DataError(f"{size_key} {size}: expected a positive multiple of {STRIDE}")


def _missing_lite_medsam() -> str | None:
    """Why LiteMedSAM's weights cannot be used, or None."""
    try:
        lite_medsam_weights()
    except (FileNotFoundError, ValueError) as error:
        return str(error)
    return None
