"""Scores of one image's masks, and their summary over images.

The masks that a stage predicts are its outputs: the first is the baseline, the last is what users get. A column is
`<output>_<metric>`; where there are two outputs or more, `delta_<metric>` is last - first.
"""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ultrarefiner_monai.masks import THRESHOLD
from ultrarefiner_monai.metrics import (
    calibration_error,
    calibration_sums,
    reliability,
    segmentation_metrics,
    summarise,
)
from ultrarefiner_monai.metrics.calibration import BINS, REGIONS
from ultrarefiner_monai.metrics.segmentation import DISTANCES, FALSE_POSITIVES, MEANS

logger = logging.getLogger(__name__)

COLUMNS = (*MEANS, "lesions_found", "false_lesions", *FALSE_POSITIVES)  # of an output in the table of images
SHORT = ("dice", "iou", "hd95")  # what tables with little room show of an output
# Means of a summary and the columns they are taken from; those of normals only where the truth of some image is blank.
OF_IMAGES = {name: name for name in (*MEANS, "false_lesions")}
OF_NORMALS = {"false_positive_rate": "false_positive", "false_positive_area": "false_positive_area"}
ECE = {"all": "ece", "lesion": "ece_lesion"}  # the name of a region's calibration error
LOWER_IS_BETTER = {*DISTANCES, "false_lesions", *OF_NORMALS, *ECE.values()}
CHANGE = 0.02  # Dice; twice the noise from epoch to epoch, so that a smaller difference is no change

Row = dict[str, Any]


def outputs_of(names: Iterable[str]) -> list[str]:
    """The outputs that a row, a summary or a table's columns have a Dice of, in order."""
    return [name.removesuffix("_dice") for name in names if name.endswith("_dice") and name != "delta_dice"]


def short_columns(outputs: Sequence[str]) -> list[tuple[str, str]]:
    """Output (or "delta") and metric of each column of a table with little room, by metric."""
    paired = [("delta", "dice")] if len(outputs) > 1 else []
    dice, *others = ([(output, metric) for output in outputs] for metric in SHORT)
    return [*dice, *paired, *(column for metric in others for column in metric)]


def score_image(
    pred: Tensor,
    truth: Tensor,
    outputs: Sequence[str],
    name: str,
    spacing: Sequence[float] | None = None,
    threshold: float = THRESHOLD,
) -> Row:
    """`<output>_<metric>` of one image, `lesions` of its truth, and the `unit` of its distances ("px" or "mm").

    Args:
        pred: (C, H, W) probabilities.
        truth: (1, H, W) mask.
        outputs: what the C channels are.
        name: the image's id, for messages.
        spacing: (row, column) mm per pixel; None or NaN where it is not known.
        threshold: probability from which a pixel is lesion.

    Raises:
        ValueError: sizes that differ, another number of channels, or a spacing that is not two positive numbers.
    """
    pred, truth = _plain(pred), _plain(truth) > 0
    if pred.shape[1:] != truth.shape[1:] or len(pred) != len(outputs):
        raise ValueError(
            f"{name}: prediction {tuple(pred.shape)}, truth {tuple(truth.shape)}; expected {len(outputs)} channels "
            f"({', '.join(outputs)}) and one size (invert the letterbox before scoring)"
        )
    if not torch.isfinite(pred).all():
        logger.warning("%s: the prediction has NaN or infinite values, which count as background", name)
    known = spacing is not None and not math.isnan(spacing[0])
    sides = (float(spacing[0]), float(spacing[1])) if spacing is not None and known else None
    scores = segmentation_metrics((pred >= threshold)[:, None], truth[None].expand(len(pred), -1, -1, -1), sides)
    row = {f"{output}_{metric}": float(scores[metric][i]) for metric in COLUMNS for i, output in enumerate(outputs)}
    return row | {"lesions": int(scores["lesions"][0]), "unit": "px" if sides is None else "mm"}


def outputs_of(row: Row) -> list[str]:
    """Names of the outputs that a row has scores of, the baseline first."""
    names = [name.removesuffix("_dice") for name in row if name.endswith("_dice")]
    return [name for name in names if name != "delta"]


def calibrate_image(pred: Tensor, truth: Tensor) -> np.ndarray:
    """`calibration_sums` (output, region, 3, bin) of one image; `pred` and `truth` as in `score_image`."""
    return calibration_sums(_plain(pred).float().numpy(), (_plain(truth)[0] > 0).numpy())


