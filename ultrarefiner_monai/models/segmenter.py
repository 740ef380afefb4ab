"""A trained model by itself: one image at a time through it."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ultrarefiner_monai.devices import default_device
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.models.card import build_network, read_card, size_of
from ultrarefiner_monai.models.inferers import AutocastInferer
from ultrarefiner_monai.models.weights import load_model
from ultrarefiner_monai.networks.letterbox import letterbox, undo_letterbox
from ultrarefiner_monai.networks.refiner import CANDIDATE_TEMPERATURE, Refinement


class Prediction(NamedTuple):
    """What a model says of a picture.

    `probability` (H, W) float32: of a lesion, in phases 2 and 3 the fused one. `sam_iou`: the IoU with the truth that
    SAM predicts for its own mask, before fusion; NaN in phase 1, and where the coarse map is empty and SAM's mask unused.
    """

    probability: np.ndarray
    sam_iou: float


class Segmenter:
    """Predict the lesion of a picture as `inference.json` of the model's bundle does.

    Args:
        network: trained network of `phase`; it is put on `device`, in eval mode.
        phase: "phase1", "phase2" or "phase3".
        size: side in pixels of the square that the network sees.
        amp: bf16 autocast, as the bundles have by default.
        device: None is the first CUDA device, or the processor.
    """

    def __init__(
        self, network: nn.Module, phase: str, size: int, amp: bool = True, device: str | torch.device | None = None
    ) -> None:
        self.device = default_device() if device is None else torch.device(device)
        self.network = network.to(self.device).eval()
        self.phase = phase
        self.size = size
        self._infer = AutocastInferer(amp)

    def __call__(self, grey: np.ndarray, coarse: np.ndarray | None = None) -> np.ndarray:
        """The probability (H, W) that `predict` gives."""
        return self.predict(grey, coarse).probability

    @torch.inference_mode()
    def predict(self, grey: np.ndarray, coarse: np.ndarray | None = None) -> Prediction:
        """Segment one picture at its own size.

        Args:
            grey: (H, W) float32 in [0, 1].
            coarse: (H, W) probability of phase 1, which phase 2 refines; other phases take none.

        Raises:
            DataError: `coarse` is missing, not expected, or of another size than the picture.
        """
        if (coarse is not None) != (self.phase == "phase2"):
            expected = "a coarse map to refine" if self.phase == "phase2" else "no coarse map"
            raise DataError(f"{self.phase}: expected {expected} beside the picture")
        if coarse is not None and coarse.shape != grey.shape:
            raise DataError(f"coarse map: expected the picture's size {grey.shape}, found {coarse.shape}")
        planes = [plane for plane in (grey, coarse) if plane is not None]
        squares = [letterbox(torch.from_numpy(plane)[None], self.size) for plane in planes]
        logits, iou = self._forward(torch.cat(squares)[None].to(self.device))
        height, width = grey.shape
        return Prediction(undo_letterbox(logits[0].sigmoid(), (height, width))[0].cpu().numpy(), iou)

    def _forward(self, inputs: Tensor) -> tuple[Tensor, float]:
        """Logits (1, 1, S, S), and SAM's predicted IoU, its candidates weighted as in its mask."""
        if self.phase == "phase1":
            return self._infer(inputs, self.network), math.nan
        parts: Refinement = self._infer(inputs, self.network, return_parts=True)
        iou = parts.iou.float()
        expected = ((iou / CANDIDATE_TEMPERATURE).softmax(1) * iou).sum()
        return parts.logits.float(), math.nan if parts.prompts.empty.item() else expected.item()


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
    return Segmenter(network, card["phase"], size_of(card), amp, device)
