"""Coarse against refined, image by image: is the second stage worth it?"""

import csv
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import Tensor

from ultrarefiner_monai.data.files import atomic_write
from ultrarefiner_monai.handlers.distributed import gather, is_main
from ultrarefiner_monai.metrics import segmentation_metrics, summarise

logger = logging.getLogger(__name__)

Row = dict[str, Any]

STAGES = ("coarse", "refined")  # channels of a prediction, in this order
METRICS = ("dice", "iou", "hd95", "precision", "recall")
LOWER_IS_BETTER = ("hd95",)
CHANGE = 0.02  # Dice; twice the noise from epoch to epoch, so that a smaller difference is no change


class CompareMasks:
    """Scores every image's coarse and refined mask at the file's own size.

    Into `engine.state.metrics` go, as means over the images where they are defined, `coarse_<metric>`,
    `refined_<metric>` and `delta_<metric>` (refined - coarse, of images where both are defined) with `<name>_undefined`
    counts for dice, iou, hd95 (px), precision and recall, and `worse_share` and `better_share`: the shares of images
    whose Dice falls or rises by more than 0.02. A prediction of one channel (phase 1) has the coarse ones only. Logs
    the table and writes `output_dir/per_image.csv` (`nan` = undefined). Under distributed validation all ranks' images
    are gathered, and the doubles that a sampler pads with are dropped by id.

    Args:
        output_dir: folder of the run.
        threshold: probability from which a pixel is lesion.
    """

    def __init__(self, output_dir: str | Path, threshold: float = 0.5) -> None:
        self.path = Path(output_dir) / "per_image.csv"
        self.threshold = threshold
        self._rows: list[Row] = []

    def attach(self, engine: Engine) -> None:
        """Follow an evaluator: decollated outputs hold `pred` (C, H, W), and `truth` (1, H, W), batch items `id`."""
        engine.add_event_handler(Events.EPOCH_STARTED, lambda _: self._rows.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._score)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._summarise)

    def _score(self, engine: Engine) -> None:
        state: Any = engine.state
        for batch, output in zip(state.batch, state.output, strict=True):
            item = {**batch, **output}  # postprocessing adds its keys to either
            named = {key: str(item[key]) for key in ("dataset", "id", "patient", "class") if key in item}
            self._rows.append(named | score_image(item["pred"], item["truth"], self.threshold, str(item["id"])))

    def _summarise(self, engine: Engine) -> None:
        every = [row for rows in gather(self._rows) for row in rows]
        rows = sorted({row["id"]: row for row in every}.values(), key=lambda row: row["id"])
        metrics = summarise_rows(rows)
        engine.state.metrics.update(metrics)
        if is_main():
            logger.info("%s", comparison_table(metrics, len(rows)))
            write_rows(self.path, rows)


def score_image(pred: Tensor, truth: Tensor, threshold: float, name: str) -> dict[str, float]:
    """`<stage>_<metric>` of one image.

    Args:
        pred: (1 or 2, H, W) probabilities, coarse first.
        truth: (1, H, W) mask.
        threshold: probability from which a pixel is lesion.
        name: the image's id, for messages.

    Raises:
        ValueError: sizes that differ, or another number of channels.
    """
    pred, truth = _plain(pred), _plain(truth) > 0
    if pred.shape[1:] != truth.shape[1:] or not 1 <= len(pred) <= len(STAGES):
        raise ValueError(
            f"{name}: prediction {tuple(pred.shape)}, truth {tuple(truth.shape)}; expected one or two channels and one "
            "size (invert the letterbox before scoring)"
        )
    if not torch.isfinite(pred).all():
        logger.warning("%s: the prediction has NaN or infinite values, which count as background", name)
    stages = STAGES[: len(pred)]
    scores = segmentation_metrics((pred >= threshold)[:, None], truth[None].expand(len(pred), -1, -1, -1))
    return {f"{stage}_{metric}": float(scores[metric][i]) for metric in METRICS for i, stage in enumerate(stages)}


def summarise_rows(rows: Sequence[Row]) -> dict[str, float]:
    """Means, counts of undefined values and shares of changed images over the rows of `score_image`."""
    names = [f"{stage}_{metric}" for stage in STAGES for metric in METRICS]
    columns = {name: _column(rows, name) for name in names if rows and name in rows[0]}
    if "refined_dice" not in columns:
        return summarise(columns)
    deltas = {f"delta_{metric}": columns[f"refined_{metric}"] - columns[f"coarse_{metric}"] for metric in METRICS}
    change = deltas["delta_dice"][~deltas["delta_dice"].isnan()]
    # Rounded to single precision's digits: 0.52 - 0.50 is no change beyond 0.02.
    shares = {"worse_share": change.round(decimals=6) < -CHANGE, "better_share": change.round(decimals=6) > CHANGE}
    return summarise(columns | deltas) | {name: float(which.double().mean()) for name, which in shares.items()}


def comparison_table(metrics: Mapping[str, float], images: int) -> str:
    """The table for people: one row a metric; ▲ where refining helps, ▼ where it harms, = where it does neither."""
    if "refined_dice" not in metrics:
        lines = [f"{images} images", f"{'metric':<10} {'coarse':>8} {'undefined':>10}"]
        return "\n".join(lines + [_coarse_line(metrics, metric) for metric in METRICS])
    head = f"{'metric':<10} {'coarse':>8} {'refined':>8}   {'delta':>8} {'n':>5}  undefined (coarse, refined)"
    shares = (
        f"Dice lower by more than {CHANGE}: {100 * metrics['worse_share']:.1f} % of images, "
        f"higher: {100 * metrics['better_share']:.1f} %"
    )
    legend = f"{images} images; ▲ better, ▼ worse, delta over the n images where both are defined"
    return "\n".join([legend, head, *(_line(metrics, metric, images) for metric in METRICS), shares])


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows as CSV, atomically; columns as in the first row."""
    with atomic_write(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else ["id"])
        writer.writeheader()
        writer.writerows(rows)


def _line(metrics: Mapping[str, float], metric: str, images: int) -> str:
    coarse, refined, delta = (metrics[f"{stage}_{metric}"] for stage in (*STAGES, "delta"))
    undefined = " ".join(f"{metrics[f'{stage}_{metric}_undefined']:>4.0f}" for stage in STAGES)
    n = images - metrics[f"delta_{metric}_undefined"]
    means = f"{coarse:>8.4f} {refined:>8.4f} {_mark(metric, delta)} {delta:>+8.4f}"
    return f"{_label(metric):<10} {means} {n:>5.0f}  {undefined}"


def _coarse_line(metrics: Mapping[str, float], metric: str) -> str:
    return f"{_label(metric):<10} {metrics[f'coarse_{metric}']:>8.4f} {metrics[f'coarse_{metric}_undefined']:>10.0f}"


def _label(metric: str) -> str:
    return f"{metric} (px)" if metric == "hd95" else metric


def _mark(metric: str, delta: float) -> str:
    if math.isnan(delta):
        return " "
    gain = -delta if metric in LOWER_IS_BETTER else delta
    return "=" if abs(gain) < 0.00005 else "▲" if gain > 0 else "▼"  # as printed, with four digits


def _column(rows: Sequence[Row], name: str) -> Tensor:
    return torch.tensor([row[name] for row in rows], dtype=torch.float64)


def _plain(value: Tensor) -> Tensor:
    """A plain tensor on the CPU: no MONAI metadata."""
    return torch.as_tensor(value).as_subclass(Tensor).detach().cpu()
