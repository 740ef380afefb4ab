"""A cross-validation: every fold through every stage of a system, as tasks that an engine does.

One task trains a fold of a stage and predicts with it. One that is done is left out when the cross-validation is started again,
and a training that was interrupted goes on from its last epoch.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow

from ultrarefiner_monai.bundle.preflight.data import read_manifest
from ultrarefiner_monai.cross_validation.engines import Task
from ultrarefiner_monai.data.manifests import Manifest
from ultrarefiner_monai.data.predictions import PredictionIndex, mean_of_maps
from ultrarefiner_monai.data.releases import find_root
from ultrarefiner_monai.data.releases.roots import resolve
from ultrarefiner_monai.errors import SHOWN_LETTERS, DataError, one_line_errors
from ultrarefiner_monai.files import json_or_empty, write_atomically, write_json
from ultrarefiner_monai.handlers.earlier_run import BEGUN_WITH, DONE, FINISHED, SETTINGS, has_work
from ultrarefiner_monai.models.card import card_or_empty
from ultrarefiner_monai.schemas import NAME, as_data, brief, fits, inside, object_of
from ultrarefiner_monai.shipped import BUNDLES
from ultrarefiner_monai.systems import DEFAULT, System, find_system
from ultrarefiner_monai.systems.classes import told_apart
from ultrarefiner_monai.systems.keys import configuration, read_leniently, stage_values
from ultrarefiner_monai.systems.system import PROMPT_SOURCE

logger = logging.getLogger(__name__)

SYSTEM = "system.json"  # name of the system; absent in the folders of earlier versions, which knew one
OF_SYSTEM = object_of({"system": NAME})
FOLDERS = ("data_root", "output_dir", "tracking_uri", "parent_run")  # may differ when it goes on
OWN = {
    "dataset": "its first argument",
    "data_root": "--data_root",
    "fold": "--folds",
    "output_dir": "--out",
    "parent_run": "nothing: the cross-validation is the parent",
    "overwrite": "nothing: another --out holds another cross-validation",
    "resume": "nothing: a cross-validation always resumes",
    "split": "nothing: a fold is validated on its own images",
    "mode": "nothing: a cross-validation trains",
}


@dataclass
class CrossValidation:
    """A cross-validation of one data set.

    Args:
        dataset: name of the data set.
        data_root: its release folder; None for the synthetic phantom.
        out: folder of all results: `<out>/<stage>/fold<k>`.
        folds: folds that are trained; None for all. Stages whose out-of-fold maps others learn from train all in any case.
        shared: configuration keys for every stage.
        settings: further configuration keys by stage.
        parent_run: MLflow run that the runs of the cross-validation belong to.
        system: what is trained.
    """

    dataset: str
    data_root: str | None
    out: Path
    folds: Sequence[int] | None = None
    shared: dict[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    parent_run: str | None = None
    system: System = field(default_factory=find_system)

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of all stages, in their order."""
        return tuple(stage.name for stage in self.system.stages)

    @cached_property
    def values(self) -> dict[str, dict[str, Any]]:
        """The keys of each stage that `shared` and `settings` make."""
        return stage_values(self.system, self.shared, self.settings, OWN)

    @property
    def manifest(self) -> Manifest:
        """The manifest of the data set."""
        return read_manifest(self.dataset, self.shared.get("manifest"), fold=0)

    @cached_property
    def num_folds(self) -> int:
        """Folds of the manifest, which is read once for them; the cross-validation travels to other processes without it."""
        return self.manifest.num_folds

    def folds_of(self, stage: str) -> list[int]:
        """Folds that `stage` trains."""
        every = list(range(self.num_folds))
        return every if self.folds is None or self.system.stage(stage).all_folds else list(self.folds)

    def check(self, stages: Iterable[str] | None = None, only_folds: Sequence[int] | None = None) -> None:
        """Refuse what cannot run before anything is written.

        Raises:
            DataError: an unknown stage, fold or configuration key, a key that is set here, a wrong data root, a folder of
                another system, or a fold that was begun with other settings.
        """
        existing = range(self.num_folds)
        if self.data_root is not None:
            find_root(self.dataset, self.data_root)
        for fold in [*(self.folds or ()), *(only_folds or ())]:
            if fold not in existing:
                raise DataError(f"fold {fold} of {self.dataset}: expected 0 to {len(existing) - 1}")
        if (found := system_of(self.out)) != self.system.name and any(self.out.glob("*/fold*")):
            raise DataError(
                f"{self.out}: holds a cross-validation of {found}, asked for {self.system.name}; name another --out"
            )
        chosen = self.stages if stages is None else tuple(stages)
        for name in chosen:
            for fold in self.folds_of(self.system.stage(name).name):
                self._refuse_other_settings(name, fold)

    def tasks(self, stages: Iterable[str] | None = None, only_folds: Sequence[int] | None = None) -> list[Task]:
        """What is not done yet: training folds and predicting with them, then averaging their maps of the test images.

        Args:
            stages: stages to do, in their order; None is all.
            only_folds: restrict every stage to these folds, so that several processes can share the work; the means over
                folds are then left to the process that finds all folds done.

        Returns:
            The tasks, each after those it needs.
        """
        tasks: dict[str, Task] = {}
        for stage in self.stages if stages is None else stages:
            folds = [fold for fold in self.folds_of(stage) if only_folds is None or fold in only_folds]
            for fold in (*(fold for fold in self.undone(stage) if fold in folds), None):
                name = self._task(stage, fold)
                work = partial(self.average_test_maps, stage) if fold is None else partial(self.run_fold, stage, fold)
                after = tuple(other for other in self._needed(stage, fold) if other in tasks)
                told = str if fold is None else partial(self.result, stage, fold)
                tasks[name] = Task(name, work, after, gpu=fold is not None, result=told)
        return list(tasks.values())

    def is_complete(self) -> bool:
        """Whether every fold of every stage is done."""
        return not any(self.undone(stage) for stage in self.stages)

    def undone(self, stage: str) -> list[int]:
        """Folds of a stage that are left to do."""
        return [fold for fold in self.folds_of(stage) if not self.is_done(stage, fold)]

    def is_done(self, stage: str, fold: int) -> bool:
        """Whether a fold is trained and has predicted."""
        return (self.folder(stage, fold) / DONE).is_file()

    def folder(self, stage: str, fold: int) -> Path:
        """Where a fold of a stage lives."""
        return self.out / stage / f"fold{fold}"

    def classes_of(self, stage: str) -> tuple[str, ...]:
        """Names of the classes that `stage` tells apart."""
        found = self.system.stage(stage)
        if not found.classes:
            return ()
        return told_apart(self.values[stage].get(found.classes, configuration(found, "train")[found.classes]))

    def prompts_of(self, stage: str) -> str:
        """Which lesions `stage` is asked about in validation and test; empty where it is asked nothing."""
        found = self.system.stage(stage)
        if not found.prompted:
            return ""
        return str(self.values[stage].get(PROMPT_SOURCE, configuration(found, "train")[PROMPT_SOURCE]))

    def islands_of(self, stage: str) -> float:
        """Share of evidence below which a part of the stage's masks does not count, as its models' cards say."""
        cards = (card_or_empty(self.folder(stage, fold) / "model.json") for fold in self.folds_of(stage))
        return next((float(card.get("islands", 0)) for card in cards if card), 0.0)

    def maps(self, stage: str, fold: int | None, channel: str) -> Path:
        """Prediction folder of an output or class: a fold's validation items, or the test items (None)."""
        return self.out / stage / ("test" if fold is None else f"fold{fold}/predictions") / self._suffix(stage, channel)

    def _suffix(self, stage: str, channel: str) -> str:
        """Where an output or class lies in a folder of predictions: those that are alone fill it."""
        return channel if len(self.channels_of(stage)) > 1 else ""

    def channels_of(self, stage: str) -> tuple[str, ...]:
        """Names of the maps that `stage` predicts: its outputs, then its classes."""
        return (*self.system.stage(stage).outputs, *self.classes_of(stage))

    def run_fold(self, stage: str, fold: int) -> None:
        """Train a fold, from its last epoch if it was begun before, and predict its validation images and the test images."""
        folder = self.folder(stage, fold)
        overrides = self.overrides(stage, fold)
        write_json(self.out / SYSTEM, {"system": self.system.name})
        write_json(folder / SETTINGS, overrides)
        found = self.system.stage(stage)
        logging.getLogger("ultrarefiner_monai").setLevel(logging.INFO)  # of run.log, in whatever process this is
        starts = {key: str(self.folder(name, fold) / "model.pt") for key, name in found.starts.items()}
        run_bundle(found.bundle, *found.configs, **overrides, resume=True, logging_file=False, **starts)
        known = configuration(found, "inference").keys() - {"dataset"}
        keys = {"dataset_name": self.dataset, "plan#stage": stage}
        keys |= {key: value for key, value in overrides.items() if key in known}
        for split in ("val", "test"):
            run_bundle(found.bundle, "inference", **keys, split=split, overwrite=True, logging_file=False)
        write_json(folder / DONE, {"model_sha256": self._model(stage, fold)})

    def result(self, stage: str, fold: int) -> str:
        """The best epoch of a fold that is done, and the metric that chose it; empty where its card says none."""
        card = card_or_empty(self.folder(stage, fold) / "model.json")
        scores = ", ".join(
            f"{name.replace('_', ' ')} {value:.4f}" for name, value in (card.get("metric") or {}).items()
        )
        return f"{scores} after epoch {card.get('epoch')}" if scores else ""

    def average_test_maps(self, stage: str) -> None:
        """Average the test maps of all folds of `stage`, once all are done."""
        if self.undone(stage):
            logger.info(
                "%s: not all folds are done, whoever does the last one averages the test maps", self.out / stage
            )
            return
        for channel in self.channels_of(stage):
            suffix = self._suffix(stage, channel)
            sources = [self.folder(stage, fold) / "predictions_test" / suffix for fold in self.folds_of(stage)]
            _average(sources, self.maps(stage, None, channel))

    def _task(self, stage: str, fold: int | None) -> str:
        """Name of the task that trains a fold, or (None) averages the test maps of all."""
        return f"{self.out.as_posix()} {stage} " + ("test" if fold is None else f"fold {fold}")

    def _needed(self, stage: str, fold: int | None) -> list[str]:
        """Tasks that one comes after: all folds of its own stage for a mean, what `Stage.after` says for a training."""
        if fold is None:
            return [self._task(stage, other) for other in self.folds_of(stage)]
        needed = []
        for which, earlier in self.system.stage(stage).after:
            folds = [fold] if which == "same" else [*self.folds_of(earlier), None]
            needed += [self._task(earlier, other) for other in folds]
        return needed

    def overrides(self, stage: str, fold: int) -> dict[str, Any]:
        """Configuration keys that a fold of a stage is trained with, but for the models that it starts from."""
        feeds = {key: str(self.out / name) for key, name in self.system.stage(stage).feeds.items()}
        return {
            "dataset": self.dataset,
            "data_root": self.data_root,
            "fold": fold,
            "output_dir": str(self.folder(stage, fold)),
            "parent_run": self.parent_run,
            **self.values[stage],
            **feeds,
        }

    def _model(self, stage: str, fold: int) -> str | None:
        """Hash of a fold's model, as its card says."""
        return card_or_empty(self.folder(stage, fold) / "model.json").get("sha256")

    def _begun_with(self, stage: str, path: Path) -> dict[str, Any]:
        """The settings that a fold was begun with; the one code that they may hold is what is asked for again."""
        found = json_or_empty(path, dict, code=True)
        own = self.values[stage]
        as_data({key: value for key, value in found.items() if value != own.get(key)}, str(path))
        return read_leniently(stage, found) if fits(found, BEGUN_WITH) else {}

    def _refuse_other_settings(self, stage: str, fold: int) -> None:
        """A fold that has learnt something goes on with the settings it was begun with; one that has not may change them."""
        folder, overrides = self.folder(stage, fold), self.overrides(stage, fold)
        if not has_work(folder):
            return
        found = self._begun_with(stage, folder / SETTINGS)
        if not found:
            raise DataError(f"{folder}: holds a training that is not of a cross-validation; name another --out")
        trained = json_or_empty(folder / DONE, dict, FINISHED).get("model_sha256")
        if trained not in (None, self._model(stage, fold)):
            raise DataError(
                f"{folder}: another training has replaced the model since this fold was done; name another --out, or remove it"
            )
        free = (*FOLDERS, *self.system.stage(stage).feeds)
        differing = [key for key in found | overrides if found.get(key) != overrides.get(key) and key not in free]
        if differing:
            key = differing[0]
            raise DataError(
                f"{folder}: begun with {inside('', key)} = {brief(found.get(key), SHOWN_LETTERS)}, "
                f"asked for {brief(overrides.get(key), SHOWN_LETTERS)}; name another --out"
            )


