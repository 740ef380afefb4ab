"""The masks of an evaluation against the truth and each other, image by image: is the last one worth it?"""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from torch import Tensor

from ultrarefiner_monai.devices import gather, is_main
from ultrarefiner_monai.files import write_json
from ultrarefiner_monai.masks import THRESHOLD, without_islands
from ultrarefiner_monai.metrics.boundaries import NSD_TOLERANCE
from ultrarefiner_monai.metrics.cases import PER_CASE, Slice, case_rows, summarise_cases
from ultrarefiner_monai.metrics.scores import (
    CHANGE,
    ECE,
    LOWER_IS_BETTER,
    OF_NORMALS,
    Row,
    calibrate_image,
    class_columns_of,
    outputs_of,
    reliability_diagrams,
    score_prediction,
    summarise_calibration,
    summarise_rows,
    unit_of,
)
from ultrarefiner_monai.metrics.scores_file import PER_IMAGE, write_rows
from ultrarefiner_monai.metrics.segmentation import DISTANCES, MEANS
from ultrarefiner_monai.networks.prompts.components import ellipse_dice

logger = logging.getLogger(__name__)

NEED_LESIONS = {*MEANS, "lesion_sensitivity", "ece_lesion"} - {"specificity"}  # say nothing of normals
SHOWN = (*MEANS, "lesion_sensitivity", "false_lesions", *OF_NORMALS, *ECE.values())  # lines of the table for people


class CompareMasks:
    """Scores every image's masks at the file's own size.

    Into `engine.state.metrics` go `<output>_<metric>` of each output and, where there are two or more,
    `delta_<metric>` (last - first):

    - means over the `n_<metric>` images where every output has the metric, with `<name>_undefined` counts, of what
      `segmentation_metrics` returns: dice, iou, precision, recall, specificity, hd95, assd, nsd, boundary_iou, false_lesions;
    - `lesion_sensitivity`, the share of all `lesions` that are found;
    - `ece` and `ece_lesion`, the calibration errors of all pixels and of those in and near lesions;
    - where there are images without a lesion, `false_positive_rate` and `false_positive_area` of those;
    - where classes are told apart, `<last output>_dice_<class>`, `_accuracy`, `_balanced_accuracy` and `_auc`;
    - where the network was asked about the true lesions, `ellipse`, the Dice of the ellipses in their true boxes: a score of
      prompted masks below it says nothing.

    `worse_share` and `better_share` are the shares of images whose Dice falls or rises by more than 0.02. Logs the table
    and writes `output_dir/per_image.csv` (`nan` = undefined) and `output_dir/reliability.json`, the reliability diagrams; where
    images are slices also `output_dir/per_case.csv`, the scores of their volumes (`metrics.cases`).
    Under distributed validation all ranks' images are gathered, and the doubles that a sampler pads with are dropped by id.

    Args:
        output_dir: folder of the run.
        outputs: what the channels of a prediction are, the baseline first.
        threshold: probability from which a pixel is lesion.
        classes: names of the classes that are told apart, whose channels follow those of the outputs.
        prompts: which lesions the network was asked about, for the rows; empty for networks that are asked nothing.
        islands: share of evidence below which a part of a mask does not count, see `masks.without_islands`.
    """

    def __init__(
        self,
        output_dir: str | Path,
        outputs: Sequence[str],
        threshold: float = THRESHOLD,
        classes: Sequence[str] = (),
        prompts: str = "",
        islands: float = 0.0,
    ) -> None:
        self.prompts = prompts
        self.islands = islands
        self.folder = Path(output_dir)
        self.outputs = tuple(outputs)
        self.classes = tuple(classes)
        self.threshold = threshold
        self._scored: list[tuple[Row, np.ndarray]] = []
        self._slices: list[Slice] = []

    def attach(self, engine: Engine) -> None:
        """Follow an evaluator: decollated outputs hold `pred` (C, H, W), and `truth` (1, H, W), batch items `id`.

        Items with a known `spacing`, (row, column) mm per pixel, have their distances in mm.
        """
        engine.add_event_handler(Events.EPOCH_STARTED, self._reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._score)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._summarise)

    def _reset(self, engine: Engine) -> None:
        self._scored.clear()
        self._slices.clear()

    def _score(self, engine: Engine) -> None:
        state: Any = engine.state
        for batch, output in zip(state.batch, state.output, strict=True):
            item = {**batch, **output}  # postprocessing adds its keys to either
            pred, truth, name, spacing = item["pred"], item["truth"], str(item["id"]), item.get("spacing")
            maps, planes = np.split(pred.detach().cpu().float().numpy(), [len(self.outputs)])
            maps = without_islands(maps, self.islands, self.threshold)
            scores = score_prediction(
                torch.from_numpy(np.concatenate([maps, planes])),
                truth,
                self.outputs,
                self.classes,
                name,
                item.get("class"),
                spacing,
                self.threshold,
                "organs" in item,
            )
            named = {key: str(item[key]) for key in ("dataset", "id", "patient", "class") if key in item}
            row = named | scores | prompt_columns(self.prompts, truth)
            self._scored.append((row, calibrate_image(pred[: len(self.outputs)], truth)))
            if "case" in item:
                self._slices.append(Slice.of(item, maps, planes, truth[0].cpu().numpy(), self.threshold))

    def _summarise(self, engine: Engine) -> None:
        every = {row["id"]: (row, sums) for scored in gather(self._scored) for row, sums in scored}
        rows = [every[name][0] for name in sorted(every)]
        sums = np.sum([every[name][1] for name in sorted(every)], axis=0)
        metrics = summarise_rows(rows) | summarise_calibration(sums, self.outputs)
        if rows and "ellipse" in rows[0]:
            metrics["ellipse"] = float(np.nanmean([row["ellipse"] for row in rows]))
        engine.state.metrics.update(metrics)
        slices = [one for some in gather(self._slices) for one in some]
        if is_main():
            if slices:
                self._score_cases(slices)
            logger.info(comparison_table(metrics, len(rows), unit_of(rows)))
            write_rows(self.folder / PER_IMAGE, rows)
            diagrams = reliability_diagrams(sums, self.outputs, len(rows))
            write_json(self.folder / "reliability.json", diagrams, indent=2)

    def _score_cases(self, slices: Sequence[Slice]) -> None:
        rows = case_rows(slices, self.outputs, self.classes)
        write_rows(self.folder / PER_CASE, rows)
        found = summarise_cases(rows)
        told = [
            f"{name} {found[name][0]:.4f} (n {found[name][1]})" for name in found if name.endswith(("_dice", "_hd95"))
        ]
        logger.info("%d cases, distances in mm: %s", len(rows), ", ".join(told))


