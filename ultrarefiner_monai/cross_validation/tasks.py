"""A whole cross-validation: every fold through every phase, then the scores of all predictions.

A study is a list of tasks, which an engine does: one trains a fold of a phase and predicts with it. One that is done is left
out when the study is started again, and a training that was interrupted goes on from its last epoch.
"""

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow

from ultrarefiner_monai.bundle.paths import BUNDLES
from ultrarefiner_monai.bundle.preflight.data import read_manifest
from ultrarefiner_monai.cross_validation.engines import Task
from ultrarefiner_monai.data.datasets import PHASES
from ultrarefiner_monai.data.manifests.manifest import Manifest
from ultrarefiner_monai.data.predictions.index import PredictionIndex
from ultrarefiner_monai.data.predictions.mean import mean_of_maps
from ultrarefiner_monai.data.releases.readers import find_root
from ultrarefiner_monai.errors import DataError, one_line_errors
from ultrarefiner_monai.files import write_atomically
from ultrarefiner_monai.systems import System, find_system

logger = logging.getLogger(__name__)

DONE = "finished.json"  # a fold is trained and has predicted
SETTINGS = "settings.json"  # what it was begun with
PLACES = ("data_root", "output_dir", "coarse_predictions", "tracking_uri", "parent_run")  # may differ when it goes on
OWN = {
    "dataset": "its first argument",
    "data_root": "--data_root",
    "fold": "--folds",
    "output_dir": "--out",
    "parent_run": "nothing: the study is the parent",
    "coarse_predictions": "nothing: they are the study's own",
    "phase1_checkpoint": "nothing: it is the study's own",
    "phase2_checkpoint": "nothing: it is the study's own",
    "resume": "nothing: a study always resumes",
    "split": "nothing: a fold is validated on its own images",
    "mode": "nothing: a study trains",
}


