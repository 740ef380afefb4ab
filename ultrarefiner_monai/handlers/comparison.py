"""Coarse against refined, image by image: is the second stage worth it?"""

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events

from ultrarefiner_monai.devices import gather, is_main
from ultrarefiner_monai.files import atomic_write
from ultrarefiner_monai.metrics import reliability
from ultrarefiner_monai.metrics.boundaries import NSD_TOLERANCE
from ultrarefiner_monai.metrics.calibration import BINS, REGIONS
from ultrarefiner_monai.metrics.scores import (
    CHANGE,
    ECE,
    LOWER_IS_BETTER,
    OF_NORMALS,
    STAGES,
    calibrate_image,
    score_image,
    summarise_calibration,
    summarise_rows,
    unit_of,
)
from ultrarefiner_monai.metrics.scores_file import PER_IMAGE, Row, write_rows
from ultrarefiner_monai.metrics.segmentation import DISTANCES, MEANS

logger = logging.getLogger(__name__)


NEED_LESIONS = {*MEANS, "lesion_sensitivity", "ece_lesion"} - {"specificity"}  # say nothing of normals
SHOWN = (*MEANS, "lesion_sensitivity", "false_lesions", *OF_NORMALS, *ECE.values())  # lines of the table for people


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


def write_reliability(path: Path, sums: np.ndarray, images: int) -> None:
    """Write the reliability diagrams of each stage and region (`metrics.reliability`) as JSON, atomically."""
    stages = {
        stage: {region: reliability(part) for region, part in zip(REGIONS, regions, strict=True)}
        for stage, regions in zip(STAGES, sums, strict=False)
    }
    edges = [i / BINS for i in range(BINS + 1)]
    with atomic_write(path, "w", encoding="utf-8") as file:
        file.write(json.dumps({"images": images, "edges": edges, **stages}, indent=2, allow_nan=False) + "\n")


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
