"""The preflight of a run: what was asked for, checked, and completed by defaults or announced substitutions.

A configuration lists what a user may set; :class:`Plan` decides what the run really does with it before anything is written:
data set and manifest, networks that the machine has weights for, checkpoints and predictions to start from. On a fresh clone
nothing is prepared, and each thing that is missing is replaced by the smallest thing that works, with one warning a
replacement. Naming a data root or a checkpoint, or ``strict``, turns every replacement into an error.
"""

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ultrarefiner_monai.bundle.errors import one_line_errors
from ultrarefiner_monai.bundle.paths import project_root
from ultrarefiner_monai.bundle.release import find_pictures, make_phantom, read_manifest, sound_items
from ultrarefiner_monai.bundle.simulated import simulate_predictions
from ultrarefiner_monai.data.errors import DataError
from ultrarefiner_monai.data.manifest import Manifest, masks_of, resolve
from ultrarefiner_monai.data.out_of_fold import INDEX_NAME, mean_of_maps, pair_predictions
from ultrarefiner_monai.data.readers import find_root
from ultrarefiner_monai.networks import lite_medsam_weights

logger = logging.getLogger(__name__)

COARSE_SIZES = {"r50_vit_b16": 224, "tiny": 128}
SAM_SIZES = {"vit_b": 1024, "vit_l": 1024, "vit_h": 1024, "lite_medsam": 256, "tiny": 128}
STRIDE = 16  # of TransUNet and of SAM's ViT; also what LiteMedSAM's grid is padded to
SHORT_SCHEDULE = {"phase1": 12, "phase2": 3, "phase3": 6}
TRAVELLING = ("id", "patient", "class", "width", "height", "sha256", "coarse")


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
        data_root: folder of the release; None looks in ``data/<dataset>`` of the project.
        manifest: manifest file; None takes the shipped one.
        coarse_variant, coarse_size: the TransUNet and the side in pixels of its input; size None is the variant's own.
        pretrained: file the TransUNet's encoder starts from (phase 1).
        variant, image_size: the SAM and the side in pixels of its input (phases 2 and 3).
        sam_checkpoint: SAM weights; None takes LiteMedSAM's for that variant; "random" starts untrained.
        points: positive and negative points among the prompts; None is 1, and 0 for LiteMedSAM, which knows boxes only.
        coarse_predictions: folder with ``fold*/predictions`` of phase 1 (phase 2).
        phase1_checkpoint, phase2_checkpoint: models that phase 3 starts from; None takes the same fold's.
        output_dir: where the run writes; None is ``models/<dataset>/fold<k>`` in the bundle.
        checkpoint: trained model to evaluate or predict with; None is ``model.pt`` in ``output_dir``.
        strict: refuse substitutions.
        allow_missing: accept a release of which files are absent.
        mode: "train" or "evaluate"; evaluation needs no checkpoint to start from.
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
    mode: str = "train"
    images: str | None = None
    substitutions: list[str] = field(default_factory=list, init=False)
    content: Manifest = field(init=False)
    absent: dict[str, int] = field(default_factory=dict, init=False)
    demonstration: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._resolve()

    @one_line_errors
    def _resolve(self) -> None:
        starts = (self.pretrained, self.sam_checkpoint, self.phase1_checkpoint, self.phase2_checkpoint, self.checkpoint)
        named = (*starts, self.images, self.data_root, self.manifest, self.coarse_predictions)
        self.strict = bool(self.strict) or any(value not in (None, "random") for value in named)
        self._check_names()
        self.demonstration = self.images is None and self._resolve_data()
        self.output_dir = self.output_dir or f"{self.bundle_root}/models/{self.dataset}/fold{self.fold}"
        if self.phase == "phase3" and self.mode == "train":
            self.phase1_checkpoint = self._resolve_start("phase1", self.phase1_checkpoint)
            self.phase2_checkpoint = self._resolve_start("phase2", self.phase2_checkpoint)
        self._resolve_networks()
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
        """Folder that holds ``bundles/``, ``data/`` and the MLflow store."""
        return project_root(self.bundle_root)

    @property
    def started_from_scratch(self) -> bool:
        """Whether phase 3 trains a coarse network that no phase 1 has trained."""
        return self.phase == "phase3" and self.phase1_checkpoint is None

    @property
    def model(self) -> Path:
        """The trained model to evaluate or predict with."""
        return Path(self.checkpoint or f"{self.output_dir}/model.pt")

    def predictions_dir(self, split: str) -> str:
        """Where predictions of ``split`` go unless the user says otherwise; masks of pictures go to ``masks``."""
        if self.images is not None:
            return "masks"
        return f"{self.output_dir}/predictions" + ("" if split == "val" else f"_{split}")

    @one_line_errors
    def items(self, split: str) -> list[dict[str, Any]]:
        """Items of ``split`` ("train", "val", "test", "normal") with absolute paths; in phase 2 with their coarse maps.

        Raises:
            SystemExit: a coarse prediction is missing, doubled, stale or of the wrong size; the ids are listed.
        """
        if self.images is not None:
            return self._pictures(self.images)
        items = self.content.split(split, self.fold)
        if not items:
            raise DataError(
                f"{self.dataset}: no item in split '{split}' of fold {self.fold}; see 'ultrarefiner manifests show'"
            )
        if self.phase == "phase2":
            items = pair_predictions(items, self._prediction_folders(split), self.content, self._coarse_models())
        return [self._located(item) for item in items]

    def _pictures(self, source: str) -> list[dict[str, Any]]:
        if self.phase == "phase2":
            raise DataError("phase 2 refines coarse maps of a data set's items; predict pictures with phase 1 or 3")
        return [{"id": path.stem, "image": str(path)} for path in find_pictures(source)]

    def _located(self, item: dict[str, Any]) -> dict[str, Any]:
        root = Path(str(self.data_root))
        masks = "\n".join(str(resolve(root, mask)) for mask in masks_of(item))
        kept = {key: item[key] for key in TRAVELLING if key in item}
        image = str(resolve(root, item["image"]))
        return {**kept, "image": image, "label": masks, "label_path": masks, "name": item["image"]}

    def _check_names(self) -> None:
        if self.variant is not None:
            _check_network("variant", self.variant, SAM_SIZES, "image_size", self.image_size)
        if self.coarse_variant is not None:
            keys = ("variant", "image_size") if self.phase == "phase1" else ("coarse_variant", "coarse_size")
            _check_network(keys[0], self.coarse_variant, COARSE_SIZES, keys[1], self.coarse_size)
        if self.mode == "train" and self.epochs % self.val_interval:
            raise DataError(
                f"val_interval {self.val_interval} does not divide epochs {self.epochs}: the last epoch would not be validated"
            )

    def _resolve_data(self) -> bool:
        """Find the data; True where the embedded phantom is used because no data root was named."""
        manifest = read_manifest(self.dataset, self.manifest, self.fold)
        if self.data_root is not None and not Path(self.data_root).is_dir():
            raise DataError(
                f"data root {self.data_root}: no such folder; --data_root names the release of {self.dataset}"
            )
        default = self.project / "data" / self.dataset
        if self.data_root is None and self.dataset != "PHANTOM" and not default.is_dir():
            self._substitute(
                f"no data root for {self.dataset} (--data_root FOLDER), the synthetic PHANTOM takes its place: "
                "not a medical result"
            )
            self.dataset = "PHANTOM"
            self._shorten()
            manifest, default = read_manifest("PHANTOM", None, self.fold), self.project / "data" / "PHANTOM"
        embedded = self.data_root is None and self.dataset == "PHANTOM"
        if embedded:
            make_phantom(default)
        root = find_root(self.dataset, self.data_root or default).resolve()
        self.data_root = str(root)
        self.content, self.absent = sound_items(manifest, root, self.allow_missing)
        return embedded

    def _shorten(self) -> None:
        short = min(self.epochs, SHORT_SCHEDULE[self.phase])
        if self.mode == "train" and short < self.epochs:
            self._substitute(f"{short} epochs in place of {self.epochs}")
            self.epochs, self.val_interval = short, 1

    def _resolve_networks(self) -> None:
        if self.coarse_variant is not None:
            if self.demonstration and self.coarse_variant != "tiny":
                self._substitute(f"TransUNet 'tiny' in place of '{self.coarse_variant}'")
                self.coarse_variant = "tiny"
            self.coarse_size = self.coarse_size or COARSE_SIZES[self.coarse_variant]
        if self.variant is not None:
            self._resolve_sam()
            self.image_size = self.image_size or SAM_SIZES[self.variant]
            self.points = (0 if self.variant == "lite_medsam" else 1) if self.points is None else self.points

    def _resolve_sam(self) -> None:
        trained = not self.demonstration and (self.mode == "evaluate" or self.phase2_checkpoint is not None)
        if self.sam_checkpoint is not None or self.variant == "tiny" or trained:
            return
        if str(self.variant).startswith("vit"):
            message = f"no weights for SAM {self.variant} (--sam_checkpoint FILE)"
            if self.strict:
                raise DataError(f"{message}; or --variant lite_medsam, whose weights 'make install' brings")
            self.variant = "tiny" if _missing_lite_medsam() else "lite_medsam"
            self._substitute(f"{message}, SAM '{self.variant}' takes its place")
        if self.variant == "lite_medsam":
            missing = _missing_lite_medsam()
            if missing and self.strict:
                raise DataError(missing)
            if missing:
                self._substitute(f"{missing}; an untrained SAM 'tiny' takes its place")
                self.variant = "tiny"
            else:
                self.sam_checkpoint = str(lite_medsam_weights())

    def _resolve_predictions(self) -> None:
        if self.coarse_predictions is not None:
            return
        self.coarse_predictions = f"{Path(self.bundle_root).parent}/phase1/models/{self.dataset}"
        if self.strict or all(folder.is_dir() for folder in self._fold_folders("predictions")):
            return
        self._substitute(
            "no out-of-fold predictions of phase 1 (--coarse_predictions FOLDER), simulated errors of the true masks"
        )
        self.coarse_predictions = f"{self.output_dir}/simulated"
        simulate_predictions(self.content, Path(str(self.data_root)), Path(self.coarse_predictions))

    def _fold_folders(self, name: str) -> list[Path]:
        return [Path(f"{self.coarse_predictions}/fold{fold}/{name}") for fold in range(self.content.num_folds)]

    def _prediction_folders(self, split: str) -> list[Path]:
        if split == "normal":
            raise DataError("phase 2 has no coarse maps of normal images; evaluate them with phase 1 or 3")
        if split != "test":
            return self._fold_folders("predictions")
        mean = Path(f"{self.coarse_predictions}/test")
        folds = self._fold_folders("predictions_test")
        if not (mean / INDEX_NAME).is_file() and all((folder / INDEX_NAME).is_file() for folder in folds):
            mean_of_maps(folds, mean)
        return [mean]

    def _coarse_models(self) -> dict[int | None, str]:
        """Hash of each fold's phase 1 model, where it lies beside its predictions: maps of an older model are stale."""
        cards = {
            fold: Path(f"{self.coarse_predictions}/fold{fold}/model.json") for fold in range(self.content.num_folds)
        }
        return {
            fold: json.loads(card.read_text(encoding="utf-8"))["sha256"]
            for fold, card in cards.items()
            if card.is_file()
        }

    def _resolve_start(self, phase: str, named: str | None) -> str | None:
        path = Path(named or f"{Path(self.bundle_root).parent}/{phase}/models/{self.dataset}/fold{self.fold}/model.pt")
        if path.is_file():
            return str(path)
        message = f"no {phase} model at {path}"
        if self.strict:
            raise DataError(f"{message}; train {phase} on fold {self.fold} first or name --{phase}_checkpoint FILE")
        start = "coarse network starts untrained" if phase == "phase1" else "refiner starts from SAM's own weights"
        self._substitute(f"{message}, the {start}")
        return None

    def _substitute(self, line: str) -> None:
        if self.strict:
            raise DataError(line)
        self.substitutions.append(line)


def _check_network(key: str, name: str, sizes: Iterable[str], size_key: str, size: int | None) -> None:
    if name not in sizes:
        raise DataError(f"{key} '{name}': expected one of {', '.join(sizes)}")
    if size is not None and (not isinstance(size, int) or size <= 0 or size % STRIDE):
        raise DataError(f"{size_key} {size}: expected a positive multiple of {STRIDE}")


def _missing_lite_medsam() -> str | None:
    """Why LiteMedSAM's weights cannot be used, or None."""
    try:
        lite_medsam_weights()
    except (FileNotFoundError, ValueError) as error:
        return str(error)
    return None
