"""What a run really does: its data, networks, models and folders, decided before anything is written.

A configuration lists what a user may set; `make_plan` completes it by defaults. On a fresh clone nothing is prepared, and each
thing that is missing is replaced by the smallest thing that works, with one warning a replacement. Naming a data root or a
checkpoint, or `strict`, turns every replacement into an error.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ultrarefiner_monai.bundle.config_keys import running_parser
from ultrarefiner_monai.bundle.paths import results_root
from ultrarefiner_monai.bundle.preflight.data import FoundData, find_data, find_images
from ultrarefiner_monai.bundle.preflight.normals import choose_normals
from ultrarefiner_monai.bundle.preflight.provenance import EXTERNAL, check_models, external_origin
from ultrarefiner_monai.bundle.preflight.request import Networks, Request, Substitutions
from ultrarefiner_monai.data.manifests import Manifest, masks_of
from ultrarefiner_monai.data.predictions import CoarseMaps
from ultrarefiner_monai.data.releases import resolve
from ultrarefiner_monai.errors import DataError, one_line_errors
from ultrarefiner_monai.systems import Stage, find_stage

logger = logging.getLogger(__name__)

UNKNOWN_SPACING = [math.nan, math.nan]  # items of one batch have the same keys
MOST_CACHED = 512  # px; 1000 images of that side take 1 GB
TRAVELLING = ("id", "dataset", "patient", "class", "width", "height", "sha256", "spacing", "coarse")


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
        """Where the scores of `split` go: a folder of its own for each split, other data set, and for the cascade."""
        name = f"{EXTERNAL}_{self.dataset}" if split == EXTERNAL else split
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
        if self.data is None:
            return [{"id": path.stem, "image": str(path)} for path in find_images(str(self.request.images))]
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
        return [self._located(item) for item in items]

    @one_line_errors
    def training_items(self) -> list[dict[str, Any]]:
        """Items of split "train", followed by the normals that `normal_share` asks for."""
        items = self.items("train")
        normals = choose_normals(self.manifest, self.fold, len(items), self.request.normal_share)
        return items + [self._located(item) for item in normals]

    def _located(self, item: dict[str, Any]) -> dict[str, Any]:
        root = self.data.root  # type: ignore[union-attr]  # items come from a manifest
        masks = "\n".join(str(resolve(root, mask)) for mask in masks_of(item))
        kept = {"spacing": UNKNOWN_SPACING} | {key: item[key] for key in TRAVELLING if key in item}
        image = str(resolve(root, item["image"]))
        return {**kept, "image": image, "label": masks, "label_path": masks, "name": item["image"]}


@one_line_errors
def make_plan(stage: str, **differing: Any) -> Plan:
    """The plan of the running configuration, from its top-level keys.

    Args:
        stage: name of a stage of a system.
        differing: keys of which the plan takes another value than the configuration's key of the same name.

    Raises:
        SystemExit: one line on what is wrong with the request or the data.
    """
    parser = running_parser()
    wanted = {field.name for field in fields(Request)} | set(find_stage(stage)[1].own_keys)
    keys = {key: parser.get_parsed_content(key) for key in wanted - differing.keys() if key in parser.get()}
    return decide(Request.of(stage, keys | differing))


def decide(request: Request) -> Plan:
    """Decide what a run really does.

    Raises:
        DataError: what is wrong with the request or the data.
    """
    system, stage = request.system, request.stage
    substitutions = Substitutions(request.is_strict)
    complete = system.function("resolver")
    complete(request, False, Substitutions(strict=False))  # a network that cannot be is told before the data are read
    _check_schedule(request)
    check_models(request)
    origin = external_origin(request) if request.split == EXTERNAL else {}
    data = None if request.images is not None else find_data(request, 0 if origin else request.fold, substitutions)
    dataset = origin.get("dataset", request.dataset if data is None else data.name)
    models = f"models/{dataset}/fold{origin.get('fold', request.fold)}"
    output_dir = request.output_dir or f"{results_root(request.bundle_root)}/{models}"
    starts = {key: _start(request, key, dataset, substitutions) for key in stage.starts}
    networks = complete(request, data is not None and data.embedded, substitutions, starts)
    feeds = {} if data is None else {key: _feed(request, key, data, output_dir, substitutions) for key in stage.feeds}
    for line in substitutions.lines:
        logger.warning("substituted: %s", line)
    return Plan(request, data, networks, starts, feeds, origin, output_dir, tuple(substitutions.lines))


def _check_schedule(request: Request) -> None:
    if request.mode != "train":
        return
    if request.split not in (None, "val"):
        raise DataError(f"split '{request.split}' is for evaluate.json; a training is validated on 'val', its own fold")
    if request.epochs % request.val_interval:
        raise DataError(
            f"val_interval {request.val_interval} does not divide epochs {request.epochs}: "
            "the last epoch would not be validated"
        )


def _start(request: Request, key: str, dataset: str, substitutions: Substitutions) -> str | None:
    """The trained model that a training starts from: the named one, or the same fold's; None where it does without.

    An evaluation takes what is named: the models of a cascade.
    """
    named = request.own.get(key)
    if request.mode == "evaluate":
        return named
    stage = request.stage.starts[key]
    path = Path(named or request.results_of(stage) / dataset / f"fold{request.fold}" / "model.pt")
    if path.is_file():
        return str(path)
    message = f"no {stage} model at {path}"
    refusal = f"{message}; train {stage} on fold {request.fold} first or name --{key} FILE"
    if key not in request.system.instead:
        raise DataError(refusal)
    substitutions.add(f"{message}, {request.system.instead[key]}", refusal)
    return None


def _feed(request: Request, key: str, data: FoundData, output_dir: str, substitutions: Substitutions) -> str:
    """Folder of the maps that feed the stage: the named one, or the feeding stage's of the same data set."""
    stage = request.stage.feeds[key]
    folder = request.own.get(key) or str(request.results_of(stage) / data.name)
    replaceable = request.own.get(key) is None and key in request.system.instead
    if substitutions.strict or not replaceable or CoarseMaps(Path(folder), data.manifest).are_there():
        return folder
    substitutions.add(f"no out-of-fold predictions of {stage} (--{key} FOLDER), {request.system.instead[key]}")
    # Exported bundles of other data sets than the embedded one, which substitute nothing, come without this code.
    from ultrarefiner_monai.bundle.preflight.simulated_predictions import simulate_predictions

    simulate_predictions(data.manifest, data.root, stage, Path(output_dir, "simulated"))
    return f"{output_dir}/simulated"
