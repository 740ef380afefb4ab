"""What a run is asked for, and the substitutions that a demonstration makes of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from ultrarefiner_monai.bundle.paths import manifests_of
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.shipped import project_root, results_root
from ultrarefiner_monai.systems import Stage, System, find_stage
from ultrarefiner_monai.systems.system import PROMPT_MAPS


@dataclass(frozen=True)
class Request:
    """The keys of a configuration that decide what a run does.

    Args:
        system: the method.
        stage: the training of it that is done, evaluated or predicted with.
        bundle_root: the bundle's folder.
        dataset: name of the data set.
        fold: validation fold, 0-based.
        epochs: number of epochs.
        val_interval: epochs from one validation to the next.
        data_root: folder of the release, or of all releases of a combined data set ("BUSI+BUSBRA"); None looks in
            `data/<dataset>` of the project, or in `data`.
        manifest: manifest file; None takes the shipped one.
        output_dir: where the run writes; None is `<stage's folder>/<dataset>/fold<k>` in the bundle's `results_root`.
        checkpoint: trained model to evaluate or predict with; None is `model.pt` in `output_dir`.
        strict: refuse substitutions; naming a file or folder does so, too.
        allow_missing: accept a release of which files are absent.
        skip_bad: leave out items with faulty files instead of refusing the release.
        normal_share: share of normals among the training images.
        islands: share of evidence below which a part of a mask is left out; None is what the model's card says.
        cache_rate: share of the images that is kept in memory; None is all up to 512 px, none above.
        mode: "train" or "evaluate"; evaluation needs no checkpoint to start from.
        split: what an evaluation scores, "val" in a training; with "external", models of another data set, whose fold is in
            their cards.
        images: an image file or a folder of images to predict; no manifest is involved then.
        resume: go on with the training in `output_dir`.
        overwrite: replace what an earlier run has left there.
        own: the stage's own keys: variants and sizes, weights, models it starts from, maps that feed it.
    """

    system: System
    stage: Stage
    bundle_root: str
    dataset: str
    fold: int = 0
    epochs: int = 1
    val_interval: int = 1
    data_root: str | None = None
    manifest: str | None = None
    output_dir: str | None = None
    checkpoint: str | None = None
    strict: bool = False
    allow_missing: bool = False
    skip_bad: bool = False
    normal_share: float = 0.0
    islands: float | None = None
    cache_rate: float | None = None
    mode: Literal["train", "evaluate"] = "train"
    split: str | None = None
    images: str | None = None
    resume: bool = False
    overwrite: bool = False
    own: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, stage: str, keys: Mapping[str, Any]) -> "Request":
        """The request for a stage that a configuration's top-level keys make; keys of other purposes are passed over."""
        system, found = find_stage(stage)
        shared = {one.name for one in fields(cls)} - {"system", "stage", "own"}
        own = {key: keys.get(key) for key in found.own_keys if key in keys}
        return cls(system, found, **{key: keys[key] for key in shared & keys.keys()}, own=own)

    @property
    def is_strict(self) -> bool:
        """Whether nothing may be substituted: the user says so, or has named a file or folder."""
        stage = self.stage
        own = [self.own.get(key) for key in (*stage.weights, *stage.starts, *stage.feeds, PROMPT_MAPS)]
        named = (self.checkpoint, self.images, self.data_root, self.manifest, *own)
        return self.strict or any(value not in (None, "random") for value in named)

    @property
    def project(self) -> Path:
        """Folder that holds `bundles/`, `data/` and the MLflow store."""
        return project_root(self.bundle_root)

    @property
    def manifests(self) -> Path:
        """Folder of the manifests that the bundle comes with."""
        return manifests_of(self.bundle_root)

    @property
    def cascade(self) -> bool:
        """Whether the models that the stage starts from are evaluated one after the other, without its own training."""
        return self.mode == "evaluate" and any(self.own.get(key) is not None for key in self.stage.starts)

    def results_of(self, stage: str) -> Path:
        """Folder in which the bundle of another stage of the system keeps its models, by data set and fold."""
        found = self.system.stage(stage)
        return results_root(self.bundle_root).parent / found.bundle / found.folder


@dataclass(frozen=True)
class Networks:
    """What a system's resolver decides.

    Args:
        settings: the stage's own keys, completed.
        image_size: side in pixels of the square that the network sees.
        parameters: what the run's parameters say of it.
        weights: files of published weights that it starts from, by the name of their hash in the run's parameters.
    """

    settings: Mapping[str, Any]
    image_size: int
    parameters: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)


class Substitutions:
    """What a run uses in place of what it was asked for.

    Args:
        strict: refuse all.
    """

    def __init__(self, strict: bool) -> None:
        self.strict = strict
        self.lines: list[str] = []

    def add(self, line: str, refusal: str | None = None) -> None:
        """Note a substitution.

        Raises:
            DataError: substitutions are refused; `refusal` says why, by default the line itself.
        """
        if self.strict:
            raise DataError(refusal or line)
        self.lines.append(line)
