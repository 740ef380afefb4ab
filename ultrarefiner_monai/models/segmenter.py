"""A trained model by itself: one image at a time through it."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ultrarefiner_monai.devices import default_device
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.models.card import build_network, read_card, spacing_of
from ultrarefiner_monai.models.inferers import AutocastInferer, SequenceInferer
from ultrarefiner_monai.models.weights import load_model
from ultrarefiner_monai.networks.letterbox import Zoom, fitted_shape, letterbox, undo_letterbox, zoom_to
from ultrarefiner_monai.systems import find_stage
from ultrarefiner_monai.systems.classes import ORGANS
from ultrarefiner_monai.systems.sequence_keys import VOLUME

if TYPE_CHECKING:
    from ultrarefiner_monai.networks.prompts.lesions import LesionPrompts


class Prediction(NamedTuple):
    """What a model says of an image.

    `probability` (H, W) float32: of a lesion, by the last of the stage's outputs. `quality`: the IoU with the truth that
    the network predicts for its own mask (of UltraRefiner, SAM for its mask before fusion); NaN where it predicts none.
    `classes`: probability (H, W) of each class by name, which sum to that of a lesion; empty where none are told apart.
    """

    probability: np.ndarray
    quality: float
    classes: Mapping[str, np.ndarray] = MappingProxyType({})


class Segmenter:
    """Predict the lesion of an image as `inference.json` of the model's bundle does.

    Args:
        network: trained network of `stage`; it is put on `device`, in eval mode.
        stage: name of the stage, such as "phase3".
        size: side in pixels of the square that the network sees.
        amp: bf16 autocast, as the bundles have by default.
        device: None is the first CUDA device, or the CPU.
        classes: names of the classes that the network tells apart.
        frames: slices of a volume that a network which looks back takes at once, beside those that it remembers; None of one
            that takes each by itself.
        organs: whether the classes are organs, of which an image may show several.
        clip: grey values of a volume that become 0 and 1; None: its percentiles.
        islands: share of evidence below which a part of a mask is to be left out, see `masks.without_islands`; probabilities
            are the network's own.
        spacing: mm that a pixel of that square stands for; None: the long side of an image fills it.
    """

    def __init__(
        self,
        network: nn.Module,
        stage: str,
        size: int,
        amp: bool = True,
        device: str | torch.device | None = None,
        classes: Sequence[str] = (),
        frames: int | None = None,
        organs: bool = False,
        clip: tuple[float, float] | None = None,
        islands: float = 0.0,
        spacing: float | None = None,
    ) -> None:
        self.device = default_device() if device is None else torch.device(device)
        self.network = network.to(self.device).eval()
        self.system, self.stage = find_stage(stage)
        self.size = size
        self.classes = tuple(classes)
        self.organs = organs
        self.clip = clip
        self.islands = islands
        self.spacing = spacing
        self.frames = frames
        self._window: Any = getattr(network, "window", 0)
        self._infer = AutocastInferer(amp)
        self._look_back = SequenceInferer(self._window, self._window + (frames or 1), amp)

    def __call__(self, grey: np.ndarray, coarse: np.ndarray | None = None) -> np.ndarray:
        """The probability (H, W) that `predict` gives."""
        return self.predict(grey, coarse).probability

    @torch.inference_mode()
    def predict(
        self,
        grey: np.ndarray,
        coarse: np.ndarray | None = None,
        prompts: "LesionPrompts | None" = None,
        pixel: Sequence[float] | None = None,
    ) -> Prediction:
        """Segment one image at its own size.

        Args:
            grey: (H, W) float32 in [0, 1].
            coarse: (H, W) probability by the stage that feeds this one, or for a network that is asked about lesions by any
                model; None where none is read.
            prompts: lesions that it is asked about, in pixels of the image, in place of a map; of a network that refines a map,
                clicks and a box of a user, which correct it.
            pixel: size (y, x) of the image's pixels in mm, which a model with a `spacing` has to know; None: not known.

        Raises:
            DataError: map and prompts are missing, not expected, or the map is of another size than the image; or the pixels'
                size is missing, or makes the image larger than the network's input.
        """
        if prompts is not None and not self.stage.clickable:
            raise DataError(f"{self.stage.name}: takes no prompts; leave clicks and boxes out")
        in_place_of_map = self.stage.prompted and prompts is not None
        if (coarse is not None) + in_place_of_map != self.stage.reads_map:
            raise DataError(f"{self.stage.name}: expected {self._expected} beside the image")
        if coarse is not None and coarse.shape != grey.shape:
            raise DataError(f"coarse map: expected the image's size {grey.shape}, found {coarse.shape}")
        planes = [plane for plane in (grey, coarse) if plane is not None]
        height, width = grey.shape
        zoom = self._zoom((height, width), pixel)
        squares = [letterbox(torch.from_numpy(plane)[None], self.size, zoom) for plane in planes]
        asked = {} if prompts is None else {"prompts": prompts.on_square((height, width), self.size).to(self.device)}
        logits, names, quality = self._forward(torch.cat(squares)[None].to(self.device), **asked)
        lesion, *classes = undo_letterbox(logits[0].sigmoid(), (height, width), zoom).cpu().numpy()
        return Prediction(lesion, quality, dict(zip(names, classes, strict=True)))

    @torch.inference_mode()
    def predict_volume(
        self, slices: Iterable[np.ndarray], pixel: Sequence[float] | None = None
    ) -> Iterator[Prediction]:
        """Segment a volume's slices (H, W), float32 in [0, 1], from the lowest to the highest, as a validation does.

        Each is seen in the light of those before it by a network that was trained so, else by itself. `pixel` and errors are
        as of `predict`.
        """
        if self.frames is None:
            yield from (self.predict(plane, pixel=pixel) for plane in slices)
            return
        remembered: list[Tensor] = []
        rest = iter(slices)
        while piece := list(islice(rest, self.frames)):
            zoom = self._zoom(piece[0].shape, pixel)
            squares = [letterbox(torch.from_numpy(plane)[None], self.size, zoom) for plane in piece]
            inputs = torch.stack([*remembered, *squares]).to(self.device)
            position = torch.arange(len(inputs), device=self.device)
            logits = self._look_back(inputs, self.network, sequence=torch.zeros_like(position), position=position)
            own = logits[len(remembered) :, len(self.stage.outputs) - 1 :].sigmoid()
            for plane, maps in zip(piece, own, strict=True):
                lesion, *classes = undo_letterbox(maps, plane.shape, zoom).cpu().numpy()
                yield Prediction(lesion, math.nan, dict(zip(self.classes, classes, strict=True)))
            remembered = [*remembered, *squares][max(0, len(inputs) - self._window) :]

    def _zoom(self, shape: tuple[int, int], pixel: Sequence[float] | None) -> Zoom | None:
        """How an image of `shape` (H, W) is scaled to the model's spacing; None where it has none."""
        try:
            zoom = zoom_to(self.spacing, pixel)
            fitted_shape(shape, self.size, zoom)
        except ValueError as error:
            raise DataError(str(error)) from None
        return zoom

    @property
    def _expected(self) -> str:
        """What the network takes beside an image."""
        if self.stage.prompted:
            return "prompts, or a map of the lesions that it is asked about,"
        return "a coarse map to refine" if self.stage.feeds else "no coarse map"

    def _forward(self, inputs: Tensor, **asked: Any) -> tuple[Tensor, Sequence[str], float]:
        """Logits (1, 1 + K, S, S) of the last output and the K classes that are told apart, their names, the predicted IoU."""
        if not self.stage.in_parts:
            return self._infer(inputs, self.network), (), math.nan
        parts = self._infer(inputs, self.network, return_parts=True, **asked)
        quality, classes = getattr(parts, "quality", None), getattr(parts, "classes", {})
        logits = torch.cat([parts.outputs[self.stage.outputs[-1]], *classes.values()], dim=1).float()
        return logits, tuple(classes), math.nan if quality is None else quality.item()


def load_segmenter(path: str | Path, amp: bool = True, device: str | torch.device | None = None) -> Segmenter:
    """Rebuild the network of a `model.pt` from the card beside it and load its weights.

    Raises:
        DataError: no card, or one that does not say how to build the network.
        CheckpointError: the weights are absent, damaged or of another network than the card's.
    """
    path = Path(path)
    card = read_card(path)
    network = build_network(card)
    load_model(network, path)
    classes = find_stage(card["stage"])[1].classes_of(card["network"])
    sequence = card.get("sequence", {})
    clip = tuple(card["clip"]) if "clip" in card else None
    frames = sequence["frames"] if sequence.get("of") == VOLUME else None
    return Segmenter(
        network,
        card["stage"],
        card["image_size"],
        amp,
        device,
        classes,
        frames,
        card.get("labels") == ORGANS,
        clip,
        card.get("islands", 0.0),
        spacing_of(card),
    )
