"""The scores that a report is made from: of the prediction maps where the images are there, else of a table of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ultrarefiner_monai.cross_validation.scores import Prediction, predictions, score_row
from ultrarefiner_monai.data.manifests.manifest import Manifest
from ultrarefiner_monai.data.releases.roots import Root
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.metrics.scores import Row, calibrate_image
from ultrarefiner_monai.metrics.scores_file import PER_IMAGE, read_rows
from ultrarefiner_monai.parallel import in_parallel
from ultrarefiner_monai.reports.result_files import ResultFiles
from ultrarefiner_monai.reports.tables import place_of, stages_of

Key = tuple[str, str]  # stage and place


@dataclass(frozen=True)
class Scores:
    """Rows of all stages and places, and what belongs to them.

    Attributes:
        rows: one an image and stage, see `cross_validation.scores.score`.
        calibration: sums (output, region, 3, bins) of all images of a stage and place; empty without the maps.
        predictions: by stage and image id, for figures.
        notes: what could not be read, in words.
    """

    rows: list[Row]
    calibration: dict[Key, np.ndarray]
    predictions: dict[Key, Prediction]
    notes: list[str]

    def stages(self) -> list[str]:
        """Stages that have rows, in their order."""
        return stages_of(self.rows)

    def of(self, stage: str, place: str) -> list[Row]:
        """The rows of a stage and place."""
        return [row for row in self.rows if row["phase"] == stage and place_of(row) == place]


def score_results(files: ResultFiles) -> Scores:
    """Score every prediction of a cross-validation's stages at the images' own size.

    Raises:
        DataError: there is nothing to score, or neither images nor a table of them.
    """
    root, manifest = files.root, files.manifest
    if root is None or manifest is None:
        return _from_table(files)
    found, notes = _predictions(files, manifest)
    outcomes = in_parallel(lambda one: _score(one, files.cv.dataset, root), found, progress="scores")
    scored = [outcome for outcome in outcomes if not isinstance(outcome, str)]
    faults = [outcome for outcome in outcomes if isinstance(outcome, str)]
    if not scored:
        raise DataError(f"cross-validation {files.cv.out}: {(faults + notes + ['no fold has predicted yet'])[0]}")
    if faults:
        notes.append(f"{len(faults)} predictions could not be scored and are left out ({faults[0]})")
    sums: dict[Key, Any] = {}
    for row, part in scored:
        key = row["phase"], place_of(row)
        sums[key] = sums.get(key, 0) + part
    return Scores([row for row, _ in scored], sums, {(one.phase, one.item["id"]): one for one in found}, notes)


def _predictions(files: ResultFiles, manifest: Manifest) -> tuple[list[Prediction], list[str]]:
    found, notes = [], []
    for stage in files.stages():
        folds: Sequence[int | None] = [*(run.fold for run in files.runs_of(stage)), None]
        for fold in (fold for fold in folds if files.has_maps(stage, fold)):
            try:
                found += predictions(files.cv, manifest, stage, fold)
            except DataError as error:
                notes.append(str(error))
    return found, notes


def _score(prediction: Prediction, dataset: str, root: Root) -> tuple[Row, np.ndarray] | str:
    """Row and calibration sums of an image, or what is wrong with its files."""
    try:
        maps, truth = prediction.read(root)
        return score_row(prediction, dataset, maps, truth), calibrate_image(maps[: len(prediction.files)], truth)
    except (DataError, ValueError) as error:
        return str(error)


def _from_table(files: ResultFiles) -> Scores:
    path = files.cv.out / PER_IMAGE
    if not path.is_file():
        raise DataError(f"cross-validation {files.cv.out}: {files.notes[0]}, and it has no {PER_IMAGE} of its own")
    rows = read_rows(path)
    if not rows or not {"phase", "fold", "dataset"} <= rows[0].keys():
        raise DataError(
            f"{path}: expected rows with phase, fold and dataset, found none; run the cross-validation again"
        )
    note = f"images or manifest are not there: scores are those of {PER_IMAGE}, without calibration and pictures"
    return Scores(rows, {}, {}, [note])
