"""Scores of a finished cross-validation, read from its prediction maps at every file's own size."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from ultrarefiner_monai.bundle.study import Study
from ultrarefiner_monai.data.entries import masks_of
from ultrarefiner_monai.data.images import read_mask
from ultrarefiner_monai.data.out_of_fold import PredictionIndex, read_map
from ultrarefiner_monai.data.roots import Root, resolve
from ultrarefiner_monai.handlers.comparison import Row, score_image, summarise_rows

THRESHOLD = 0.5
TEST = "test"
COLUMNS = ("dataset", "image", "patient", "class", "fold", "phase")
SUMMARY = ("coarse_dice", "refined_dice", "delta_dice", "coarse_iou", "refined_iou", "coarse_hd95", "refined_hd95")


def study_rows(study: Study, root: Root) -> list[Row]:
    """One row an image and phase: validation images by the model of their fold, test images by the mean of all folds' models.

    Args:
        study: with all its predictions made.
        root: where its data set's files lie.
    """
    return [
        row
        for phase in ("phase2", "phase3")
        for fold in (*study.folds_of(phase), None)
        for row in _phase_rows(study, root, phase, fold)
    ]


def _phase_rows(study: Study, root: Root, phase: str, fold: int | None) -> Iterator[Row]:
    coarse, refined = (study.maps(phase, fold, channel) for channel in ("coarse", "refined"))
    files = {entry["id"]: entry["file"] for entry in PredictionIndex.load(refined).items}
    manifest = study.manifest
    items = manifest.testing if fold is None else manifest.split("val", fold)
    for item in (item for item in items if item["id"] in files):
        maps = [torch.from_numpy(read_map(folder / files[item["id"]])) for folder in (coarse, refined)]
        truth = read_mask([resolve(root, mask) for mask in masks_of(item)], size=(item["width"], item["height"]))
        pair = torch.stack(maps), torch.from_numpy(truth)[None]
        scores = score_image(*pair, THRESHOLD, item["id"], item.get("spacing"))
        place = TEST if fold is None else fold
        named = (study.dataset, item["image"], item["patient"], item["class"], place, phase)
        yield dict(zip(COLUMNS, named, strict=True)) | scores


def summary(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One line a phase and fold, then the mean and deviation over folds, then the test set."""
    lines = []
    for phase in sorted({row["phase"] for row in rows}):
        of_phase = [row for row in rows if row["phase"] == phase]
        folds = sorted({row["fold"] for row in of_phase} - {TEST})
        by_fold = [_line(of_phase, phase, fold) for fold in folds]
        lines += [*by_fold, *_over_folds(phase, by_fold), _line(of_phase, phase, TEST)]
    return lines


def _line(rows: Sequence[Row], phase: str, fold: int | str) -> dict[str, Any]:
    chosen = [row for row in rows if row["fold"] == fold]
    metrics = summarise_rows(chosen)
    names = (*SUMMARY, "worse_share", "better_share")
    return {"phase": phase, "fold": fold, "images": len(chosen)} | {name: metrics[name] for name in names}


def _over_folds(phase: str, lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    if len(lines) < 2:
        return []
    names = [name for name in lines[0] if name not in ("phase", "fold", "images")]
    head = {"phase": phase, "images": sum(line["images"] for line in lines)}
    means = {name: float(np.mean([line[name] for line in lines])) for name in names}
    deviations = {name: float(np.std([line[name] for line in lines], ddof=1)) for name in names}
    return [{**head, "fold": "mean", **means}, {**head, "fold": "sd", **deviations}]


def markdown(lines: Sequence[dict[str, Any]]) -> str:
    """The summary as a Markdown table: Dice, IoU, HD95 in pixels, shares of images changed by more than 0.02 Dice."""
    head = ("phase", "fold", "images", *SUMMARY, "worse", "better")
    table = [" | ".join(head).join(("| ", " |")), "|" + " --- |" * len(head)]
    for line in lines:
        decimals = {name: 1 if "hd95" in name else 4 for name in SUMMARY}
        scores = [
            f"{line[name]:{'+' if 'delta' in name and line['fold'] != 'sd' else ''}.{decimals[name]}f}"
            for name in SUMMARY
        ]
        shares = [f"{100 * line[name]:.1f} %" for name in ("worse_share", "better_share")]
        table.append(
            " | ".join((line["phase"], str(line["fold"]), str(line["images"]), *scores, *shares)).join(("| ", " |"))
        )
    return "\n".join(table)
