"""RFMedSAM 2's adapters and where they go (Xie et al., arXiv 2502.02741, section 3.2), attached by hooks."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ultrarefiner_monai.networks.sam import Sam
from ultrarefiner_monai.networks.sam2 import Sam2

PLACES = ("attention", "mlp", "neck", "memory_attention", "decoder", "upscaling", "memory_encoder")
BESIDE = 0.5  # factor of an adapter beside a perceptron
REDUCTION = 4  # of the channels in the bottleneck


class Adapter(nn.Module):
    """up(GELU(down x)) on channels D that come last, with a bottleneck of D / 4; zero at first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, width // REDUCTION)
        self.up = nn.Linear(width // REDUCTION, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., D) -> the same shape."""
        return self.up(F.gelu(self.down(tokens)))


class DepthwiseAdapter(Adapter):
    """An adapter that sees a token's neighbours by a depthwise 3 x 3 convolution, on maps (B, H, W, D).

    With c(z) = GELU(LN(DW z)): the DWConvAdapter is up(z + c(z)) of z = GELU(down x), the CNN-Adapter up(c(down x)).
    """

    def __init__(self, width: int, residual: bool) -> None:
        super().__init__(width)
        hidden = width // REDUCTION
        self.residual = residual
        self.depthwise = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.norm = nn.LayerNorm(hidden)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, H, W, D) -> the same shape."""
        inner = F.gelu(self.down(tokens)) if self.residual else self.down(tokens)
        seen = F.gelu(self.norm(self.depthwise(inner.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)))
        return self.up(inner + seen if self.residual else seen)


def add_adapters(sam: Sam | Sam2, memory: Sam2, places: str) -> nn.ModuleDict:
    """Attach adapters to a frozen SAM and to the memory, which of a SAM 2 is its own; they act in every forward from now on.

    Args:
        sam: Segment Anything.
        memory: who has memory attention and memory encoder.
        places: "all", "none", or names of `PLACES` joined by +.

    Returns:
        The adapters by place; to be held by the network.

    Raises:
        ValueError: an unknown place.
    """
    added = {place: _ATTACH[place](sam, memory) for place in read_places(places)}
    return nn.ModuleDict({place: nn.ModuleList(adapters) for place, adapters in added.items()})


def read_places(places: str) -> tuple[str, ...]:
    """The names in "all", "none" or "attention+mlp", in the order of `PLACES`.

    Raises:
        ValueError: an unknown one.
    """
    named = {"all": PLACES, "none": ()}.get(places, tuple(places.split("+")))
    if unknown := set(named) - set(PLACES):
        raise ValueError(f"adapters {', '.join(sorted(unknown))}: expected all, none, or some of {'+'.join(PLACES)}")
    return tuple(place for place in PLACES if place in named)


def _blocks(sam: Sam | Sam2) -> list[Any]:
    """Transformer blocks of the image encoder, each with `attn` and `mlp`."""
    encoder: Any = sam.image_encoder
    if isinstance(sam, Sam2):
        return list(encoder.backbone.blocks)
    if not hasattr(encoder, "layers"):
        raise ValueError(f"SAM {sam.variant}: no adapters are known for it; take lite_medsam or a SAM 2")
    return [block for layer in encoder.layers[1:] for block in layer.blocks]


def _attention(sam: Sam | Sam2, memory: Sam2) -> list[nn.Module]:
    """After attention, inside the window, before it is put back."""
    return [_after(block.attn, DepthwiseAdapter(block.attn.proj.out_features, True), _as_map) for block in _blocks(sam)]


def _mlp(sam: Sam | Sam2, memory: Sam2) -> list[nn.Module]:
    """Beside the perceptron, on its normalised tokens: a TinyViT's normalises them itself."""
    made = []
    for block in _blocks(sam):
        width = (block.mlp.proj_in if isinstance(sam, Sam2) else block.mlp.fc1).in_features
        norm = nn.Identity() if isinstance(sam, Sam2) else block.mlp.norm
        made.append(_beside(block.mlp, DepthwiseAdapter(width, True), norm))
    return made


def _neck(sam: Sam | Sam2, memory: Sam2) -> list[nn.Module]:
    encoder: Any = sam.image_encoder
    laterals = encoder.neck.convs if isinstance(sam, Sam2) else encoder.neck[:1]
    return [_after_map(lateral, lateral.out_channels) for lateral in laterals]


