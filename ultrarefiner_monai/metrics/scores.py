"""Scores of one image's masks, and their summary over images.

The masks that a stage predicts are its outputs: the first is the baseline, the last is what users get. A column is
`<output>_<metric>`; where there are two outputs or more, `delta_<metric>` is last - first. All means of a metric are over
the same images, those where every output has it, and `n_<metric>` counts them.
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
from ultrarefiner_monai.metrics.classes import class_columns, score_classes, summarise_classes
from ultrarefiner_monai.metrics.segmentation import DISTANCES, FALSE_POSITIVES, MEANS

logger = logging.getLogger(__name__)

COLUMNS = (*MEANS, "lesions_found", "false_lesions", *FALSE_POSITIVES)  # of an output in the table of images
SHORT = ("dice", "iou", "hd95")  # what tables with little room show of an output
NO_OUTPUTS = ("delta", "n")  # begin the name of a column that is of all outputs
OF_CLASS = "n_dice_"  # begins the name of a count that each class has, and nothing else
# Means of a summary and the columns they are taken from; those of normals only where the truth of some image is blank.
OF_IMAGES = {name: name for name in (*MEANS, "false_lesions")}
OF_NORMALS = {"false_positive_rate": "false_positive", "false_positive_area": "false_positive_area"}
ECE = {"all": "ece", "lesion": "ece_lesion"}  # the name of a region's calibration error
LOWER_IS_BETTER = {*DISTANCES, "false_lesions", *OF_NORMALS, *ECE.values()}
CHANGE = 0.02  # Dice; twice the noise from epoch to epoch, so that a smaller difference is no change

Row = dict[str, Any]


def outputs_of(names: Iterable[str]) -> list[str]:
    """The outputs that a row, a summary or a table's columns have a Dice of, in order."""
    found = [name.removesuffix("_dice") for name in names if name.endswith("_dice")]
    return [name for name in found if name not in NO_OUTPUTS]


def over_folds(lines: Sequence[Mapping[str, Any]], names: Iterable[str]) -> list[dict[str, Any]]:
    """Mean and deviation (n - 1) of folds' means over the folds that have them, and their counts together.

    Args:
        lines: one a fold, with `images`.
        names: of the columns to take.

    Returns:
        Two lines, whose `fold` is "mean" and "sd"; none of fewer than two folds.
    """
    if len(lines) < 2:
        return []
    names = list(names)
    head = {name: sum(line[name] for line in lines) for name in names if name.startswith("n_")}
    head = {"images": sum(line["images"] for line in lines)} | head
    values = {name: [line[name] for line in lines if not math.isnan(line[name])] for name in names if name not in head}
    means = {name: float(np.mean(found)) if found else math.nan for name, found in values.items()}
    deviations = {name: float(np.std(found, ddof=1)) if len(found) > 1 else math.nan for name, found in values.items()}
    return [{"fold": "mean", **head, **means}, {"fold": "sd", **head, **deviations}]


def short_columns(outputs: Sequence[str]) -> list[tuple[str, str]]:
    """Output (or "delta", "n") and metric of each column of a table with little room, by metric."""
    paired = {"dice": ("delta", "n")} if len(outputs) > 1 else {}
    return [(output, metric) for metric in SHORT for output in (*outputs, *paired.get(metric, ("n",)))]


