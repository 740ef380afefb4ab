"""Coarse against refined, image by image: is the second stage worth it?"""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from torch import Tensor

from ultrarefiner_monai.data.files import atomic_write
from ultrarefiner_monai.handlers.distributed import gather, is_main
from ultrarefiner_monai.handlers.scores_file import PER_IMAGE, Row, write_rows
from ultrarefiner_monai.metrics import calibration_error, calibration_sums, reliability, segmentation_metrics, summarise
from ultrarefiner_monai.metrics.boundaries import NSD_TOLERANCE
from ultrarefiner_monai.metrics.calibration import BINS, REGIONS
from ultrarefiner_monai.metrics.segmentation import DISTANCES, FALSE_POSITIVES, MEANS

logger = logging.getLogger(__name__)

STAGES = ("coarse", "refined")  # channels of a prediction, in this order
COLUMNS = (*MEANS, "lesions_found", "false_lesions", *FALSE_POSITIVES)  # of a stage in the table of images
# Means of a summary and the columns they are taken from; those of normals only where the truth of some image is blank.
OF_IMAGES = {name: name for name in (*MEANS, "false_lesions")}
OF_NORMALS = {"false_positive_rate": "false_positive", "false_positive_area": "false_positive_area"}
ECE = {"all": "ece", "lesion": "ece_lesion"}  # the name of a region's calibration error
NEED_LESIONS = {*MEANS, "lesion_sensitivity", "ece_lesion"} - {"specificity"}  # say nothing of normals
SHOWN = (*MEANS, "lesion_sensitivity", "false_lesions", *OF_NORMALS, *ECE.values())  # lines of the table for people
LOWER_IS_BETTER = {*DISTANCES, "false_lesions", *OF_NORMALS, *ECE.values()}
CHANGE = 0.02  # Dice; twice the noise from epoch to epoch, so that a smaller difference is no change


class CompareMasks:
    """Scores every image's coarse and refined mask at the file's own size.

    Into `engine.state.metrics` go `coarse_<metric>`, `refined_<metric>` and `delta_<metric>` (refined - coarse, of images
    where both are defined):

    - means over the images where they are defined, with `<name>_undefined` counts, of what `segmentation_metrics` returns:
      dice, iou, precision, recall, specificity, hd95, assd, nsd, boundary_iou, false_lesions;
    - `lesion_sensitivity`, the share of all `lesions` that are found;
    - `ece` and `ece_lesion`, the calibration errors of all pixels and of those in and near lesions;
    - where there are images without a lesion, `false_positive_rate` and `false_positive_area` of those.

    `worse_share` and `better_share` are the shares of images whose Dice falls or rises by more than 0.02. A prediction of
    one channel (phase 1) has the coarse ones only. Logs the table and writes `output_dir/per_image.csv` (`nan` =
    undefined) and `output_dir/reliability.json`, the reliability diagrams. Under distributed validation all ranks' images
    are gathered, and the doubles that a sampler pads with are dropped by id.

    Args:
        output_dir: folder of the run.
        threshold: probability from which a pixel is lesion.
    """

    def __init__(self, output_dir: str | Path, threshold: float = 0.5) -> None:
        self.folder = Path(output_dir)
        self.threshold = threshold
        self._scored: list[tuple[Row, np.ndarray]] = []

    def attach(self, engine: Engine) -> None:
        """Follow an evaluator: decollated outputs hold `pred` (C, H, W), and `truth` (1, H, W), batch items `id`.

        Items with a known `spacing`, (row, column) mm per pixel, have their distances in mm.
        """
        engine.add_event_handler(Events.EPOCH_STARTED, lambda _: self._scored.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._score)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._summarise)

    def _score(self, engine: Engine) -> None:
        state: Any = engine.state
        for batch, output in zip(state.batch, state.output, strict=True):
            item = {**batch, **output}  # postprocessing adds its keys to either
            named = {key: str(item[key]) for key in ("dataset", "id", "patient", "class") if key in item}
            scores = score_image(item["pred"], item["truth"], self.threshold, str(item["id"]), item.get("spacing"))
            self._scored.append((named | scores, calibrate_image(item["pred"], item["truth"])))

    def _summarise(self, engine: Engine) -> None:
        every = {row["id"]: (row, sums) for scored in gather(self._scored) for row, sums in scored}
        rows = [every[name][0] for name in sorted(every)]
        sums = np.sum([every[name][1] for name in sorted(every)], axis=0)
        metrics = summarise_rows(rows) | summarise_calibration(sums)
        engine.state.metrics.update(metrics)
        if is_main():
            logger.info("%s", comparison_table(metrics, len(rows), unit_of(rows)))
            write_rows(self.folder / PER_IMAGE, rows)
            write_reliability(self.folder / "reliability.json", sums, len(rows))


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