def _memory_attention(sam: Sam | Sam2, memory: Sam2) -> list[nn.Module]:
    layers = memory.network.memory_attention.layers
    both = [attention for layer in layers for attention in (layer.self_attn, layer.cross_attn_image)]
    return [_after(attention, DepthwiseAdapter(attention.o_proj.out_features, True), _as_map) for attention in both]


def _decoder(sam: Sam | Sam2, memory: Sam2) -> list[nn.Module]:
    made: list[nn.Module] = []
    decoder: Any = sam.network.mask_decoder if isinstance(sam, Sam2) else sam.mask_decoder
    for layer in decoder.transformer.layers:
        width = layer.layer_norm1.normalized_shape[0] if isinstance(sam, Sam2) else layer.norm1.normalized_shape[0]
        made.append(_after(layer.self_attn, Adapter(width), _as_tokens))
        made.append(_after(layer.cross_attn_token_to_image, Adapter(width), _as_tokens))
        made.append(_beside(layer.mlp, Adapter(width), nn.Identity()))
        made.append(_after(layer.cross_attn_image_to_token, DepthwiseAdapter(width, True), _as_map))
    return made


def _upscaling(sam: Sam | Sam2, memory: Sam2) -> list[nn.Module]:
    if isinstance(sam, Sam2):
        convolutions = [sam.network.mask_decoder.upscale_conv1, sam.network.mask_decoder.upscale_conv2]
    else:
        convolutions = [sam.mask_decoder.output_upscaling[number] for number in (0, 3)]
    return [_after_map(convolution, convolution.out_channels) for convolution in convolutions]


def _memory_encoder(sam: Sam | Sam2, memory: Sam2) -> list[nn.Module]:
    encoder = memory.network.memory_encoder
    width = encoder.feature_projection.out_channels
    return [_after_map(module, width) for module in (encoder.mask_downsampler, encoder.memory_fuser)]


_ATTACH: dict[str, Callable[[Any, Sam2], list[nn.Module]]] = {
    "attention": _attention,
    "mlp": _mlp,
    "neck": _neck,
    "memory_attention": _memory_attention,
    "decoder": _decoder,
    "upscaling": _upscaling,
    "memory_encoder": _memory_encoder,
}


def _as_tokens(tokens: Tensor) -> Tensor:
    return tokens


def _as_map(tokens: Tensor) -> Tensor:
    """A window (n, a, b, D), or a square one's tokens (n, [1,] a a, D), as (n, a, a, D)."""
    if tokens.ndim == 4 and tokens.shape[1] > 1:
        return tokens
    side = int(tokens.shape[-2] ** 0.5)
    return tokens.reshape(-1, side, side, tokens.shape[-1])


def _after(module: nn.Module, adapter: nn.Module, view: Callable[[Tensor], Tensor]) -> nn.Module:
    module.register_forward_hook(partial(_add_after, adapter, view))
    return adapter


def _add_after(adapter: nn.Module, view: Callable[[Tensor], Tensor], module: nn.Module, args: Any, output: Any) -> Any:
    """What the adapter makes of the output is added to it; transformers' attention gives its weights, too."""
    tokens, *others = output if isinstance(output, tuple) else (output,)
    added = tokens + adapter(view(tokens)).reshape(tokens.shape)
    return (added, *others) if isinstance(output, tuple) else added


def _after_map(module: nn.Module, width: int) -> nn.Module:
    """A CNN-Adapter after a module that gives (B, D, H, W)."""
    adapter = DepthwiseAdapter(width, False)
    module.register_forward_hook(partial(_add_after_map, adapter))
    return adapter


def _add_after_map(adapter: nn.Module, module: nn.Module, args: Any, output: Tensor) -> Tensor:
    return output + adapter(output.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _beside(module: nn.Module, adapter: nn.Module, norm: nn.Module) -> nn.Module:
    module.register_forward_hook(partial(_add_beside, adapter, norm))
    return adapter


def _add_beside(adapter: nn.Module, norm: nn.Module, module: nn.Module, args: Any, output: Tensor) -> Tensor:
    return output + BESIDE * adapter(norm(args[0]))