def told_columns(lines: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The `short_columns` to show of lines that hold `images`, means and counts.

    A count is told where it is not that of the images in some line; that of HD95, which no missed lesion has, always.
    """
    outputs = list(dict.fromkeys(name for line in lines for name in outputs_of(line)))
    return [
        (output, metric)
        for output, metric in short_columns(outputs)
        if any(f"{output}_{metric}" in line for line in lines)
        and (output != "n" or metric == "hd95" or any(line.get(f"n_{metric}", 0) < line["images"] for line in lines))
    ]


def class_columns_of(names: Iterable[str]) -> dict[str, str]:
    """`class_columns` by the names of a summary; none where no classes are told apart."""
    names = list(names)
    classes = [name.removeprefix(OF_CLASS) for name in names if name.startswith(OF_CLASS)]
    return class_columns(outputs_of(names)[-1], classes) if classes else {}


def scores_of_classes(epoch: Mapping[str, Any]) -> dict[str, Any]:
    """The scores of classes among the numbers that a training has logged in an epoch, named as an evaluation names them."""
    validated = {name.removeprefix("val_"): value for name, value in epoch.items() if name.startswith("val_")}
    return {name: validated[name] for name in class_columns_of(validated)}


def told_class_columns(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """The scores of classes to show of lines as in `told_columns`, each with its count where that is not all images."""
    columns = class_columns_of(dict.fromkeys(name for line in lines for name in line))
    fewer = {count for count in columns.values() if any(line.get(count, math.inf) < line["images"] for line in lines)}
    return [name for pair in columns.items() for name in pair if name in columns or name in fewer]


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


def score_prediction(
    pred: Tensor,
    truth: Tensor,
    outputs: Sequence[str],
    classes: Sequence[str],
    name: str,
    true_class: str | None,
    spacing: Sequence[float] | None = None,
    threshold: float = THRESHOLD,
    organs: bool = False,
) -> Row:
    """`score_image` of an image's outputs, and `score_classes` of the classes that the last of them tells apart.

    Args:
        pred: (C + K, H, W) probabilities of the outputs and of the classes.
        truth: (1, H, W) mask.
        outputs: what the first C channels are.
        classes: what the last K channels are.
        name: the image's id, for messages.
        true_class: of the image.
        spacing: as in `score_image`.
        threshold: probability from which a pixel is lesion.
        organs: whether the classes are organs, of which an image may show several and is none.

    Raises:
        ValueError: as `score_image`, or another number of channels.
    """
    if len(pred) != len(outputs) + len(classes):
        raise ValueError(f"{name}: expected channels {', '.join([*outputs, *classes])}, found {len(pred)}")
    masks, planes = _plain(pred).split([len(outputs), len(classes)])
    row = score_image(masks, truth, outputs, name, spacing, threshold)
    if organs:
        return row
    lesion, shape = masks[-1].numpy(), _plain(truth)[0].numpy()
    return row | score_classes(outputs[-1], lesion, planes.numpy(), shape, classes, true_class, threshold)


def calibrate_image(pred: Tensor, truth: Tensor) -> np.ndarray:
    """`calibration_sums` (output, region, 3, bin) of one image; `pred` and `truth` as in `score_image`."""
    return calibration_sums(_plain(pred).float().numpy(), (_plain(truth)[0] > 0).numpy())


def summarise_rows(rows: Sequence[Row]) -> dict[str, float]:
    """Means, counts, lesions found, shares of changed images and `summarise_classes` over the rows of `score_prediction`.

    `<output>_<metric>` and `delta_<metric>` are means over the `n_<metric>` images where every output has the metric;
    `<output>_<metric>_undefined` are the images where that one does not (of delta: where some output does not). Where images
    have distances in pixels and in mm, those in pixels count as undefined. Columns that the rows do not have are left out.
    """
    outputs = outputs_of(rows[0]) if rows else []
    normals = any(row.get("lesions") == 0 for row in rows)
    columns: dict[str, np.ndarray] = {}
    counts: dict[str, int] = {}
    for name, source in (OF_IMAGES | OF_NORMALS if normals else OF_IMAGES).items():
        found = {one: column(rows, f"{one}_{source}") for one in outputs if f"{one}_{source}" in rows[0]}
        counts |= {f"{output}_{name}_undefined": int(np.isnan(values).sum()) for output, values in found.items()}
        shared = over_same_images(found)
        columns |= {f"{output}_{name}": values for output, values in shared.items()}
        counts |= {f"n_{name}": int(np.isfinite(values).sum()) for values in list(shared.values())[:1]}
    deltas = _deltas(columns, outputs)
    summary = summarise({name: torch.from_numpy(values) for name, values in (columns | deltas).items()})
    others = _lesions_found(rows, outputs) | summarise_classes(rows)
    return summary | counts | others | _changes(deltas.get("delta_dice"))


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


def over_same_images(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A metric's values (N,) by output, NaN for every image of which some output has none: what means are comparable of."""
    undefined = np.isnan(list(values.values())).any(axis=0)
    return {output: np.where(undefined, math.nan, one) for output, one in values.items()}


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
