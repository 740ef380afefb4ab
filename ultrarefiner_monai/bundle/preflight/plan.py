"""The preflight of a run: what was asked for, checked, and completed by defaults or announced substitutions.

A configuration lists what a user may set; `Plan` decides what the run really does with it before anything is written:
data set and manifest, networks that the machine has weights for, checkpoints and predictions to start from. On a fresh clone
nothing is prepared, and each thing that is missing is replaced by the smallest thing that works, with one warning a
replacement. Naming a data root or a checkpoint, or `strict`, turns every replacement into an error.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ultrarefiner_monai.bundle.paths import project_root, results_root
from ultrarefiner_monai.bundle.preflight.data import (
    default_place,
    find_pictures,
    make_phantom,
    present_items,
    read_manifest,
    sound_items,
)
from ultrarefiner_monai.bundle.preflight.networks import check_networks, resolve_networks, resolve_start
from ultrarefiner_monai.bundle.preflight.normals import choose_normals
from ultrarefiner_monai.bundle.preflight.provenance import EXTERNAL, check_models, external_origin
from ultrarefiner_monai.bundle.preflight.simulated_predictions import simulate_predictions
from ultrarefiner_monai.data.manifests.items import masks_of
from ultrarefiner_monai.data.manifests.manifest import Manifest
from ultrarefiner_monai.data.predictions.coarse_maps import CoarseMaps
from ultrarefiner_monai.data.releases.readers import find_root
from ultrarefiner_monai.data.releases.roots import Root, resolve
from ultrarefiner_monai.errors import DataError, one_line_errors

logger = logging.getLogger(__name__)

SHORT_SCHEDULE = {"phase1": 12, "phase2": 3, "phase3": 6}
UNKNOWN_SPACING = [math.nan, math.nan]  # items of one batch have the same keys
TRAVELLING = ("id", "dataset", "patient", "class", "width", "height", "sha256", "spacing", "coarse")


@dataclass
class Plan:
    """Everything a run needs to know, resolved from the keys at the top of a bundle's configuration.

    Args:
        phase: "phase1", "phase2" or "phase3".
        bundle_root: the bundle's folder.
        dataset: name of the data set.
        fold: validation fold, 0-based.
        epochs: number of epochs.
        val_interval: epochs from one validation to the next.
        data_root: folder of the release, or of all releases of a combined data set ("BUSI+BUSBRA"); None looks in
            `data/<dataset>` of the project, or in `data`.
        manifest: manifest file; None takes the shipped one.
        coarse_variant, coarse_size: the TransUNet and the side in pixels of its input; size None is the variant's own.
        pretrained: file the TransUNet's encoder starts from (phase 1).
        variant, image_size: the SAM and the side in pixels of its input (phases 2 and 3).
        sam_checkpoint: SAM weights; None takes LiteMedSAM's for that variant; "random" starts untrained.
        points: positive and negative points among the prompts; None is 1, and 0 for LiteMedSAM, which knows boxes only.
        coarse_predictions: folder with `fold*/predictions` of phase 1 (phase 2).
        phase1_checkpoint, phase2_checkpoint: models that phase 3 starts from; None takes the same fold's. In an evaluation
            the two name a cascade, which is scored in place of a model of phase 3.
        output_dir: where the run writes; None is `models/<dataset>/fold<k>` in the bundle's `results_root`.
        checkpoint: trained model to evaluate or predict with; None is `model.pt` in `output_dir`.
        strict: refuse substitutions.
        allow_missing: accept a release of which files are absent.
        skip_bad: leave out items with faulty files instead of refusing the release.
        normal_share: share of normals among the training images (phase 1).
        mode: "train" or "evaluate"; evaluation needs no checkpoint to start from.
        split: what an evaluation scores, "val" in a training; with "external", models of another data set, whose fold is in
            their cards.
        images: a picture file or a folder of pictures to predict; no manifest is involved then.

    Raises:
        SystemExit: one line on what is wrong with the request or the data.
    """

    phase: str
    bundle_root: str
    dataset: str
    fold: int
    epochs: int = 1
    val_interval: int = 1
    data_root: str | None = None
    manifest: str | None = None
    coarse_variant: str | None = None
    coarse_size: int | None = None
    pretrained: str | None = None
    variant: str | None = None
    image_size: int | None = None
    sam_checkpoint: str | None = None
    points: int | None = None
    coarse_predictions: str | None = None
    phase1_checkpoint: str | None = None
    phase2_checkpoint: str | None = None
    output_dir: str | None = None
    checkpoint: str | None = None
    strict: bool = False
    allow_missing: bool = False
    skip_bad: bool = False
    normal_share: float = 0.0
    mode: str = "train"
    split: str | None = None
    images: str | None = None
    substitutions: list[str] = field(default_factory=list, init=False)
    origin: dict[str, Any] = field(default_factory=dict, init=False)
    content: Manifest = field(init=False)
    root: Root = field(init=False)
    absent: dict[str, int] = field(default_factory=dict, init=False)
    excluded: list[dict[str, Any]] = field(default_factory=list, init=False)
    demonstration: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._resolve()

    @one_line_errors
    def _resolve(self) -> None:
        starts = (self.pretrained, self.sam_checkpoint, self.phase1_checkpoint, self.phase2_checkpoint, self.checkpoint)
        named = (*starts, self.images, self.data_root, self.manifest, self.coarse_predictions)
        self.strict = bool(self.strict) or any(value not in (None, "random") for value in named)
        check_networks(self)
        self._check_training()
        check_models(self)
        if self.split == EXTERNAL:
            self.origin, self.fold = external_origin(self), 0  # all folds of the other data set are scored
        self.demonstration = self.images is None and self._resolve_data()
        dataset, fold = self.origin.get("dataset", self.dataset), self.origin.get("fold", self.fold)
        self.output_dir = self.output_dir or f"{results_root(self.bundle_root)}/models/{dataset}/fold{fold}"
        if self.phase == "phase3" and self.mode == "train":
            self.phase1_checkpoint = resolve_start(self, "phase1", self.phase1_checkpoint)
            self.phase2_checkpoint = resolve_start(self, "phase2", self.phase2_checkpoint)
        resolve_networks(self)
        if self.phase == "phase2" and self.images is None:
            self._resolve_predictions()
        for line in self.substitutions:
            logger.warning("substituted: %s", line)

    @property
    def sam_weights(self) -> str | None:
        """File that SAM's weights are read from, None for untrained weights."""
        return None if self.sam_checkpoint == "random" else self.sam_checkpoint

    @property
    def project(self) -> Path:
        """Folder that holds `bundles/`, `data/` and the MLflow store."""
        return project_root(self.bundle_root)

    @property
    def model(self) -> Path:
        """The trained model to evaluate or predict with."""
        return Path(self.checkpoint or f"{self.output_dir}/model.pt")

    @property
    def cascade(self) -> bool:
        """Whether models of phases 1 and 2 are evaluated, one after the other, without the joint training of phase 3."""
        return self.phase == "phase3" and self.mode == "evaluate" and self.phase1_checkpoint is not None

    @property
    def system(self) -> str:
        """What is trained or evaluated: the phase, or "cascade"."""
        return "cascade" if self.cascade else self.phase

    @property
    def models(self) -> dict[str, Path]:
        """The trained models to evaluate by phase: one, or the two of a cascade."""
        if self.cascade:
            return {"phase1": Path(str(self.phase1_checkpoint)), "phase2": Path(str(self.phase2_checkpoint))}
        return {self.phase: self.model}

    @property
    def trained_on(self) -> dict[str, Any]:
        """Data set, fold and manifest hash that the cards of the run's models hold."""
        return self.origin or {"dataset": self.dataset, "fold": self.fold, "manifest_sha256": self.content.sha256}

    def scores_dir(self, split: str) -> str:
        """Where the scores of `split` go: a folder of its own for each split, other data set, and for the cascade."""
        name = f"{EXTERNAL}_{self.dataset}" if split == EXTERNAL else split
        return f"{self.output_dir}/{'cascade_' if self.cascade else ''}{name}"

    def predictions_dir(self, split: str) -> str:
        """Where predictions of `split` go unless the user says otherwise; masks of pictures go to `masks`."""
        if self.images is not None:
            return "masks"
        return f"{self.output_dir}/predictions" + ("" if split == "val" else f"_{split}")

    @one_line_errors
    def items(self, split: str) -> list[dict[str, Any]]:
        """Items of `split` ("train", "val", "test", "normal") with absolute paths; in phase 2 with their coarse maps.

        "external" are those of another data set than the models', for evaluations.

        Raises:
            SystemExit: a coarse prediction is missing, doubled, stale or of the wrong size; the ids are listed.
        """
        if self.images is not None:
            return self._pictures(self.images)
        if split == EXTERNAL and not self.origin:
            raise DataError("split 'external' is for evaluate.json: a trained model on a data set that it has not seen")
        items = self.content.split(split, self.fold)
        if not items:
            raise DataError(
                f"{self.dataset}: no item in split '{split}' of fold {self.fold}; see 'ultrarefiner manifests show'"
            )
        if self.phase == "phase2":
            items = self.coarse_maps.pair(items, split)
        return [self._located(item) for item in items]

    @one_line_errors
    def training_items(self) -> list[dict[str, Any]]:
        """Items of split "train", followed by the normals that `normal_share` asks for."""
        items = self.items("train")
        normals = choose_normals(self.content, self.fold, len(items), self.normal_share)
        return items + [self._located(item) for item in normals]

    @property
    def coarse_maps(self) -> CoarseMaps:
        """The predictions of phase 1 that phase 2 refines."""
        return CoarseMaps(Path(str(self.coarse_predictions)), self.content)

    def substitute(self, line: str) -> None:
        """Note that the run uses something else than it was asked for.

        Raises:
            DataError: the plan is strict.
        """
        if self.strict:
            raise DataError(line)
        self.substitutions.append(line)

    def _pictures(self, source: str) -> list[dict[str, Any]]:
        if self.phase == "phase2":
            raise DataError("phase 2 refines coarse maps of a data set's items; predict pictures with phase 1 or 3")
        return [{"id": path.stem, "image": str(path)} for path in find_pictures(source)]

    def _located(self, item: dict[str, Any]) -> dict[str, Any]:
        masks = "\n".join(str(resolve(self.root, mask)) for mask in masks_of(item))
        kept = {"spacing": UNKNOWN_SPACING} | {key: item[key] for key in TRAVELLING if key in item}
        image = str(resolve(self.root, item["image"]))
        return {**kept, "image": image, "label": masks, "label_path": masks, "name": item["image"]}

    def _check_training(self) -> None:
        if self.mode != "train":
            return
        if self.split not in (None, "val"):
            raise DataError(
                f"split '{self.split}' is for evaluate.json; a training is validated on 'val', its own fold"
            )
        if self.epochs % self.val_interval:
            raise DataError(
                f"val_interval {self.val_interval} does not divide epochs {self.epochs}: the last epoch would not be validated"
            )

    def _resolve_data(self) -> bool:
        """Find the data; True where the embedded phantom is used because no data root was named."""
        manifest = read_manifest(self.dataset, self.manifest, self.fold)
        if self.data_root is not None and not Path(self.data_root).exists():
            raise DataError(
                f"data root {self.data_root}: no such folder; --data_root names the release of {self.dataset}"
            )
        place = self.data_root or default_place(self.project, self.dataset)
        if place is None and self.dataset != "PHANTOM":
            self._take_phantom()
            manifest = read_manifest("PHANTOM", None, self.fold)
        embedded = self.data_root is None and self.dataset == "PHANTOM"
        found = make_phantom(self.project / "data" / "PHANTOM") if embedded else Path(str(place)).resolve()
        self.root = find_root(self.dataset, found)
        self.data_root = str(found if isinstance(self.root, Mapping) else self.root)
        if self.allow_missing:
            manifest, self.absent = present_items(manifest, self.root)
        try:
            self.content, self.excluded = sound_items(manifest, self.root, self.skip_bad)
        except DataError as error:
            if not embedded:
                raise
            raise DataError(f"{error}; remove {found} to have the phantom made anew") from None
        return embedded

    def _take_phantom(self) -> None:
        self.substitute(
            f"no data root for {self.dataset} (--data_root FOLDER), the synthetic PHANTOM takes its place: "
            "not a medical result"
        )
        self.dataset = "PHANTOM"
        short = min(self.epochs, SHORT_SCHEDULE[self.phase])
        if self.mode == "train" and short < self.epochs:
            self.substitute(f"{short} epochs in place of {self.epochs}")
            self.epochs, self.val_interval = short, 1

    def _resolve_predictions(self) -> None:
        if self.coarse_predictions is not None:
            return
        self.coarse_predictions = f"{results_root(self.bundle_root).parent}/phase1/models/{self.dataset}"
        if self.strict or self.coarse_maps.are_there():
            return
        self.substitute(
            "no out-of-fold predictions of phase 1 (--coarse_predictions FOLDER), simulated errors of the true masks"
        )
        self.coarse_predictions = f"{self.output_dir}/simulated"
        simulate_predictions(self.content, self.root, Path(self.coarse_predictions))
