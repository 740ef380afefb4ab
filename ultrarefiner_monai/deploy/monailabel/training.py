"""A training inside a MONAI Label server: what it learns from, its score, and which model stays."""

import logging
import shutil
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from ignite.metrics import Average
from torch import Tensor, nn

from ultrarefiner_monai.deploy.monailabel.labels import read_label, size_of
from ultrarefiner_monai.deploy.monailabel.parts import MODEL, card_of, classes_of, stage_of
from ultrarefiner_monai.deploy.monailabel.volumes import holds_volume
from ultrarefiner_monai.errors import DataError, one_line
from ultrarefiner_monai.files import file_sha256
from ultrarefiner_monai.metrics.segmentation import segmentation_metrics
from ultrarefiner_monai.models.card import spacing_of
from ultrarefiner_monai.models.weights import save_model

logger = logging.getLogger(__name__)


def usable(items: Iterable[Mapping[str, str]]) -> list[dict[str, str]]:
    """The items, paths of an `image` and its `label`, that can be learned from; a warning tells each that cannot.

    Raises:
        DataError: none can.
    """
    found = []
    for item in items:
        try:
            if holds_volume(item["image"]):
                raise DataError(
                    f"{item['image']}: volumes are not learned from here; train on them with the model's bundle"
                )
            read_label(item["label"], size_of(item["image"]))
        except DataError as error:
            logger.warning("left out of the training: %s", error)
        else:
            found.append(dict(item))
    if not found:
        raise DataError("no label to learn from: label some images first, or see the log for why theirs cannot be used")
    return found


def check_labels_suffice(bundle: str | Path) -> None:
    """Refuse to train a model that tells classes apart, or sees a spacing.

    Labels in the server say where a lesion is, and not of which class; its pictures do not tell the size of their pixels.

    Raises:
        DataError: the model of `bundle` is such a one.
    """
    if (spacing := spacing_of(card_of(bundle))) is not None:
        raise DataError(
            f"{Path(bundle).name} sees {spacing:g} mm a pixel, and pictures here do not tell the size of theirs; train it on "
            "volumes with its bundle's train.json"
        )
    if classes := classes_of(bundle):
        raise DataError(
            f"{Path(bundle).name} tells {', '.join(classes)} apart, and labels here say lesion alone; train it with its bundle's "
            "train.json, or serve a model of --classes lesion"
        )


def prepare_batch(bundle: str | Path, training: bool) -> Callable[..., tuple]:
    """What takes a batch apart for the network and the loss, which in training wants the parts of a network that has some.

    The loss of a network that is asked about lesions wants their masks as one.

    Raises:
        DataError: as `check_labels_suffice`.
    """
    check_labels_suffice(bundle)
    stage = stage_of(bundle)
    extra = {"return_parts": True} if training and stage.in_parts and not stage.prompted else {}

    def prepare(batch: Mapping[str, Any], device: Any = None, non_blocking: bool = False, **_: Any) -> tuple:
        image, label = (batch[key].to(device, non_blocking=non_blocking) for key in ("image", "label"))
        return image, label, (), extra

    return prepare


def dice_of(output: Mapping[str, Tensor]) -> Tensor:
    """Dice (B, 1), as ignite's `Average` takes it, of logits `pred` (B, 1, S, S) and masks `label`; 1 if both are blank."""
    masks = output["pred"].as_subclass(Tensor) >= 0, output["label"].as_subclass(Tensor)
    return segmentation_metrics(*masks)["dice"].nan_to_num(nan=1.0)[:, None]


class MeanDice(Average):
    """Mean of `dice_of` over all images; a plain number, which MONAI's engines want."""

    def __init__(self) -> None:
        super().__init__(dice_of)

    def compute(self) -> float:
        """The mean so far."""
        return float(super().compute())


class KeepBetter:
    """Let a training in the server replace `model.pt` only by a model that is better on the validation images.

    The model that the training starts from is scored first, and kept beside the new one. Where there are no validation
    images the last model stays.

    Args:
        bundle: the served folder.
        network: what is trained.
        evaluator: scores the validation images; has the metric `dice`.
        images: number of validation images.
    """

    def __init__(self, bundle: str, network: nn.Module, evaluator: Any, images: int) -> None:
        self.bundle = Path(bundle)
        self.network = network
        self.evaluator = evaluator
        self.images = images
        self.best = 0.0
        self.replaced = False

    def attach(self, trainer: Engine) -> None:
        """Score at the start and after each epoch of `trainer`; attach it after what loads the weights."""
        if self.images:
            trainer.add_event_handler(Events.STARTED | Events.EPOCH_COMPLETED, self._keep_if_better)
        else:
            trainer.add_event_handler(Events.COMPLETED, lambda engine: self._save(engine.state.epoch, None))

    def _keep_if_better(self, trainer: Engine) -> None:
        self.evaluator.run()
        score, epoch = float(self.evaluator.state.metrics["dice"]), trainer.state.epoch
        if epoch == 0:  # before the training
            self.best = score
            logger.info("validation Dice %.4f before the training", score)
            return
        better = score > self.best
        logger.info("validation Dice %.4f after epoch %d: %s", score, epoch, "kept" if better else "not kept")
        if better:
            self.best = score
            self._save(epoch, score)

    def _save(self, epoch: int, score: float | None) -> None:
        if not self.replaced:
            logger.info("the model before this training is kept as %s", keep_model(self.bundle))
            self.replaced = True
        card = card_of(self.bundle)
        card |= {"continued_on": "labels of a MONAI Label server", "started_from": card.pop("sha256")}
        save_model(self.network, self.bundle / MODEL, {**card, "epoch": epoch, "metric": {"dice": score}})


def keep_model(bundle: Path) -> Path:
    """Copy the model that `bundle` serves, and its card, to `models/<its date, UTC>_<hash>/`; returns that folder.

    Raises:
        DataError: the disk refuses.
    """
    model = bundle / MODEL
    date = datetime.fromtimestamp(model.stat().st_mtime, UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    kept = model.parent / f"{date}_{file_sha256(model)[:8]}"
    if kept.exists():  # a model that was put back
        return kept
    unfinished = kept.with_name(f".{kept.name}.partial")
    try:
        unfinished.mkdir(exist_ok=True)
        for file in (model, model.with_suffix(".json")):
            shutil.copy2(file, unfinished)
        return unfinished.rename(kept)
    except OSError as error:
        raise DataError(
            f"cannot keep {model} as {kept} ({one_line(error)}); free disk space, nothing is lost"
        ) from None
