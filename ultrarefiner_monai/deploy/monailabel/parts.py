"""What a bundle does inside a MONAI Label server: the pieces that its two configurations and the server's app put together.

Nothing here imports MONAI Label. A served bundle is a folder with `models/model.pt`, its card, and for phase 2
`models/phase1/model.pt`, the network that proposes what is refined.
"""

import copy
import logging
from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from ignite.metrics import Average
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import Compose, ConcatItemsd, MapTransform, Transform
from torch import Tensor, nn

from ultrarefiner_monai.bundle import PrepareRefinement
from ultrarefiner_monai.data.images import read_grey, read_mask
from ultrarefiner_monai.deploy.predict.measures import entropy
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.losses import DiceCELoss, JointLoss, RefinedLoss
from ultrarefiner_monai.masks import THRESHOLD, check_threshold
from ultrarefiner_monai.metrics import segmentation_metrics
from ultrarefiner_monai.models.card import build_network, read_card, size_of
from ultrarefiner_monai.models.ensemble import Ensemble
from ultrarefiner_monai.models.inferers import AutocastInferer, OutputsInferer
from ultrarefiner_monai.models.weights import save_model
from ultrarefiner_monai.networks import PromptGenerator, SamRefiner, UltraRefiner
from ultrarefiner_monai.networks.letterbox import undo_letterbox
from ultrarefiner_monai.transforms.letterboxd import Letterboxd
from ultrarefiner_monai.transforms.load import LoadGreyd, LoadMaskd

logger = logging.getLogger(__name__)

MODEL = Path("models", "model.pt")
COARSE_MODEL = Path("models", "phase1", "model.pt")
# Continued training of a trained network: phase 3's rate where SAM is involved, ten times that for a TransUNet alone.
RATES = {"phase1": 1e-4, "phase2": 1e-5, "phase3": 1e-5}
PROMPTS = ("positive_points", "negative_points", "box", "mask", "box_margin")  # those that a client may change


def card_of(bundle: str | Path) -> dict[str, Any]:
    """The card of the model that the folder `bundle` serves."""
    return read_card(Path(bundle) / MODEL)


def untrained_network(bundle: str | Path) -> nn.Module:
    """The network that `bundle` serves, built from its card; the server loads the weights."""
    return build_network(card_of(bundle))


def options_of(card: Mapping[str, Any]) -> dict[str, Any]:
    """What a client shows as options of a model, with their defaults: threshold, mask shown, prompts of phases 2 and 3."""
    if card["phase"] == "phase1":
        return {"threshold": THRESHOLD}
    prompts = {name: card["refiner"][f"prompt_{name}"] for name in PROMPTS}
    return {"threshold": THRESHOLD, "show": ["refined", "coarse"], **prompts}


def preprocessing(bundle: str | Path) -> Compose:
    """Transforms of a request: path under `image` -> what the network takes, (C, S, S), C = 2 for phase 2."""
    card = card_of(bundle)
    if card["phase"] != "phase2":
        return Compose([LoadGreyd("image"), Letterboxd("image", size_of(card))])
    keys = ("image", "coarse")
    return Compose([*_with_coarse(bundle, request=True), Letterboxd(keys, size_of(card)), ConcatItemsd(keys, "image")])


def training_preprocessing(bundle: str | Path) -> Compose:
    """Transforms of a labelled image: paths under `image` and `label` -> (1, S, S) each; `coarse` too for phase 2."""
    card = card_of(bundle)
    start: list[Transform] = [LoadGreyd("image")]
    keys: tuple[str, ...] = ("image", "label")
    if card["phase"] == "phase2":
        start, keys = _with_coarse(bundle, request=False), ("image", "label", "coarse")
    return Compose([*start, LoadMaskd("label"), Letterboxd(keys, size_of(card), binary_keys="label")])


def _with_coarse(bundle: str | Path, request: bool) -> list[Transform]:
    return [LoadGreyd("image"), CoarseMapd("coarse", str(Path(bundle) / COARSE_MODEL), request)]


class CoarseMapd(MapTransform):
    """Write the coarse map (1, H, W) that phase 2 refines: the mask that came with the request, or the network's proposal.

    Args:
        keys: the key to write.
        model: `model.pt` of phase 1.
        request: whether a path under `label` is a mask of the request; in training it is the truth.

    Raises:
        DataError: no mask came and there is no network.
    """

    def __init__(self, keys: KeysCollection, model: str, request: bool) -> None:
        super().__init__(keys)
        self.model = Path(model)
        self.request = request

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with the map; the image, (1, H, W), is under `image`."""
        image = data["image"]
        if self.request and isinstance(data.get("label"), str):
            height, width = image.shape[1:]
            coarse = read_mask(data["label"], size=(width, height)).astype(np.float32)
        elif self.model.is_file():
            coarse = _ensemble(self.model)(image[0].as_subclass(Tensor).numpy()).probability
        else:
            raise DataError("phase 2 refines a coarse mask: send one as 'label', or export with a phase 1 model")
        return {**data, self.keys[0]: MetaTensor(torch.from_numpy(coarse)[None], meta=dict(image.meta))}


class PromptedInferer(OutputsInferer):
    """Coarse and refined logits (B, 2, S, S), phase 1 (B, 1, S, S), with the prompts that the client has chosen.

    Args:
        options: as `options_of` lists them; those that are no prompts are left to others.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__(amp=True)
        self.prompts = {name: options[name] for name in PROMPTS if name in options}

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Tensor:
        """Call `network`, which is left as it is."""
        if not isinstance(network, SamRefiner | UltraRefiner):
            return AutocastInferer.__call__(self, inputs, network, *args, **kwargs)
        return super().__call__(inputs, with_prompts(network, self.prompts), *args, **kwargs)


