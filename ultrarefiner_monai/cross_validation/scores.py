"""Scores of a finished cross-validation, read from its prediction maps at every file's own size."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ultrarefiner_monai.cross_validation.tasks import CrossValidation
from ultrarefiner_monai.data.manifests.items import Item, images_of, masks_of
from ultrarefiner_monai.data.manifests.manifest import Manifest
from ultrarefiner_monai.data.pixels import lesion_pixels
from ultrarefiner_monai.data.predictions.index import PredictionIndex
from ultrarefiner_monai.data.predictions.maps import read_map
from ultrarefiner_monai.data.releases.roots import Root, resolve
from ultrarefiner_monai.handlers.comparison import prompt_columns
from ultrarefiner_monai.masks import without_islands
from ultrarefiner_monai.metrics.cases import Slice, case_rows
from ultrarefiner_monai.metrics.classes import class_columns, classes_of
from ultrarefiner_monai.metrics.scores import (
    Row,
    column,
    outputs_of,
    over_folds,
    score_prediction,
    short_columns,
    summarise_rows,
    told_class_columns,
    told_columns,
)
from ultrarefiner_monai.texts import markdown_cell

TEST = "test"
COLUMNS = ("dataset", "id", "image", "patient", "class", "fold", "phase")
ELLIPSE = "ellipse"  # column of what is asked about true lesions
HEAD = ("phase", "fold", "images")
SHARES = {"worse_share": "worse", "better_share": "better"}  # names in the table


@dataclass(frozen=True)
class Prediction:
    """What a stage predicts for one image: `fold` is None for the mean of all folds' models on a test image."""

    phase: str
    fold: int | None
    item: Item
    files: Mapping[str, Path]  # by output
    classes: Mapping[str, Path]  # by class that is told apart
    prompts: str = ""  # which lesions the network was asked about
    islands: float = 0.0  # share of evidence below which a part of a mask does not count, see `masks.without_islands`

    def read(self, root: Root) -> tuple[Tensor, Tensor]:
        """Its maps (outputs, H, W), the baseline first, followed by those of the classes, and the truth (1, H, W).

        Raises `DataError` where a file is missing or unreadable.
        """
        truth = lesion_pixels([resolve(root, mask) for mask in masks_of(self.item)], self.item)
        maps = [read_map(file) for file in (*self.files.values(), *self.classes.values())]
        return torch.from_numpy(np.stack(maps)), torch.from_numpy(truth)[None]


class Scores(NamedTuple):
    """Rows of a cross-validation: one an image and stage, and where images are slices one a volume and stage (`case_rows`).

    Validation images are predicted by the model of their fold, test images by the mean of all folds' models.
    """

    images: list[Row]
    cases: list[Row]


def score(cv: CrossValidation, root: Root) -> Scores:
    """Read each map and its truth once, and score them.

    Args:
        cv: with all its predictions made.
        root: where its data set's files lie.
    """
    scores, manifest = Scores([], []), cv.manifest
    for stage in cv.system.stages:
        for fold in (*cv.folds_of(stage.name), None) if stage.scored else ():
            slices = []
            for prediction in predictions(cv, manifest, stage.name, fold):
                maps, truth = prediction.read(root)
                scores.images.append(score_row(prediction, cv.dataset, maps, truth))
                if "case" in prediction.item:
                    outputs, classes = np.split(maps.numpy(), [len(prediction.files)])
                    slices.append(Slice.of(prediction.item, outputs, classes, truth[0].numpy()))
            place = {"fold": TEST if fold is None else fold, "phase": stage.name}
            scores.cases.extend(row | place for row in case_rows(slices, stage.outputs, cv.classes_of(stage.name)))
    return scores


def predictions(cv: CrossValidation, manifest: Manifest, phase: str, fold: int | None) -> list[Prediction]:
    """The predictions of a stage's fold on its validation images, or (None) of all folds on the test images.

    `manifest` is that of `cv`, which would read it anew for each fold.

    Raises `DataError` where there is no index of them.
    """
    outputs, classes = cv.system.stage(phase).outputs, cv.classes_of(phase)
    files = {entry["id"]: entry["file"] for entry in PredictionIndex.load(cv.maps(phase, fold, outputs[-1])).items}

    def found(names: Sequence[str], item: Item) -> dict[str, Path]:
        return {name: resolve(cv.maps(phase, fold, name), files[item["id"]]) for name in names}

    # Not the empty frames of sequences, which other systems do not see.
    scored = images_of([*manifest.training, *manifest.testing])
    organs = {"organs": numbers} if (numbers := manifest.organs(classes)) else {}
    items = (item | organs for item in scored if item["id"] in files)
    about = cv.prompts_of(phase), cv.islands_of(phase)
    return [Prediction(phase, fold, item, found(outputs, item), found(classes, item), *about) for item in items]


