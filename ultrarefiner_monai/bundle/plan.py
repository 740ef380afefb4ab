"""The preflight of a run: what was asked for, checked, and completed by defaults or announced substitutions.

A configuration lists what a user may set; :class:`Plan` decides what the run really does with it before anything is written:
data set and manifest, networks that the machine has weights for, checkpoints and predictions to start from. On a fresh clone
nothing is prepared, and each thing that is missing is replaced by the smallest thing that works, with one warning a
replacement. Naming a data root or a checkpoint, or ``strict``, turns every replacement into an error.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ultrarefiner_monai.bundle.errors import one_line_errors
from ultrarefiner_monai.bundle.paths import find_pictures, project_root
from ultrarefiner_monai.bundle.simulated import simulate_predictions
from ultrarefiner_monai.data.errors import DataError
from ultrarefiner_monai.data.manifest import Manifest, load_manifest, masks_of, resolve, shipped_manifest
from ultrarefiner_monai.data.manifest import available as restrict_to_present
from ultrarefiner_monai.data.out_of_fold import pair_predictions
from ultrarefiner_monai.data.phantom import generate_phantom
from ultrarefiner_monai.data.readers import find_root
from ultrarefiner_monai.data.records import in_parallel
from ultrarefiner_monai.data.verify import item_faults
from ultrarefiner_monai.networks import lite_medsam_weights

logger = logging.getLogger(__name__)

COARSE_SIZES = {"r50_vit_b16": 224, "tiny": 128}
SAM_SIZES = {"vit_b": 1024, "vit_l": 1024, "vit_h": 1024, "lite_medsam": 256, "tiny": 128}
SHORT_SCHEDULE = {"phase1": 12, "phase2": 3, "phase3": 6}
TRAVELLING = ("id", "patient", "class", "width", "height", "sha256", "coarse")


@dataclass
class Plan:
    """Everything a run needs to know, resolved from the keys at the top of a bundle's configuration.

    Args:
        phase: "phase1", "phase2" or "phase3".
        bundle_root: the bundle's folder.
        dataset: name of the data set, or names joined by "+" once such a manifest was built.
        data_root: folder of the release; None looks in ``data/<dataset>`` of the project.
        manifest: manifest file; None takes the shipped one.
        fold: validation fold, 0-based.
        epochs: number of epochs.
        coarse_variant, coarse_size: the TransUNet and the side in pixels of its input; size None is the variant's own.
        variant, image_size: the SAM and the side in pixels of its input (phases 2 and 3).
        sam_checkpoint: SAM weights; None takes LiteMedSAM's for that variant; "random" starts untrained.
        points: positive and negative points among the prompts; None is 1, and 0 for LiteMedSAM, which knows boxes only.
        coarse_predictions: folder with ``fold*/predictions`` of phase 1 (phase 2).
        phase1_checkpoint, phase2_checkpoint: models that phase 3 starts from; None takes the same fold's.
        output_dir: where the run writes; None is ``models/<dataset>/fold<k>`` in the bundle.
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
    data_root: str | None = None
    manifest: str | None = None
    coarse_variant: str | None = None
    coarse_size: int | None = None
    variant: str | None = None
    image_size: int | None = None
    sam_checkpoint: str | None = None
    points: int | None = None
    coarse_predictions: str | None = None
    phase1_checkpoint: str | None = None
    phase2_checkpoint: str | None = None
    output_dir: str | None = None
    strict: bool = False
    allow_missing: bool = False
    mode: str = "train"
    images: str | None = None
    substitutions: list[str] = field(default_factory=list, init=False)
    content: Manifest = field(init=False)
    absent: dict[str, int] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._resolve()

    @one_line_errors
    def _resolve(self) -> None:
        named = (
            self.images,
            self.data_root,
            self.sam_checkpoint,
            self.coarse_predictions,
            self.phase1_checkpoint,
            self.phase2_checkpoint,
        )
        self.strict = bool(self.strict) or any(value not in (None, "random") for value in named)
        if self.variant is not None:
            _known(SAM_SIZES, self.variant, "variant")
        if self.coarse_variant is not None:
            _known(COARSE_SIZES, self.coarse_variant, "variant" if self.phase == "phase1" else "coarse_variant")
        if self.images is None:
            self._resolve_data()
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

    def items(self, split: str) -> list[dict[str, Any]]:
        """Items of ``split`` ("train", "val", "test", "normal") with absolute paths; in phase 2 with their coarse maps.

        Raises:
            SystemExit: a coarse prediction is missing, doubled, stale or of the wrong size; the ids are listed.
        """
        return self._items(split)

    @one_line_errors
    def _items(self, split: str) -> list[dict[str, Any]]:
        if self.images is not None:
            return [{"id": path.stem, "image": str(path)} for path in find_pictures(self.images)]
        items = self.content.split(split, self.fold)
        if not items:
            raise DataError(
                f"{self.dataset}: no item in split '{split}' of fold {self.fold}; see 'ultrarefiner manifests show'"
            )
        if self.phase == "phase2":
            items = pair_predictions(items, self._prediction_folders(split), self.content)
        return [self._located(item) for item in items]

    def _located(self, item: dict[str, Any]) -> dict[str, Any]:
        root = Path(str(self.data_root))
        masks = "\n".join(str(resolve(root, mask)) for mask in masks_of(item))
        kept = {key: item[key] for key in TRAVELLING if key in item}
        image = str(resolve(root, item["image"]))
        return {**kept, "image": image, "label": masks, "label_path": masks, "name": item["image"]}

    def _resolve_data(self) -> None:
        source = Path(self.manifest) if self.manifest else shipped_manifest(self.dataset)
        manifest = load_manifest(source)
        if self.fold not in range(manifest.num_folds):
            raise DataError(f"fold {self.fold} of {self.dataset}: expected 0 to {manifest.num_folds - 1}")
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
            self.dataset, self.manifest = "PHANTOM", None
            self.epochs = self._shortened()
            manifest, default = load_manifest(shipped_manifest("PHANTOM")), self.project / "data" / "PHANTOM"
        if self.data_root is None and self.dataset == "PHANTOM" and not default.is_dir():
            generate_phantom(default)
        self.data_root = str(find_root(self.dataset, self.data_root or default).resolve())
        self.content = self._present(manifest)

    def _shortened(self) -> int:
        short = min(self.epochs, SHORT_SCHEDULE[self.phase])
        if self.mode == "train" and short < self.epochs:
            self._substitute(f"{short} epochs in place of {self.epochs}")
        return short

    def _present(self, manifest: Manifest) -> Manifest:
        """Drop absent items where that is allowed, then read every file that is left and refuse faulty ones."""
        if self.allow_missing:
            manifest, self.absent = restrict_to_present(manifest, Path(str(self.data_root)))
            if any(self.absent.values()):
                counts = ", ".join(f"{name} {count}" for name, count in self.absent.items())
                logger.warning("%s is incomplete, absent items: %s", self.dataset, counts)
        found = in_parallel(lambda item: item_faults(item, Path(str(self.data_root))), manifest.items())
        faults = [fault for of_item in found for fault in of_item]
        if faults:
            shown = "; ".join(faults[:5])
            more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
            raise DataError(
                f"{self.dataset} at {self.data_root}: {shown}{more}; see 'ultrarefiner manifests verify {self.dataset}'"
            )
        return manifest

    def _resolve_networks(self) -> None:
        demo = bool(self.substitutions)
        if self.phase in ("phase1", "phase3") and demo and self.coarse_variant != "tiny":
            self._substitute(f"TransUNet 'tiny' in place of '{self.coarse_variant}'")
            self.coarse_variant = "tiny"
        if self.coarse_variant is not None:
            self.coarse_size = self.coarse_size or COARSE_SIZES[self.coarse_variant]
        if self.variant is not None:
            self._resolve_sam()
            self.image_size = self.image_size or SAM_SIZES[str(self.variant)]
            self.points = (0 if self.variant == "lite_medsam" else 1) if self.points is None else self.points

    def _resolve_sam(self) -> None:
        weights_follow = self.strict and (self.mode == "evaluate" or self.phase2_checkpoint is not None)
        if self.sam_checkpoint == "random" or self.variant == "tiny" or weights_follow:
            return
        if str(self.variant).startswith("vit") and self.sam_checkpoint is None:
            message = f"no weights for SAM {self.variant} (--sam_checkpoint FILE)"
            if self.strict:
                raise DataError(f"{message}; or --variant lite_medsam, whose weights 'make install' brings")
            self.variant = "lite_medsam" if _lite_medsam_is_there() else "tiny"
            self._substitute(f"{message}, SAM '{self.variant}' takes its place")
        if self.variant == "lite_medsam" and self.sam_checkpoint is None:
            if not self.strict and not _lite_medsam_is_there():
                self.variant = "tiny"
                self._substitute("LiteMedSAM's weights are not installed, an untrained SAM 'tiny' takes its place")
                return
            self.sam_checkpoint = str(lite_medsam_weights())

    def _resolve_predictions(self) -> None:
        if self.coarse_predictions is None:
            default = Path(self.bundle_root).parent / "phase1" / "models" / self.dataset
            folds = [default / f"fold{fold}" / "predictions" for fold in range(self.content.num_folds)]
            if all(folder.is_dir() for folder in folds) or self.strict:
                self.coarse_predictions = str(default)
            else:
                self.coarse_predictions = f"{self.output_dir}/simulated"
                self._substitute(
                    "no out-of-fold predictions of phase 1 (--coarse_predictions FOLDER), simulated errors of the true masks"
                )
                simulate_predictions(self.content, Path(str(self.data_root)), Path(self.coarse_predictions))

    def _prediction_folders(self, split: str) -> Sequence[Path]:
        folder = Path(str(self.coarse_predictions))
        if split in ("test", "normal"):
            return [folder / split]
        return [folder / f"fold{fold}" / "predictions" for fold in range(self.content.num_folds)]

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


def _known(names: Iterable[str], name: str, key: str) -> None:
    if name not in names:
        raise DataError(f"{key} '{name}': expected one of {', '.join(names)}")


def _lite_medsam_is_there() -> bool:
    try:
        lite_medsam_weights()
    except (FileNotFoundError, ValueError):
        return False
    return True