def summarise_rows(rows: Sequence[Row]) -> dict[str, float]:
    """Means, counts of undefined values, lesions found and shares of changed images over the rows of `score_image`.

    Where images have distances in pixels and in mm, those in pixels count as undefined. Columns that the rows do not
    have are left out.
    """
    outputs = outputs_of(rows[0]) if rows else []
    normals = any(row.get("lesions") == 0 for row in rows)
    columns = {
        f"{output}_{name}": column(rows, f"{output}_{source}")
        for name, source in (OF_IMAGES | OF_NORMALS if normals else OF_IMAGES).items()
        for output in outputs
        if f"{output}_{source}" in rows[0]
    }
    deltas = _deltas(columns, outputs)
    summary = summarise({name: torch.from_numpy(values) for name, values in (columns | deltas).items()})
    return summary | _lesions_found(rows, outputs) | _changes(deltas.get("delta_dice"))


def summarise_calibration(sums: np.ndarray, outputs: Sequence[str]) -> dict[str, float]:
    """`<output>_ece`, `<output>_ece_lesion` and their deltas from the sums of all images' `calibrate_image`."""
    errors = {
        f"{output}_{ECE[region]}": calibration_error(part)
        for output, regions in zip(outputs, sums, strict=True)
        for region, part in zip(REGIONS, regions, strict=True)
    }
    return errors | _deltas(errors, outputs)


def reliability_diagrams(sums: np.ndarray, outputs: Sequence[str], images: int) -> dict[str, Any]:
    """`reliability` of each output and region as plain values, with the bins' `edges` and the number of `images`."""
    diagrams = {
        output: {region: reliability(part) for region, part in zip(REGIONS, regions, strict=True)}
        for output, regions in zip(outputs, sums, strict=True)
    }
    return {"images": images, "edges": [i / BINS for i in range(BINS + 1)], **diagrams}


def column(rows: Sequence[Row], name: str) -> np.ndarray:
    """Values (N,) of a score; distances in another unit than the summary's are NaN."""
    values = np.array([float(row[name]) for row in rows])
    if name.endswith(DISTANCES):
        values[[row.get("unit", "px") != unit_of(rows) for row in rows]] = math.nan
    return values


def unit_of(rows: Sequence[Row]) -> str:
    """Unit of a summary's distances: mm as soon as some image has a known spacing."""
    return "mm" if any(row.get("unit") == "mm" for row in rows) else "px"


def _deltas(values: Mapping[str, Any], outputs: Sequence[str]) -> dict[str, Any]:
    """Last - first output of every metric that both have."""
    if len(outputs) < 2:
        return {}
    first, last = f"{outputs[0]}_", f"{outputs[-1]}_"
    names = [name.removeprefix(first) for name in values if name.startswith(first)]
    return {f"delta_{name}": values[last + name] - values[first + name] for name in names if last + name in values}


def _lesions_found(rows: Sequence[Row], outputs: Sequence[str]) -> dict[str, float]:
    """`lesions` of all images together, and the share of them that each output finds (NaN where there are none)."""
    if not rows or "lesions" not in rows[0]:
        return {}
    lesions = sum(row["lesions"] for row in rows)
    found = {
        f"{output}_lesion_sensitivity": sum(row[f"{output}_lesions_found"] for row in rows) / lesions
        if lesions
        else math.nan
        for output in outputs
        if f"{output}_lesions_found" in rows[0]
    }
    return {"lesions": lesions} | found | _deltas(found, outputs)


def _changes(delta_dice: np.ndarray | None) -> dict[str, float]:
    """`worse_share` and `better_share`; nothing where there is one output only."""
    if delta_dice is None:
        return {}
    # Rounded to single precision's digits: 0.52 - 0.50 is no change beyond 0.02.
    change = torch.from_numpy(delta_dice[~np.isnan(delta_dice)]).round(decimals=6)
    shares = {"worse_share": change < -CHANGE, "better_share": change > CHANGE}
    return {name: float(which.double().mean()) for name, which in shares.items()}


def _plain(value: Tensor) -> Tensor:
    """A plain tensor on the CPU: no MONAI metadata."""
    return torch.as_tensor(value).as_subclass(Tensor).detach().cpu()
