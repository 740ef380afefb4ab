"""Which networks RFMedSAM 2 is made of: its U-Net, the Segment Anything model that it asks, and what is done with them."""

from collections.abc import Mapping
from typing import Any

import torch

from ultrarefiner_monai.bundle.preflight.networks import (
    PROMPTED_SIZES,
    parameters_of,
    resolve_sam,
    trained_card,
    weights_of,
)
from ultrarefiner_monai.bundle.preflight.request import Networks, Request, Substitutions
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.losses import StepsLoss
from ultrarefiner_monai.networks.rfmedsam2.adapters import read_places
from ultrarefiner_monai.networks.rfmedsam2.unet import SMALL, FrameUnet
from ultrarefiner_monai.networks.sam2.students import LITE_MINI
from ultrarefiner_monai.systems.classes import told_apart

SIZES = {name: sizes for name, sizes in PROMPTED_SIZES.items() if name != LITE_MINI}
UNTRAINED = "mini"  # the SAM 2 that there are no weights for


def resolve_rfmedsam2(
    request: Request, demonstration: bool, substitutions: Substitutions, starts: Mapping[str, str | None] | None = None
) -> Networks:
    """RFMedSAM 2's: complete U-Net, variant, size and SAM's weights; a small U-Net in a demonstration.

    Raises:
        DataError: as `networks.resolve`, or stages of a U-Net, places of adapters or weights of the steps that cannot be.
    """
    own = dict(request.own)
    _resolve_unet(own, demonstration, substitutions)
    if "adapters" in request.stage.settings:
        resolve_sam(own, not demonstration and request.mode == "evaluate", substitutions, SIZES, UNTRAINED)
        if own.get("sam_version") is None:
            own["sam_version"] = trained_card(request).get("network", {}).get("sam", {}).get("version")
        _check_steps(own)
    elif own.get("true_boxes"):
        raise DataError(f"true_boxes: {request.stage.name} asks nobody with boxes; evaluate joint, or leave it out")
    return Networks(own, own["image_size"], parameters_of(request, own), weights_of(own))


def _resolve_unet(own: dict[str, Any], demonstration: bool, substitutions: Substitutions) -> None:
    if own["unet_features"] is None:
        small = "tiny" if own["unet"] == "transunet" else "+".join(map(str, SMALL))
        if demonstration:
            substitutions.add(f"a small U-Net ({small}) in place of the whole one")
        own["unet_features"] = small if demonstration else ""
    try:
        with torch.device("meta"):
            classes, frames = told_apart(own["classes"]), own["unet_frames"]
            FrameUnet(own["unet"], own["unet_features"], own["image_size"], classes, frames)
    except ValueError as error:
        raise DataError(str(error)) from error


def _check_steps(own: Mapping[str, Any]) -> None:
    """Refuse choices that the network or its loss would refuse, before anything is removed or written."""
    weights = own.get("loss_weights", [1, 1, 1])
    numbers = isinstance(weights, list) and all(isinstance(each, int | float) for each in weights)
    if not numbers or len(weights) != 3:
        raise DataError(f"loss_weights {weights}: expected three numbers, of unet, step1 and step2")
    try:
        read_places(own["adapters"])
        StepsLoss(weights)
    except ValueError as error:
        raise DataError(str(error)) from error
