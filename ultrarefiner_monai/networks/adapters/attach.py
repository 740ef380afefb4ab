"""Attach context and edge adapters to an image encoder."""

from functools import partial
from threading import get_ident
from typing import Any

from torch import Tensor, nn

from ultrarefiner_monai.networks.adapters.context_edge import ContextEdgeAdapter, EdgeMode, EdgeStem
from ultrarefiner_monai.networks.adapters.places import AdapterPlaces


class ContextEdgeAdapters(nn.Module):
    """The adapters of an encoder: a shared edge stem, if any, and an adapter beside each block's perceptron.

    Args:
        places: where they go.
        ratio: see `ContextEdgeAdapter`.
        scale: see `ContextEdgeAdapter`.
        edge: see `EdgeStem`; "none": context alone.

    Raises:
        ValueError: as `ContextEdgeAdapter` and `EdgeStem`.
    """

    def __init__(
        self, places: AdapterPlaces, *, ratio: float = 0.25, scale: float = 0.5, edge: EdgeMode = "directions"
    ) -> None:
        super().__init__()
        self.settings = {"adapter_ratio": ratio, "adapter_scale": scale, "edge": edge}
        self.stem = None if edge == "none" else EdgeStem(places.width, edge)
        adapters = (ContextEdgeAdapter(place.width, ratio, scale, edge != "none") for place in places.blocks)
        self.blocks = nn.ModuleList(adapters)
        self._features: dict[int, Tensor] = {}  # by thread: several may run one encoder at once

    def hook(self, places: AdapterPlaces) -> None:
        """Act in every forward of the encoder from now on; a copy of the encoder acts with its own copy of these."""
        if self.stem is not None:
            places.first.register_forward_pre_hook(partial(self._see, places.channels_last))
        for number, place in enumerate(places.blocks):
            place.mlp.register_forward_hook(partial(self._beside, number, place.norm))

    def _see(self, channels_last: bool, first: nn.Module, args: tuple[Any, ...]) -> None:
        patches = args[0].permute(0, 3, 1, 2) if channels_last else args[0]
        self._features[get_ident()] = self.stem(patches)  # type: ignore[misc]  # hooked where there is one

    def _beside(self, number: int, norm: nn.Module, mlp: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        tokens = norm(args[0])
        return output + self.blocks[number](tokens, self._edges(number, tokens.shape[1:3]))

    def _edges(self, number: int, grid: tuple[int, int]) -> Tensor | None:
        """Edge maps (B, 4, a, b) for a block of `grid` (a, b); the last block takes what the stem has seen away."""
        if self.stem is None:
            return None
        thread, last = get_ident(), number == len(self.blocks) - 1
        if thread not in self._features:
            raise RuntimeError("adapters saw no embedded patches before a block; run the whole encoder, uncheckpointed")
        features = self._features.pop(thread) if last else self._features[thread]
        return self.stem.maps(features, grid)


def add_adapters(encoder: nn.Module, places: AdapterPlaces, **settings: Any) -> ContextEdgeAdapters:
    """Add adapters to `encoder` as its module `adapters`; only they stay trainable in it.

    The names of the encoder's own weights stay, so load a published checkpoint first. Nothing changes until training
    does: the adapters' last layers are zero.

    Args:
        encoder: all that is to be frozen, the neck included.
        places: where they go, of modules inside `encoder`.
        settings: of `ContextEdgeAdapters`.

    Raises:
        ValueError: `encoder` has adapters already, or as `ContextEdgeAdapters`.
    """
    if hasattr(encoder, "adapters"):
        raise ValueError(f"{type(encoder).__name__} already has adapters; add them once, to the plain encoder")
    adapters = ContextEdgeAdapters(places, **settings)
    like = next(encoder.parameters())
    encoder.requires_grad_(False)
    encoder.add_module("adapters", adapters.to(like.device, like.dtype).train(encoder.training))
    adapters.hook(places)
    return adapters