def with_prompts(network: SamRefiner | UltraRefiner, changed: Mapping[str, Any]) -> nn.Module:
    """A network that shares everything with `network` but for the `changed` settings of its prompts.

    Raises:
        DataError: settings that `PromptGenerator` refuses.
    """
    refiner = network.refiner if isinstance(network, UltraRefiner) else network
    settings: dict[str, Any] = {**refiner.prompts.settings, **changed}
    try:
        refiner = _replaced(refiner, "prompts", PromptGenerator(**settings))
    except (TypeError, ValueError) as error:
        raise DataError(f"prompts {dict(changed)}: {error}") from error
    return _replaced(network, "refiner", refiner) if isinstance(network, UltraRefiner) else refiner


def _replaced(module: Any, name: str, part: nn.Module) -> Any:
    """A shallow copy of `module` with another submodule."""
    twin = copy.copy(module)
    twin._modules = {**module._modules, name: part}
    return twin


class MaskForClientd(MapTransform):
    """Turn logits (C, S, S) into the mask that the server's writer takes: uint8 (W, H) at the image's own size, lesion 1.

    `threshold` and `show` ("refined" or "coarse") of the request decide; `result` tells the client what came of it.
    The writer transposes, as for all of MONAI, whose readers give (W, H).
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with the mask; the image that the network saw is under `image`."""
        item = dict(data)
        threshold = _threshold(item.get("threshold", THRESHOLD))
        channel = 0 if item.get("show") == "coarse" else -1
        image = item["image"]
        height, width = (int(side) for side in image.meta["spatial_shape"])
        for key in self.key_iterator(item):
            logits = item[key].as_subclass(Tensor)
            probability = undo_letterbox(logits.sigmoid(), (height, width))[channel].cpu().numpy()
            mask = probability >= threshold
            item[key] = mask.T.astype(np.uint8)
            item["result"] = {"lesion_pixels": int(mask.sum()), "uncertainty": uncertainty(probability)}
        image.meta["spatial_shape"] = (width, height)
        return item


def _threshold(value: Any) -> float:
    """The threshold of a request, where a client may write it as text."""
    with suppress(TypeError, ValueError):
        value = float(value)
    return check_threshold(value)


def uncertainty(probability: np.ndarray) -> float:
    """Mean entropy in bits a pixel of a probability map, 0 to 1 (uncertainty sampling, Settles 2009, section 3.1).

    It grows with the length of a blurred outline, so it prefers large lesions among equally blurred ones.
    """
    return float(entropy(probability).mean(dtype=np.float64))


def predict_file(bundle: str | Path, image: str | Path) -> np.ndarray:
    """Probability (H, W) of what `bundle` serves for an image file; DataError where there is none."""
    model, coarse = Path(bundle) / MODEL, Path(bundle) / COARSE_MODEL
    return _ensemble(model, coarse if coarse.is_file() else None)(read_grey(image)).probability


def _ensemble(model: Path, coarse: Path | None = None) -> Ensemble:
    """The network of `model`, with the one that proposes what phase 2 refines; read once until `model` changes."""
    return _read_ensemble(model, coarse, model.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _read_ensemble(model: Path, coarse: Path | None, changed: int) -> Ensemble:
    return Ensemble(model, coarse)


def loss_of(bundle: str | Path) -> nn.Module:
    """The loss of the phase that `bundle` serves."""
    phase = card_of(bundle)["phase"]
    if phase == "phase1":
        return DiceCELoss()
    return RefinedLoss() if phase == "phase2" else JointLoss("fixed")


def prepare_batch(bundle: str | Path, training: bool) -> PrepareRefinement:
    """What a batch hands to the network; the losses of phases 2 and 3 want the network's parts."""
    phase = card_of(bundle)["phase"]
    return PrepareRefinement(coarse=phase == "phase2", return_parts=training and phase != "phase1")


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

    The model that the training starts from is scored first. Where there are no validation images the last model is kept.

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

    def attach(self, trainer: Engine) -> None:
        """Score at the start and after each epoch of `trainer`; attach it after what loads the weights."""
        if self.images:
            trainer.add_event_handler(Events.STARTED, self._start)
            trainer.add_event_handler(Events.EPOCH_COMPLETED, self._keep_if_better)
        else:
            trainer.add_event_handler(Events.COMPLETED, lambda engine: self._save(engine.state.epoch, None))

    def _start(self, trainer: Engine) -> None:
        self.best = self._score()
        logger.info("validation Dice %.4f before the training", self.best)

    def _score(self) -> float:
        self.evaluator.run()
        return float(self.evaluator.state.metrics["dice"])

    def _keep_if_better(self, trainer: Engine) -> None:
        score, epoch = self._score(), trainer.state.epoch
        better = score > self.best
        logger.info("validation Dice %.4f after epoch %d: %s", score, epoch, "kept" if better else "not kept")
        if better:
            self.best = score
            self._save(epoch, score)

    def _save(self, epoch: int, score: float | None) -> None:
        card = card_of(self.bundle)
        card |= {"continued_on": "labels of a MONAI Label server", "started_from": card.pop("sha256")}
        save_model(self.network, self.bundle / MODEL, {**card, "epoch": epoch, "metric": {"dice": score}})
