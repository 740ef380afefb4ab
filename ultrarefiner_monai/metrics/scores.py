"""Scores of one image's masks, and their summary over images."""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ultrarefiner_monai.metrics import calibration_error, calibration_sums, segmentation_metrics, summarise
from ultrarefiner_monai.metrics.calibration import REGIONS
from ultrarefiner_monai.metrics.scores_file import Row
from ultrarefiner_monai.metrics.segmentation import DISTANCES, FALSE_POSITIVES, MEANS

logger = logging.getLogger(__name__)


STAGES = ("coarse", "refined")  # channels of a prediction, in this order
COLUMNS = (*MEANS, "lesions_found", "false_lesions", *FALSE_POSITIVES)  # of a stage in the table of images
# Means of a summary and the columns they are taken from; those of normals only where the truth of some image is blank.
OF_IMAGES = {name: name for name in (*MEANS, "false_lesions")}
OF_NORMALS = {"false_positive_rate": "false_positive", "false_positive_area": "false_positive_area"}
ECE = {"all": "ece", "lesion": "ece_lesion"}  # the name of a region's calibration error
LOWER_IS_BETTER = {*DISTANCES, "false_lesions", *OF_NORMALS, *ECE.values()}
CHANGE = 0.02  # Dice; twice the noise from epoch to epoch, so that a smaller difference is no change


def score_image(
    pred: Tensor, truth: Tensor, threshold: float, name: str, spacing: Sequence[float] | None = None
) -> Row:
    """`<stage>_<metric>` of one image, `lesions` of its truth, and the `unit` of its distances ("px" or "mm").

    Args:
        pred: (1 or 2, H, W) probabilities, coarse first.
        truth: (1, H, W) mask.
        threshold: probability from which a pixel is lesion.
        name: the image's id, for messages.
        spacing: (row, column) mm per pixel; None or NaN where it is not known.

    Raises:
        ValueError: sizes that differ, another number of channels, or a spacing that is not two positive numbers.
    """
    pred, truth = _plain(pred), _plain(truth) > 0
    if pred.shape[1:] != truth.shape[1:] or not 1 <= len(pred) <= len(STAGES):
        raise ValueError(
            f"{name}: prediction {tuple(pred.shape)}, truth {tuple(truth.shape)}; expected one or two channels and one "
            "size (invert the letterbox before scoring)"
        )
    if not torch.isfinite(pred).all():
        logger.warning("%s: the prediction has NaN or infinite values, which count as background", name)
    known = spacing is not None and not math.isnan(spacing[0])
    sides = (float(spacing[0]), float(spacing[1])) if spacing is not None and known else None
    scores = segmentation_metrics((pred >= threshold)[:, None], truth[None].expand(len(pred), -1, -1, -1), sides)
    stages = STAGES[: len(pred)]
    row = {f"{stage}_{metric}": float(scores[metric][i]) for metric in COLUMNS for i, stage in enumerate(stages)}
    return row | {"lesions": int(scores["lesions"][0]), "unit": "px" if sides is None else "mm"}


def outputs_of(row: Row) -> list[str]:
    """Names of the outputs that a row has scores of, the baseline first."""
    names = [name.removesuffix("_dice") for name in row if name.endswith("_dice")]
    return [name for name in names if name != "delta"]


def calibrate_image(pred: Tensor, truth: Tensor) -> np.ndarray:
    """`calibration_sums` (stage, region, 3, bin) of one image; `pred` and `truth` as in `score_image`."""
    return calibration_sums(_plain(pred).float().numpy(), (_plain(truth)[0] > 0).numpy())


def summarise_rows(rows: Sequence[Row]) -> dict[str, float]:
    """Means, counts of undefined values, lesions found and shares of changed images over the rows of `score_image`.

    Where images have distances in pixels and in mm, those in pixels count as undefined. Columns that the rows do not
    have are left out.
    """
    normals = any(row.get("lesions") == 0 for row in rows)
    sources = OF_IMAGES | OF_NORMALS if normals else OF_IMAGES
    columns = {
        f"{stage}_{name}": _column(rows, f"{stage}_{source}")
        for name, source in sources.items()
        for stage in STAGES
        if rows and f"{stage}_{source}" in rows[0]
    }
    deltas = _deltas(columns)
    return summarise(columns | deltas) | _lesions_found(rows) | _changes(deltas.get("delta_dice"))


def summarise_calibration(sums: np.ndarray) -> dict[str, float]:
    """`<stage>_ece`, `<stage>_ece_lesion` and their deltas from the sums of all images' `calibrate_image`."""
    errors = {
        f"{stage}_{ECE[region]}": calibration_error(part)
        for stage, regions in zip(STAGES, sums, strict=False)
        for region, part in zip(REGIONS, regions, strict=True)
    }
    return errors | _deltas(errors)


def unit_of(rows: Sequence[Row]) -> str:
    """Unit of a summary's distances: mm as soon as some image has a known spacing."""
    return "mm" if any(row.get("unit") == "mm" for row in rows) else "px"


def _deltas(values: Mapping[str, Any]) -> dict[str, Any]:
    """Refined - coarse of every metric that both stages have."""
    names = [name.removeprefix("coarse_") for name in values if name.startswith("coarse_")]
    return {
        f"delta_{name}": values[f"refined_{name}"] - values[f"coarse_{name}"]
        for name in names
        if f"refined_{name}" in values
    }


def _lesions_found(rows: Sequence[Row]) -> dict[str, float]:
    """`lesions` of all images together, and the share of them that each stage finds (NaN where there are none)."""
    if not rows or "lesions" not in rows[0]:
        return {}
    lesions = sum(row["lesions"] for row in rows)
    found = {
        f"{stage}_lesion_sensitivity": sum(row[f"{stage}_lesions_found"] for row in rows) / lesions
        if lesions
        else math.nan
        for stage in STAGES
        if f"{stage}_lesions_found" in rows[0]
    }
    return {"lesions": lesions} | found | _deltas(found)


def _changes(delta_dice: Tensor | None) -> dict[str, float]:
    """`worse_share` and `better_share`; nothing where there is one stage only."""
    if delta_dice is None:
        return {}
    # Rounded to single precision's digits: 0.52 - 0.50 is no change beyond 0.02.
    change = delta_dice[~delta_dice.isnan()].round(decimals=6)
    shares = {"worse_share": change < -CHANGE, "better_share": change > CHANGE}
    return {name: float(which.double().mean()) for name, which in shares.items()}


def _column(rows: Sequence[Row], name: str) -> Tensor:
    """The values of a column, NaN for distances in another unit than the summary's."""
    values = torch.tensor([row[name] for row in rows], dtype=torch.float64)
    if name.endswith(DISTANCES):
        unit = unit_of(rows)
        values[torch.tensor([row.get("unit", "px") != unit for row in rows])] = math.nan
    return values


def _plain(value: Tensor) -> Tensor:
    """A plain tensor on the CPU: no MONAI metadata."""
    return torch.as_tensor(value).as_subclass(Tensor).detach().cpu()