def system_of(folder: Path) -> str:
    """Name of the system whose cross-validation a folder holds; the default where nothing says so."""
    return str(json_or_empty(folder / SYSTEM, dict, OF_SYSTEM).get("system", DEFAULT))


def _average(sources: list[Path], target: Path) -> None:
    """Mean maps of several folds; the maps of a single one are adopted as they are."""
    if len(sources) > 1:
        mean_of_maps(sources, target)
        return
    index = PredictionIndex.load(sources[0])
    for entry in index.items:
        write_atomically(resolve(target, entry["file"]), resolve(sources[0], entry["file"]).read_bytes())
    index.write(target)


def config_files(bundle: str, *names: str) -> list[str]:
    """Files of the configurations of `bundles/<bundle>`."""
    return [str(BUNDLES / bundle / "configs" / f"{name}.json") for name in names]


@one_line_errors
def run_bundle(bundle: str, *configs: str, **overrides: Any) -> ConfigWorkflow:
    """Run configurations of `bundles/<bundle>` in this process, as `python -m monai.bundle run` would.

    Args:
        bundle: its folder below `bundles/`.
        configs: such as "train" or "inference", laid over each other; "evaluate" is laid over "train" by itself.
        overrides: configuration keys.

    Returns:
        The workflow, whose engines hold the metrics.
    """
    names = ("train", "evaluate") if configs == ("evaluate",) else configs
    workflow = ConfigWorkflow(
        config_files(bundle, *names), workflow_type="infer" if names == ("inference",) else "train", **overrides
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    return workflow
