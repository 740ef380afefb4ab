"""The whole system: coarse network and SAM refiner, one differentiable network."""

import copy
from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from torch import Tensor, nn

from ultrarefiner_monai.networks.fusion import Fusion
from ultrarefiner_monai.networks.prompts import PromptGenerator
from ultrarefiner_monai.networks.refiner import Refinement, SamRefiner
from ultrarefiner_monai.networks.sam import build_sam, lora_rank
from ultrarefiner_monai.networks.transunet import TransUNet, build_transunet

if TYPE_CHECKING:
    from ultrarefiner_monai.networks.prompts.lesions import LesionPrompts


class UltraRefiner(nn.Module):
    """Coarse mask of the image, prompts from it, refined and fused mask.

    Args:
        coarse: network (B, 1, S, S) -> logits (B, 1, S, S).
        refiner: the refinement stage; its SAM input size is S.
        outputs: `"refined"`: forward returns the fused logits; `"both"`: coarse and fused logits as two channels.
        prompt_gradient_scale: factor on the gradient that reaches the coarse network through the prompts; 0 cuts it.
            (Scaling all of a network's gradients would do nothing under Adam.)

    Raises:
        ValueError: for an unknown `outputs`, a negative scale, or a coarse network with other than one channel.
    """

    def __init__(
        self,
        coarse: TransUNet | nn.Module,
        refiner: SamRefiner,
        outputs: Literal["refined", "both"] = "refined",
        prompt_gradient_scale: float = 1.0,
    ) -> None:
        super().__init__()
        if outputs not in ("refined", "both"):
            raise ValueError(f"outputs must be 'refined' or 'both', found {outputs!r}")
        if prompt_gradient_scale < 0:
            raise ValueError(f"prompt_gradient_scale must be >= 0, found {prompt_gradient_scale}")
        self.coarse = coarse
        self.refiner = refiner
        self.outputs = outputs
        self.prompt_gradient_scale = prompt_gradient_scale
        self.coarse_rests = False

    def train(self, mode: bool = True) -> Self:
        """Set the training mode; while `coarse_rests` the coarse network stays in eval mode, and builds no graph."""
        super().train(mode)
        if self.coarse_rests:
            self.coarse.eval()
        return self

    @property
    def settings(self) -> dict[str, str | int | float | bool]:
        """Plain values that decide a prediction beside the weights."""
        return self.refiner.settings

    def forward(
        self,
        image: Tensor,
        embedding: Tensor | None = None,
        return_parts: bool = False,
        prompts: "LesionPrompts | None" = None,
    ) -> Tensor | Refinement:
        """Segment `image` (B, 1, S, S) in [0, 1]; `prompts` of a user correct the coarse mask, see `SamRefiner.refine`.

        Returns:
            fused logits (B, 1, S, S), coarse and fused logits (B, 2, S, S), or with `return_parts` the Refinement,
            whose `coarse_logits` are the coarse network's own (they carry its graph), unless a user has corrected them.
        """
        with torch.no_grad() if self.coarse_rests else nullcontext():
            coarse_logits = self.coarse(image)
        if coarse_logits.shape[1] != 1:
            raise ValueError(f"the coarse network must give one channel, found {coarse_logits.shape[1]}")
        probability = coarse_logits.float().sigmoid()
        parts = self.refiner.refine(image, probability, embedding, self.prompt_gradient_scale, prompts)
        if return_parts:
            return parts._replace(coarse_logits=coarse_logits) if prompts is None else parts
        return torch.cat([coarse_logits, parts.logits], 1) if self.outputs == "both" else parts.logits


def describe(network: nn.Module, settings: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What the stages' networks are built from, for a model's card.

    Args:
        network: a TransUNet, a SamRefiner or an UltraRefiner.
        settings: variant and size of its parts `coarse` and `refiner`.
    """
    described = {part: dict(values) for part, values in settings.items()}
    if "refiner" in described:
        refiner: Any = network.refiner if isinstance(network, UltraRefiner) else network
        described["refiner"] |= {**refiner.settings, "lora_rank": lora_rank(refiner.sam.image_encoder)}
    return described


def build(network: Mapping[str, Mapping[str, Any]]) -> nn.Module:
    """The untrained network of a stage: a TransUNet, a SamRefiner, or an UltraRefiner of both.

    Args:
        network: what `describe` gives: `coarse`, `refiner` or both.
    """
    if "refiner" not in network:
        return _build_coarse(network["coarse"])
    settings = network["refiner"]
    prompts, fusion = (
        {key.removeprefix(prefix): value for key, value in settings.items() if key.startswith(prefix)}
        for prefix in ("prompt_", "fusion_")
    )
    sam = build_sam(settings["variant"], settings["image_size"], lora_rank=settings["lora_rank"])
    refiner = SamRefiner(sam, PromptGenerator(**prompts), Fusion(**fusion))
    return UltraRefiner(_build_coarse(network["coarse"]), refiner) if "coarse" in network else refiner


def _build_coarse(settings: Mapping[str, Any]) -> TransUNet:
    return build_transunet(settings["variant"], settings["size"])


def with_prompts(network: SamRefiner | UltraRefiner, changed: Mapping[str, Any]) -> nn.Module:
    """A network that shares everything with `network` but for the `changed` settings of its prompts.

    Raises:
        TypeError, ValueError: settings that `PromptGenerator` refuses.
    """
    refiner = network.refiner if isinstance(network, UltraRefiner) else network
    settings: dict[str, Any] = {**refiner.prompts.settings, **changed}
    refiner = _replaced(refiner, "prompts", PromptGenerator(**settings))
    return _replaced(network, "refiner", refiner) if isinstance(network, UltraRefiner) else refiner


def _replaced(module: Any, name: str, part: nn.Module) -> Any:
    """A shallow copy of `module` with another submodule."""
    twin = copy.copy(module)
    twin._modules = {**module._modules, name: part}
    return twin