@dataclass
class Study:
    """A cross-validation of one data set.

    Args:
        dataset: name of the data set.
        data_root: its release folder; None for the synthetic phantom.
        out: folder of all results: `<out>/<phase>/fold<k>`.
        folds: folds that phases 2 and 3 train; None for all. Phase 1 always trains all, since phase 2 learns from the
            out-of-fold predictions of the whole training set.
        shared: configuration keys for every phase.
        settings: further configuration keys by phase.
        parent_run: MLflow run that the runs of the study belong to.
    """

    dataset: str
    data_root: str | None
    out: Path
    folds: Sequence[int] | None = None
    shared: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    parent_run: str | None = None
    system: System = field(default_factory=find_system)

    @property
    def manifest(self) -> Manifest:
        """The manifest of the data set."""
        return read_manifest(self.dataset, self.shared.get("manifest"), fold=0)

    @cached_property
    def num_folds(self) -> int:
        """Folds of the manifest, which is read once for them; the study travels to other processes without it."""
        return self.manifest.num_folds

    def folds_of(self, phase: str) -> list[int]:
        """Folds that `phase` trains."""
        every = list(range(self.num_folds))
        return every if phase == "phase1" or self.folds is None else list(self.folds)

    def check(self, phases: Iterable[str] = PHASES, only_folds: Sequence[int] | None = None) -> None:
        """Refuse what cannot run before anything is written.

        Raises:
            DataError: an unknown phase, fold or configuration key, a key that the study sets itself, a wrong data root, or
                a fold that was begun with other settings.
        """
        existing = range(self.num_folds)
        if self.data_root is not None:
            find_root(self.dataset, self.data_root)
        for fold in [*(self.folds or ()), *(only_folds or ())]:
            if fold not in existing:
                raise DataError(f"fold {fold} of {self.dataset}: expected 0 to {len(existing) - 1}")
        for phase in [*phases, *self.settings]:
            if phase not in PHASES:
                raise DataError(f"unknown phase '{phase}': expected {', '.join(PHASES)}")
            for key in self.shared | self.settings.get(phase, {}):
                self._check_key(phase, key)
        for phase in phases:
            for fold in self.folds_of(phase):
                self._refuse_other_settings(self.folder(phase, fold), self._overrides(phase, fold))

    @staticmethod
    def _check_key(phase: str, key: str) -> None:
        if key in OWN:
            raise DataError(f"'{key}' is set by the study; use {OWN[key]}")
        known = _config_keys(phase, "train")
        if key not in known:
            nearest = get_close_matches(key, sorted(known), n=1)
            hint = f": did you mean '{nearest[0]}'?" if nearest else "; docs/reference/keys.md lists the keys"
            raise DataError(f"unknown configuration key '{key}' of {phase}{hint}")

    def tasks(self, phases: Iterable[str] = PHASES, only_folds: Sequence[int] | None = None) -> list[Task]:
        """What is not done yet: training folds and predicting with them, then averaging their maps of the test images.

        Args:
            phases: phases to do, in their order.
            only_folds: restrict every phase to these folds, so that several processes can share a study; the means over
                folds are then left to the process that finds all folds done.

        Returns:
            The tasks, each after those it needs.
        """
        tasks: dict[str, Task] = {}
        for phase in phases:
            folds = [fold for fold in self.folds_of(phase) if only_folds is None or fold in only_folds]
            for fold in (*(fold for fold in folds if not self._is_done(self.folder(phase, fold))), None):
                name = self._task(phase, fold)
                work = partial(self.average_test_maps, phase) if fold is None else partial(self.run_fold, phase, fold)
                after = tuple(other for other in self._needed(phase, fold) if other in tasks)
                tasks[name] = Task(name, work, after, gpu=fold is not None)
        return list(tasks.values())

    def is_complete(self) -> bool:
        """Whether every fold of every phase is done."""
        return all(self._is_done(self.folder(phase, fold)) for phase in PHASES for fold in self.folds_of(phase))

    def folder(self, phase: str, fold: int) -> Path:
        """Where a fold of a phase lives."""
        return self.out / phase / f"fold{fold}"

    def maps(self, phase: str, fold: int | None, channel: str) -> Path:
        """Prediction folder of `channel` ("coarse" or "refined"): a fold's validation items, or the test items (None)."""
        folder = self.out / phase / ("test" if fold is None else f"fold{fold}/predictions")
        return folder if phase == "phase1" else folder / channel

    def run_fold(self, phase: str, fold: int) -> None:
        """Train a fold, from its last epoch if it was begun before, and predict its validation images and the test images."""
        folder = self.folder(phase, fold)
        overrides = self._overrides(phase, fold)
        content = (json.dumps(overrides, indent=1) + "\n").encode()
        write_atomically(folder / SETTINGS, content)
        run_bundle(phase, "train", **overrides, resume=True, **self._starting_points(phase, fold))
        for split in ("val", "test"):
            run_bundle(phase, "inference", **self._inference_keys(phase, overrides), split=split)
        write_atomically(folder / DONE, content)

    def average_test_maps(self, phase: str) -> None:
        """Average the test maps of all folds of `phase`, once all are done."""
        if not all(self._is_done(self.folder(phase, fold)) for fold in self.folds_of(phase)):
            logger.info(
                "%s: not all folds are done, whoever does the last one averages the test maps", self.out / phase
            )
            return
        for channel in ("coarse",) if phase == "phase1" else ("coarse", "refined"):
            target = self.maps(phase, None, channel)
            suffix = Path() if phase == "phase1" else Path(channel)
            sources = [self.folder(phase, fold) / "predictions_test" / suffix for fold in self.folds_of(phase)]
            _average(sources, target)

    def _task(self, phase: str, fold: int | None) -> str:
        """Name of the task that trains a fold, or (None) averages the test maps of all."""
        return f"{self.out.as_posix()} {phase} " + ("test" if fold is None else f"fold {fold}")

    def _needed(self, phase: str, fold: int | None) -> list[str]:
        """Tasks that one comes after.

        Phase 2 learns from the predictions of all of phase 1, phase 3 goes on from phases 1 and 2 of its own fold.
        """
        if fold is None:
            return [self._task(phase, other) for other in self.folds_of(phase)]
        if phase == "phase2":
            return [*self._needed("phase1", None), self._task("phase1", None)]
        return [self._task(earlier, fold) for earlier in PHASES[: PHASES.index(phase)]]

    def _overrides(self, phase: str, fold: int) -> dict[str, Any]:
        keys = {
            "dataset": self.dataset,
            "data_root": self.data_root,
            "fold": fold,
            "output_dir": str(self.folder(phase, fold)),
            "parent_run": self.parent_run,
            **self.shared,
            **self.settings.get(phase, {}),
        }
        if phase == "phase2":
            keys["coarse_predictions"] = str(self.out / "phase1")
        return keys

    def _starting_points(self, phase: str, fold: int) -> dict[str, str]:
        if phase != "phase3":
            return {}
        return {f"{name}_checkpoint": str(self.folder(name, fold) / "model.pt") for name in ("phase1", "phase2")}

    def _inference_keys(self, phase: str, overrides: dict[str, Any]) -> dict[str, Any]:
        known = _config_keys(phase, "inference")
        return {"dataset_name": self.dataset} | {
            key: value for key, value in overrides.items() if key in known - {"dataset"}
        }

    def _is_done(self, folder: Path) -> bool:
        return (folder / DONE).is_file()

    def _refuse_other_settings(self, folder: Path, overrides: dict[str, Any]) -> None:
        if not (folder / SETTINGS).is_file():
            return
        found = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        differing = [key for key in found | overrides if found.get(key) != overrides.get(key) and key not in PLACES]
        if differing:
            key = differing[0]
            raise DataError(
                f"{folder}: begun with {key} = {found.get(key)!r}, asked for {overrides.get(key)!r}; name another --out"
            )


def _average(sources: list[Path], target: Path) -> None:
    """Mean maps of several folds; the maps of a single one are adopted as they are."""
    if len(sources) > 1:
        mean_of_maps(sources, target)
        return
    index = PredictionIndex.load(sources[0])
    for entry in index.items:
        write_atomically(target / entry["file"], (sources[0] / entry["file"]).read_bytes())
    index.write(target)


@one_line_errors
def run_bundle(phase: str, config: str, **overrides: Any) -> ConfigWorkflow:
    """Run `bundles/<phase>/configs/<config>.json` in this process, as `python -m monai.bundle run` would.

    Args:
        phase: the bundle.
        config: "train" or "inference"; "evaluate" runs on top of "train".
        overrides: configuration keys.

    Returns:
        The workflow, whose engines hold the metrics.
    """
    folder = BUNDLES / phase / "configs"
    names = ["train", "evaluate"] if config == "evaluate" else [config]
    kind = "infer" if config == "inference" else "train"
    workflow = ConfigWorkflow([str(folder / f"{name}.json") for name in names], workflow_type=kind, **overrides)
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    return workflow


def _config_keys(phase: str, config: str) -> set[str]:
    return set(json.loads((BUNDLES / phase / "configs" / f"{config}.json").read_text(encoding="utf-8")))