def score_row(prediction: Prediction, dataset: str, maps: Tensor, truth: Tensor) -> Row:
    """The row of one image: its names, its scores, and the lesions' share of its area."""
    item, place = prediction.item, TEST if prediction.fold is None else prediction.fold
    names = (item.get("dataset", dataset), *(item[key] for key in COLUMNS[1:5]), place, prediction.phase)
    channels = list(prediction.files), list(prediction.classes)
    outputs, classes = np.split(maps.numpy(), [len(prediction.files)])
    maps = torch.from_numpy(np.concatenate([without_islands(outputs, prediction.islands), classes]))
    known = {"true_class": item["class"], "spacing": item.get("spacing"), "organs": "organs" in item}
    scores = score_prediction(maps, truth, *channels, item["id"], **known)
    asked = prompt_columns(prediction.prompts, truth)
    return dict(zip(COLUMNS, names, strict=True)) | scores | asked | {"lesion_share": float(truth.double().mean())}


def summary(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One line a stage and fold, then the mean and deviation over folds (`over_folds`), then the test set."""
    lines = []
    for phase in sorted({row["phase"] for row in rows}):
        of_phase = [row for row in rows if row["phase"] == phase]
        folds = sorted({row["fold"] for row in of_phase} - {TEST})
        by_fold = [_line(of_phase, phase, fold) for fold in folds]
        names = [*columns_of(of_phase), *(name for name in (ELLIPSE,) if name in of_phase[0])]
        over = over_folds(by_fold, names) if by_fold else []
        lines += [*by_fold, *({"phase": phase, **line} for line in over), _line(of_phase, phase, TEST)]
    return lines


def _line(rows: Sequence[Row], phase: str, fold: int | str) -> dict[str, Any]:
    chosen = [row for row in rows if row["fold"] == fold]
    metrics = summarise_rows(chosen)
    line = {"phase": phase, "fold": fold, "images": len(chosen)} | {name: metrics[name] for name in columns_of(rows)}
    return line | ({ELLIPSE: float(np.nanmean(column(chosen, ELLIPSE)))} if ELLIPSE in rows[0] else {})


def columns_of(rows: Sequence[Row]) -> list[str]:
    """Columns of the summary: Dice, IoU and HD95 of every output, the change of Dice, the shares of changes, scores of classes.

    Counts of images stand beside them.
    """
    outputs = list(dict.fromkeys(name for row in rows for name in outputs_of(row)))
    shares = SHARES if len(outputs) > 1 else ()
    classes = class_columns(*classes_of(rows[0] if rows else ())).items()
    return [*(f"{output}_{metric}" for output, metric in short_columns(outputs)), *shares, *chain(*classes)]


def markdown(lines: Sequence[dict[str, Any]]) -> str:
    """The summary as a Markdown table: Dice, IoU, HD95 in pixels, shares of images changed by more than 0.02 Dice, classes.

    Means are over all images of their line, or over as many as a column such as `n_hd95` says.
    """
    names = [f"{output}_{metric}" for output, metric in told_columns(lines)]
    names += [name for name in SHARES if any(name in line for line in lines)]
    names += told_class_columns(lines)
    names += [name for name in (ELLIPSE,) if any(name in line for line in lines)]
    head = (*HEAD, *(SHARES.get(name, name) for name in names))
    table = [" | ".join(head).join(("| ", " |")), "|" + " --- |" * len(head)]
    for line in lines:
        cells = (str(line["phase"]), str(line["fold"]), str(line["images"]), *(_cell(line, name) for name in names))
        table.append(" | ".join(map(markdown_cell, cells)).join(("| ", " |")))
    return "\n".join(table)


def _cell(line: dict[str, Any], name: str) -> str:
    if name not in line:
        return ""
    if name.startswith("n_"):
        return str(line[name])
    if math.isnan(line[name]):
        return "–"
    if name in SHARES:
        return f"{100 * line[name]:.1f} %"
    sign = "+" if "delta" in name and line["fold"] != "sd" else ""
    return f"{line[name]:{sign}.{1 if 'hd95' in name else 4}f}"
