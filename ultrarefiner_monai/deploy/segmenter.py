"""A trained model by itself: the network rebuilt from its card, and one picture at a time through it."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ultrarefiner_monai.bundle.inferers import AutocastInferer
from ultrarefiner_monai.bundle.start import default_device
from ultrarefiner_monai.data.errors import DataError
from ultrarefiner_monai.handlers.weights import load_model, read_torch
from ultrarefiner_monai.networks import Fusion, PromptGenerator, SamRefiner, UltraRefiner, build_sam, build_transunet
from ultrarefiner_monai.networks.refiner import CANDIDATE_TEMPERATURE, Refinement
from ultrarefiner_monai.transforms.letterbox import letterbox, undo_letterbox

PARTS = {"phase1": {"coarse"}, "phase2": {"refiner"}, "phase3": {"coarse", "refiner"}}  # of a phase's network
THRESHOLD = 0.5  # probability from which a pixel is lesion, unless the user says otherwise


class Prediction(NamedTuple):
    """What a model says of a picture.

    ``probability`` (H, W) float32: of a lesion, in phases 2 and 3 the fused one. ``sam_iou``: the IoU with the truth that
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


def build_network(card: Mapping[str, Any]) -> nn.Module:
    """The network that a card (`model.json`) describes, untrained.

    Args:
        card: `phase`, and what it has of `coarse` and `refiner`, as `read_card` gives them.
    """
    if card["phase"] == "phase1":
        return _build_coarse(card["coarse"])
    refiner = _build_refiner(card["refiner"])
    return refiner if card["phase"] == "phase2" else UltraRefiner(_build_coarse(card["coarse"]), refiner)


def _build_coarse(card: Mapping[str, Any]) -> nn.Module:
    return build_transunet(card["variant"], card["size"])


def _build_refiner(card: Mapping[str, Any]) -> SamRefiner:
    prompts = {key.removeprefix("prompt_"): value for key, value in card.items() if key.startswith("prompt_")}
    fusion = {key.removeprefix("fusion_"): value for key, value in card.items() if key.startswith("fusion_")}
    sam = build_sam(card["variant"], card["image_size"], lora_rank=card["lora_rank"])
    return SamRefiner(sam, PromptGenerator(**prompts), Fusion(**fusion))


def read_card(model: Path) -> dict[str, Any]:
    """The card (`model.json`) beside a trained model, checked for what its network is built from.

    Cards of older trainings lack the rank of LoRA: it is read from the weights then.

    Raises:
        DataError: it cannot be read, or does not say how to build the network.
        CheckpointError: it has no rank, and the weights are absent or damaged.
    """
    path = model.with_suffix(".json")
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"card {path}: cannot be read ({error}); keep it beside its model.pt") from None
    if not isinstance(card, dict) or card.get("phase") not in PARTS or not PARTS[card["phase"]] <= card.keys():
        raise DataError(f"card {path}: expected phase, coarse and refiner of a trained model; use the one it came with")
    if "refiner" in card and "lora_rank" not in card["refiner"]:
        card["refiner"]["lora_rank"] = _lora_rank(read_torch(model))
    return card


def size_of(card: Mapping[str, Any]) -> int:
    """Side in pixels of the square that a model's network sees."""
    return card["coarse"]["size"] if card["phase"] == "phase1" else card["refiner"]["image_size"]


def check_threshold(value: Any) -> float:
    """The value, if it can be a threshold.

    Raises:
        DataError: it is no number from 0 to 1.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise DataError(f"threshold {value}: expected a probability from 0 to 1")
    return float(value)


def _lora_rank(state: Mapping[str, Tensor]) -> int:
    """Rank of the adapters in a state dict: lines of any of their matrices A (rank, inputs)."""
    return next((len(tensor) for name, tensor in state.items() if ".lora_A." in name), 0)