def prompt_columns(source: str, truth: Tensor) -> Row:
    """What a row says of the prompts that an image's masks come from, none where nothing was asked.

    `prompts`, their source; where that is the truth `ellipse`, the Dice of the ellipses in the true boxes.

    Args:
        source: key `prompt_source`, or empty.
        truth: the true mask (1, H, W).
    """
    if not source:
        return {}
    true = source.startswith("truth")
    return {"prompts": source} | ({"ellipse": ellipse_dice(truth[0].cpu().numpy() > 0)} if true else {})


def comparison_table(metrics: Mapping[str, float], images: int, unit: str = "px") -> str:
    """The table for people: one row a metric; ▲ where the last output is better than the first, ▼ where worse, = as good.

    Metrics that say nothing of images without a lesion are left out where there are no others. Scores of classes come last.
    """
    outputs = outputs_of(metrics)
    skipped = NEED_LESIONS if metrics.get("lesions") == 0 else ()
    shown = [name for name in SHOWN if f"{outputs[0]}_{name}" in metrics and name not in skipped]
    lines = [_line(metrics, outputs, name, images, unit) for name in shown]
    lines += [_class_line(metrics, outputs, *names) for names in class_columns_of(metrics).items()]
    if "ellipse" in metrics:
        lines.append(
            f"asked about the true lesions; the ellipses in their boxes have a Dice of {metrics['ellipse']:.4f}"
        )
    head = f"{'metric':<20} " + " ".join(f"{output:>8}" for output in outputs)
    if len(outputs) == 1:
        return "\n".join([f"{images} images", f"{head} {'n':>5}", *lines])
    legend = f"{images} images; ▲ better, ▼ worse, all of a line over the n images (lesions) where every output has it"
    head += f"   {'delta':>8} {'n':>5}  undefined ({', '.join(outputs)})"
    shares = (
        f"Dice lower by more than {CHANGE}: {100 * metrics['worse_share']:.1f} % of images, "
        f"higher: {100 * metrics['better_share']:.1f} %"
    )
    return "\n".join([legend, head, *lines, shares])


def _line(metrics: Mapping[str, float], outputs: Sequence[str], name: str, images: int, unit: str) -> str:
    """A metric's line; its `n` are the images, or lesions, that it is taken from."""
    units = dict.fromkeys(DISTANCES, unit) | {"nsd": f"{NSD_TOLERANCE:g} px"}
    label = f"{name} ({units[name]})" if name in units else name
    means = " ".join(f"{metrics[f'{output}_{name}']:>{max(8, len(output))}.4f}" for output in outputs)
    n = metrics["lesions"] if "sensitivity" in name else metrics.get(f"n_{name}", images)
    if len(outputs) == 1:
        return f"{label:<20} {means} {n:>5.0f}"
    delta = metrics[f"delta_{name}"]
    undefined = " ".join(f"{metrics.get(f'{output}_{name}_undefined', 0):>4.0f}" for output in outputs)
    return f"{label:<20} {means} {_mark(name, delta)} {delta:>+8.4f} {n:>5.0f}  {undefined}"


def _class_line(metrics: Mapping[str, float], outputs: Sequence[str], score: str, count: str) -> str:
    """The line of a score of classes, which the last output alone has."""
    cells = dict.fromkeys(outputs, "") | {outputs[-1]: f"{metrics[score]:.4f}"}
    means = " ".join(f"{cell:>{max(8, len(output))}}" for output, cell in cells.items())
    between = "" if len(outputs) == 1 else " " * 11  # mark and delta
    return f"{score.removeprefix(f'{outputs[-1]}_'):<20} {means}{between} {metrics[count]:>5.0f}"


def _mark(name: str, delta: float) -> str:
    if math.isnan(delta):
        return " "
    gain = -delta if name in LOWER_IS_BETTER else delta
    return "=" if abs(gain) < 0.00005 else "▲" if gain > 0 else "▼"  # as printed, with four digits