def comparison_table(metrics: Mapping[str, float], images: int, unit: str = "px") -> str:
    """The table for people: one row a metric; ▲ where refining helps, ▼ where it harms, = where it does neither.

    Metrics that say nothing of images without a lesion are left out where there are no others.
    """
    skipped = NEED_LESIONS if metrics.get("lesions") == 0 else ()
    shown = [name for name in SHOWN if f"coarse_{name}" in metrics and name not in skipped]
    if "refined_dice" not in metrics:
        lines = [f"{images} images", f"{'metric':<20} {'coarse':>8} {'n':>5}"]
        return "\n".join(lines + [_coarse_line(metrics, name, images, unit) for name in shown])
    head = f"{'metric':<20} {'coarse':>8} {'refined':>8}   {'delta':>8} {'n':>5}  undefined (coarse, refined)"
    shares = (
        f"Dice lower by more than {CHANGE}: {100 * metrics['worse_share']:.1f} % of images, "
        f"higher: {100 * metrics['better_share']:.1f} %"
    )
    legend = f"{images} images; ▲ better, ▼ worse, delta over the n images (lesions) where both are defined"
    return "\n".join([legend, head, *(_line(metrics, name, images, unit) for name in shown), shares])


def unit_of(rows: Sequence[Row]) -> str:
    """Unit of a summary's distances: mm as soon as some image has a known spacing."""
    return "mm" if any(row.get("unit") == "mm" for row in rows) else "px"


def write_reliability(path: Path, sums: np.ndarray, images: int) -> None:
    """Write the reliability diagrams of each stage and region (`metrics.reliability`) as JSON, atomically."""
    stages = {
        stage: {region: reliability(part) for region, part in zip(REGIONS, regions, strict=True)}
        for stage, regions in zip(STAGES, sums, strict=False)
    }
    edges = [i / BINS for i in range(BINS + 1)]
    with atomic_write(path, "w", encoding="utf-8") as file:
        file.write(json.dumps({"images": images, "edges": edges, **stages}, indent=2, allow_nan=False) + "\n")


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


def _line(metrics: Mapping[str, float], name: str, images: int, unit: str) -> str:
    coarse, refined, delta = (metrics[f"{stage}_{name}"] for stage in (*STAGES, "delta"))
    undefined = " ".join(f"{metrics.get(f'{stage}_{name}_undefined', 0):>4.0f}" for stage in STAGES)
    means = f"{coarse:>8.4f} {refined:>8.4f} {_mark(name, delta)} {delta:>+8.4f}"
    return f"{_label(name, unit):<20} {means} {_defined(metrics, f'delta_{name}', images):>5.0f}  {undefined}"


def _coarse_line(metrics: Mapping[str, float], name: str, images: int, unit: str) -> str:
    value, n = metrics[f"coarse_{name}"], _defined(metrics, f"coarse_{name}", images)
    return f"{_label(name, unit):<20} {value:>8.4f} {n:>5.0f}"


def _defined(metrics: Mapping[str, float], name: str, images: int) -> float:
    """How many images, or lesions, a value is taken from."""
    return metrics["lesions"] if "sensitivity" in name else images - metrics.get(f"{name}_undefined", 0)


def _label(name: str, unit: str) -> str:
    units = dict.fromkeys(DISTANCES, unit) | {"nsd": f"{NSD_TOLERANCE:g} px"}
    return f"{name} ({units[name]})" if name in units else name


def _mark(name: str, delta: float) -> str:
    if math.isnan(delta):
        return " "
    gain = -delta if name in LOWER_IS_BETTER else delta
    return "=" if abs(gain) < 0.00005 else "▲" if gain > 0 else "▼"  # as printed, with four digits


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
