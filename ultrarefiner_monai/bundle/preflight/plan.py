"""What a run really does: its data, networks, models and folders. Made by `decision`, and changed by nothing."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ultrarefiner_monai.bundle.preflight.data import FoundData, find_images
from ultrarefiner_monai.bundle.preflight.normals import choose_normals
from ultrarefiner_monai.bundle.preflight.provenance import EXTERNAL
from ultrarefiner_monai.bundle.preflight.request import Networks, Request
from ultrarefiner_monai.bundle.preflight.sequences import empty_frames, in_sequences
from ultrarefiner_monai.data.manifests import Manifest, masks_of
from ultrarefiner_monai.data.manifests.items import Item
from ultrarefiner_monai.data.predictions import CoarseMaps
from ultrarefiner_monai.data.releases import resolve
from ultrarefiner_monai.errors import DataError, one_line_errors
from ultrarefiner_monai.models.card import card_or_empty
from ultrarefiner_monai.systems import Stage
from ultrarefiner_monai.systems.classes import CLASSES, LESION, ORGANS, told_apart
from ultrarefiner_monai.systems.sequence_keys import IN_SEQUENCE, PATIENT, SEQUENCE_OF

UNKNOWN_SPACING = [math.nan, math.nan]  # items of one batch have the same keys
MOST_CACHED = 512  # px; 1000 images of that side take 1 GB
TRAVELLING = (
    "id",
    "dataset",
    "patient",
    "class",
    "width",
    "height",
    "sha256",
    "spacing",
    "coarse",
    SEQUENCE_OF,
    "position",
    "case",
    "slice",
    "slice_spacing",
    "organ",
    "clip",
)


@dataclass(frozen=True)
class Plan:
    """Everything that a run needs to know, see `make_plan`.

    Args:
        request: what was asked for.
        data: the data set; None where single images are predicted.
        networks: variants, sizes and published weights.
        starts: by configuration key the models that the stage starts from; None where it starts without.
        feeds: by configuration key the folders of the maps that feed the stage.
        origin: data set, fold and manifest hash of models that are evaluated on another data set; else empty.
        output_dir: where the run writes.
        substitutions: what takes the place of what was asked for, a line each.
    """

    request: Request
    data: FoundData | None
    networks: Networks
    starts: Mapping[str, str | None]
    feeds: Mapping[str, str]
    origin: Mapping[str, Any]
    output_dir: str
    substitutions: tuple[str, ...]

    @property
    def stage(self) -> Stage:
        """The stage that is trained, evaluated or predicted with."""
        return self.request.stage

    @property
    def network(self) -> Mapping[str, Any]:
        """The stage's own keys, completed: variants, sizes, weights."""
        return self.networks.settings

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that the network tells apart; empty where it tells none."""
        return told_apart(self.network[self.stage.classes]) if self.stage.classes else ()

    @cached_property
    def organs(self) -> list[int]:
        """Numbers of the labels of volumes that `classes` are; empty where they are classes of images, or none."""
        return [] if self.data is None else self.manifest.organs(self.classes)

    @property
    def labels(self) -> str:
        """What the values of a mask mean: "lesion" (0 and 1), the number of the image's class, "classes", or of "organs"."""
        return ORGANS if self.organs else CLASSES if self.classes else LESION

    @property
    def prompts(self) -> str:
        """What a network is asked with in validation and test, such as "truth_box"; empty where it asks for nothing."""
        if self.stage.prompted:
            return str(self.network["prompt_source"])
        return "truth_box" if self.network.get("true_boxes") else ""

    @property
    def dataset(self) -> str:
        """Name of the data set that the run is on."""
        return self.request.dataset if self.data is None else self.data.name

    @property
    def data_root(self) -> str | None:
        """Folder of the release."""
        return self.request.data_root if self.data is None else self.data.folder

    @property
    def manifest(self) -> Manifest:
        """The items of the data set, without absent and excluded ones; single images have none."""
        return self.data.manifest  # type: ignore[union-attr]

    @property
    def absent(self) -> Mapping[str, int]:
        """Number of absent items of each fold and list."""
        return {} if self.data is None else self.data.absent

    @property
    def excluded(self) -> Sequence[dict[str, Any]]:
        """Items that are left out: `{"id", "reasons"}` each."""
        return () if self.data is None else self.data.excluded

    @property
    def epochs(self) -> int:
        """Number of epochs."""
        return self.request.epochs if self.data is None else self.data.epochs

    @property
    def val_interval(self) -> int:
        """Epochs from one validation to the next."""
        return self.request.val_interval if self.epochs == self.request.epochs else 1

    @property
    def cache_rate(self) -> float:
        """Share of the images that is kept in memory."""
        asked = self.request.cache_rate
        return float(self.networks.image_size <= MOST_CACHED) if asked is None else asked

    @property
    def islands(self) -> float:
        """Share of evidence below which a part of a picture's mask is left out (`masks.without_islands`); none of slices is."""
        if self.data is not None and any("depth" in item for item in self.manifest.items()):
            return 0.0
        if self.request.islands is None:
            return float(card_or_empty(list(self.models.values())[-1].with_suffix(".json")).get("islands", 0))
        return self.request.islands

    @property
    def fold(self) -> int:
        """Fold whose items are meant; an external data set is scored whole."""
        return 0 if self.origin else self.request.fold

    @property
    def name(self) -> str:
        """What is trained or evaluated: the stage, or "cascade"."""
        return "cascade" if self.request.cascade else self.stage.name

    @property
    def is_demonstration(self) -> bool:
        """Whether the embedded data set or anything else took the place of the real thing."""
        return bool(self.substitutions) or (self.data is not None and self.data.embedded)

    @property
    def models(self) -> dict[str, Path]:
        """The trained models to evaluate by stage: one, or those of a cascade."""
        if self.request.cascade:
            return {stage: Path(str(self.starts[key])) for key, stage in self.stage.starts.items()}
        return {self.stage.name: Path(self.request.checkpoint or f"{self.output_dir}/model.pt")}

    @property
    def trained_on(self) -> dict[str, Any]:
        """Data set, fold and manifest hash that the cards of the run's models hold; empty for single images."""
        if self.data is None:
            return {}
        own = {"dataset": self.dataset, "fold": self.fold, "manifest_sha256": self.data.manifest.sha256}
        return dict(self.origin) or own

    def scores_dir(self, split: str) -> str:
        """Where the scores of `split` go: a folder of its own for each split, other data set, prompt source, and the cascade."""
        name = f"{EXTERNAL}_{self.dataset}" if split == EXTERNAL else split
        if self.prompts:
            name = f"{name}_{self.prompts}"
        return f"{self.output_dir}/{'cascade_' if self.request.cascade else ''}{name}"

    def predictions_dir(self, split: str) -> str:
        """Where predictions of `split` go unless the user says otherwise; masks of single images go to `masks`."""
        if self.data is None:
            return "masks"
        return f"{self.output_dir}/predictions" + ("" if split == "val" else f"_{split}")

    @one_line_errors
    def items(self, split: str | None = None) -> list[dict[str, Any]]:
        """Items of `split` ("train", "val", "test", "normal") with absolute paths, and with the maps that feed the stage.

        None is the request's own split, the one that is scored. "external" are those of another data set than the models',
        for evaluations.

        Raises:
            SystemExit: a map is missing, doubled, stale or of the wrong size; the ids are listed.
        """
        if self.data is None and self.stage.feeds:
            raise DataError(
                f"{self.stage.name} refines maps of a data set's items, which single images lack; predict them with another"
            )
        if self.data is None and self.stage.prompted:
            raise DataError(
                f"{self.stage.name} is asked about lesions: of single images use 'ultrarefiner predict' with --boxes FILE, "
                "--points FILE or --auto MODEL"
            )
        if self.data is None:
            alone = SEQUENCE_OF in self.network  # a picture is a sequence of one frame
            return [
                {"id": path.stem, "image": str(path)} | ({SEQUENCE_OF: path.stem, "position": 0} if alone else {})
                for path in find_images(str(self.request.images))
            ]
        split = split or self.request.split or "val"
        if split == EXTERNAL and not self.origin:
            raise DataError("split 'external' is for evaluate.json: a trained model on a data set that it has not seen")
        items = self.manifest.split(split, self.fold)
        if not items:
            raise DataError(
                f"{self.dataset}: no item in split '{split}' of fold {self.fold}; see 'ultrarefiner manifests show'"
            )
        for folder in self.feeds.values():
            items = CoarseMaps(Path(folder), self.manifest).pair(items, split)
        return [self._located(item) for item in self._arranged(items, split)]

    @one_line_errors
    def training_items(self) -> list[dict[str, Any]]:
        """Items of split "train", followed by the normals that `normal_share` asks for."""
        items = self.items("train")
        normals = choose_normals(self.manifest, self.fold, len(items), self.request.normal_share)
        return items + [self._located(item) for item in self._arranged(normals, "normal")]

    def _arranged(self, items: list[Item], split: str) -> list[Item]:
        """The items of a split in their sequences, which have the patients' normals as empty frames where that is asked for."""
        if SEQUENCE_OF not in self.network:
            return items
        kind = self.network[SEQUENCE_OF]
        if kind == PATIENT and self.network.get("normals") == IN_SEQUENCE:
            patients = {item["patient"] for item in items}
            normals = empty_frames(self.manifest, split, self.fold)
            items = items + [item for item in normals if item["patient"] in patients]
        return in_sequences(items, kind)

    def _located(self, item: dict[str, Any]) -> dict[str, Any]:
        root = self.data.root  # type: ignore[union-attr]  # items come from a manifest
        masks = "\0".join(str(resolve(root, mask)) for mask in masks_of(item))
        kept = {"spacing": UNKNOWN_SPACING} | {key: item[key] for key in TRAVELLING if key in item}
        image = str(resolve(root, item["image"]))
        kept |= {"organs": self.organs} if self.organs else {}
        return {**kept, "image": image, "label": masks, "label_path": masks, "name": item.get("name", item["image"])}
