"""UniUltra: Segment Anything with adapters in its frozen image encoder, asked about each lesion (Li et al., arXiv 2511.15771)."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ultrarefiner_monai.networks.adapters import (
    AdapterPlaces,
    BlockFeatures,
    EdgeMode,
    EncoderFeatures,
    add_adapters,
    hiera_places,
    hiera_stage_ends,
    tiny_vit_places,
    watch,
)
from ultrarefiner_monai.networks.export_parts import Part, made_samples
from ultrarefiner_monai.networks.prompts import mask_logits
from ultrarefiner_monai.networks.prompts.lesions import LesionPrompts, lesion_prompts, merge_masks
from ultrarefiner_monai.networks.sam import Sam
from ultrarefiner_monai.networks.sam.around import AroundSam
from ultrarefiner_monai.networks.sam2 import Features, Sam2
from ultrarefiner_monai.networks.sam2.students import LITE_MEDSAM, LITE_MINI, build_prompted
from ultrarefiner_monai.networks.sam2.variants import VARIANTS

CHANNELS, STRIDES = 256, (4, 8, 16)  # of the maps that SAM 2's encoder gives
SINGLE = slice(0, 1)  # SAM's token for a prompt that is not ambiguous
LESION = 0.5  # probability from which a pixel of another model's map is lesion
MOST_LESIONS = 100  # of a map; one of noise has thousands, each a mask in memory
AT_ONCE = 64  # prompts: the decoder's memory grows with them
NEEDS_PROMPTS = "UniUltra is asked about lesions: give it prompts, or a map of them as the second channel"


class LesionMasks(NamedTuple):
    """What UniUltra says of B images that it was asked about M lesions of.

    `logits` (B, 1, S, S): the maximum over an image's lesions, `lesions.EMPTY_LOGIT` where there is none; `lesions`
    (M, 1, h, w): each by itself, at SAM's low resolution; `iou` (M,): predicted for them; `asked`: their prompts.
    """

    logits: Tensor
    lesions: Tensor
    iou: Tensor
    asked: LesionPrompts

    @property
    def outputs(self) -> dict[str, Tensor]:
        """The mask of the stage by name: logits (B, 1, S, S)."""
        return {"mask": self.logits}

    @property
    def quality(self) -> Tensor:
        """IoU with the truth (B,) that SAM predicts, the mean over an image's lesions; NaN where there is none."""
        mine = self.asked.image == torch.arange(len(self.logits), device=self.logits.device)[:, None]  # (B, M)
        return (mine * self.iou).sum(1) / mine.sum(1)


class UniUltra(AroundSam):
    """Masks of the lesions that prompts point at, by a Segment Anything model that adapters have taught ultrasound.

    The image encoder stays frozen; beside each of its blocks an adapter learns, and so does what lies behind it. Untrained,
    the network is the SAM that it is made of. Still images alone: SAM 2's memory is not used. A student has a small encoder,
    which learns as a whole, before its teacher's decoder.

    Args:
        sam: LiteMedSAM, a SAM 2 or a student's, see `build_prompted`, without adapters.
        adapter_ratio: width of an adapter's bottleneck as a share of its block's; 0: no adapters.
        adapter_scale: factor of what an adapter adds.
        edge: what adapters see of edges, see `EdgeStem`; "none": nothing.
        used_only: freeze what no gradient of a mask reaches (SAM 2's memory, the heads of other masks), too.
        freeze_encoder: keep the image encoder as it is, but for its adapters.

    Raises:
        ValueError: a SAM whose encoder no adapters are known for, or as `add_adapters`.
    """

    def __init__(
        self,
        sam: Sam | Sam2,
        *,
        adapter_ratio: float = 0.25,
        adapter_scale: float = 0.5,
        edge: EdgeMode = "directions",
        used_only: bool = True,
        freeze_encoder: bool = True,
    ) -> None:
        super().__init__(sam, freeze_image_encoder=freeze_encoder)
        self.adapted = {"adapter_ratio": adapter_ratio, "adapter_scale": adapter_scale, "edge": edge}
        if adapter_ratio:
            add_adapters(sam.image_encoder, _places(sam), ratio=adapter_ratio, scale=adapter_scale, edge=edge)
        if not freeze_encoder:
            sam.image_encoder.requires_grad_(True)
        if used_only and not next(sam.parameters()).is_meta:  # the meta device has no gradients to look for
            self._freeze_unreached()

    @property
    def settings(self) -> dict[str, Any]:
        """Plain values that decide a prediction beside the weights."""
        sam = self.sam
        about = {"variant": sam.variant, "version": getattr(sam, "version", None), "image_size": sam.image_size}
        return about | self.adapted

    def forward(
        self, image: Tensor, prompts: LesionPrompts | None = None, return_parts: bool = False, compare: bool = False
    ) -> Any:
        """Segment the lesions of `image` that it is asked about.

        Args:
            image: (B, 1, S, S) in [0, 1], or without prompts (B, 2, S, S): the second channel is another model's
                probability, each of whose lesions, the 100 largest at most, is asked about by its box.
            prompts: in pixels of the S x S image.
            return_parts: give the LesionMasks.
            compare: give what a distillation compares, and logits where there are prompts.

        Returns:
            Logits (B, 1, S, S), or the LesionMasks; with `compare` the EncoderFeatures and logits, or None.

        Raises:
            ValueError: neither prompts nor a second channel.
        """
        if compare:
            encoded, features = self.encode(image)
            return encoded, None if prompts is None else self._masks(features, prompts, image).logits
        if prompts is None:
            if image.shape[1] != 2:
                raise ValueError(NEEDS_PROMPTS)
            prompts = lesion_prompts(image[:, 1:] >= LESION).largest(MOST_LESIONS)
        found = self._masks(self.features(image[:, :1]), prompts, image)
        return found if return_parts else found.logits

    def _masks(self, features: Tensor | Features, prompts: LesionPrompts, image: Tensor) -> LesionMasks:
        """Masks of all lesions of a batch; of `image` the shape and device are used."""
        some = (
            prompts if len(prompts.image) else _corner_box(image)
        )  # SAM 2 takes no empty batch, and losses need a graph
        asked = [self.ask(features, part) for part in some.split(AT_ONCE)]
        lesions, iou = (torch.cat(found)[: len(prompts.image)] for found in zip(*asked, strict=True))
        low = merge_masks(lesions, prompts.image, len(image))
        logits = F.interpolate(low, image.shape[2:], mode="bilinear", align_corners=False)
        return LesionMasks(logits, lesions, iou[:, 0], prompts)

    def encode(self, image: Tensor) -> tuple[EncoderFeatures, Tensor | Features]:
        """What a distillation compares of images (B, 1, S, S), and their `features`, which the same pass gives.

        Blocks are those of a SAM 2 with adapters, maps those of a SAM 2.
        """
        if isinstance(self.sam, Sam):
            embedding = self.embed(image)
            return EncoderFeatures(embedding), embedding
        encoder = self.sam.image_encoder
        ends = hiera_stage_ends(encoder) if hasattr(encoder, "adapters") else []
        with watch([end.adapter for end in ends]) as terms:
            maps = self.embed(image)
        features = self.sam.project(maps)
        blocks = [BlockFeatures(plane, term, end.lateral) for plane, term, end in zip(maps, terms, ends, strict=False)]
        embedding = torch.cat([level.flatten(1) for level in features], dim=1)
        return EncoderFeatures(embedding, tuple(maps), tuple(blocks)), features

    def features(self, image: Tensor) -> Tensor | Features:
        """What lesions of images (B, 1, S, S) are asked with: LiteMedSAM's embedding, of SAM 2 the features of three levels."""
        return self._projected(self.embed(image))

    def _projected(self, maps: Any) -> Tensor | Features:
        return maps if isinstance(self.sam, Sam) else self.sam.project(maps)

    def ask(self, features: Tensor | Features, prompts: LesionPrompts) -> tuple[Tensor, Tensor]:
        """Low-resolution logits (M, 1, h, w) and predicted IoU (M, 1) of M lesions.

        Args:
            features: of B images.
            prompts: all or some of theirs.
        """
        asked = {name: getattr(prompts, name) for name in ("points", "labels", "boxes")}
        if isinstance(features, Tensor):  # LiteMedSAM has not learnt to read masks, they lead it astray
            return self.sam.decode(features[prompts.image], **asked, tokens=SINGLE)
        masks = None if prompts.masks is None else mask_logits(prompts.masks)
        found = self.sam.decode(features, **asked, masks=masks, image=prompts.image)
        return found.logits, found.iou

    def _freeze_unreached(self) -> None:
        """Leave trainable what a mask depends on: found by asking about a box, and about a point, of drawn features."""
        sam = self.sam
        like = next(sam.parameters())
        encoder = {id(parameter) for parameter in sam.image_encoder.parameters()}
        outside = [parameter for parameter in sam.parameters() if id(parameter) not in encoder]
        box = _corner_box(like)
        point = LesionPrompts(box.image, points=like.new_zeros(1, 1, 2), labels=box.image[:, None] + 1)
        with torch.enable_grad():
            features = self._projected(_drawn_maps(sam, like))
            mask = torch.stack([self.ask(features, prompts)[0] for prompts in (box, point)]).sum()
            reached = torch.autograd.grad(mask, outside, allow_unused=True)
        for parameter, gradient in zip(outside, reached, strict=True):
            parameter.requires_grad_(gradient is not None and bool(gradient.any()))


def _corner_box(like: Tensor) -> LesionPrompts:
    """A box of the first pixel of the first image, on the device of `like`."""
    return LesionPrompts(torch.zeros(1, dtype=torch.long, device=like.device), like.new_zeros(1, 4))


def _drawn_maps(sam: Sam | Sam2, like: Tensor) -> Any:
    """Normal numbers, always the same, in place of what `embed` gives of an image, on the device of `like`."""
    sides = [sam.image_size // stride for stride in STRIDES]
    shapes = [sam.embedding_shape] if isinstance(sam, Sam) else [(CHANNELS, side, side) for side in sides]
    generator = torch.Generator().manual_seed(0)
    drawn = tuple(torch.randn(1, *shape, generator=generator).to(like) for shape in shapes)
    return drawn[0] if isinstance(sam, Sam) else drawn


def _places(sam: Sam | Sam2) -> AdapterPlaces:
    if isinstance(sam, Sam2) or sam.variant == LITE_MINI:
        return hiera_places(sam.image_encoder.backbone)
    if sam.variant != LITE_MEDSAM:
        raise ValueError(f"adapters go into {LITE_MEDSAM} or SAM 2 ({', '.join(VARIANTS)}), found SAM {sam.variant}")
    return tiny_vit_places(sam.image_encoder)


def describe(network: UniUltra, settings: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What the stage's network is built from, for a model's card; `settings` say nothing that it does not know itself."""
    return {"sam": network.settings}


def build(network: Mapping[str, Mapping[str, Any]]) -> nn.Module:
    """The untrained network of a stage.

    Args:
        network: `{"sam": settings}` as `UniUltra.settings` gives them.
    """
    settings = dict(network["sam"])
    sam = build_prompted(settings.pop("variant"), settings.pop("image_size"), version=settings.pop("version"))
    return UniUltra(sam, **settings, used_only=False)


class ImageEncoder(nn.Module):
    """What lesions of images (B, 1, S, S) are asked with: LiteMedSAM's embedding, or SAM 2's features of three levels."""

    def __init__(self, network: UniUltra) -> None:
        super().__init__()
        sam = network.sam
        unused = [sam.mask_decoder] if isinstance(sam, Sam) else _asked_alone(sam)
        self.network = deepcopy(network, {id(module): nn.Identity() for module in unused})

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Look at a batch."""
        found = self.network.features(image)
        return found if isinstance(found, Tensor) else tuple(found)


class PromptedDecoder(nn.Module):
    """Logits (M, 1, S, S) of M lesions, each asked about with the features of its own image.

    Args:
        network: of which the decoder is taken.
        kind: prompts it takes behind the features: "boxes" (M, 4), or "points" (M, N, 2) with their labels (M, N).
    """

    def __init__(self, network: UniUltra, kind: Literal["boxes", "points"]) -> None:
        super().__init__()
        sam = network.sam
        unused = [] if isinstance(sam, Sam) else [sam.network.memory_attention, sam.network.memory_encoder]
        self.network = deepcopy(network, {id(module): nn.Identity() for module in (sam.image_encoder, *unused)})
        self.count = 1 if kind == "boxes" else 2

    def forward(self, *args: Tensor) -> Tensor:
        """Ask about a batch: features, then prompts."""
        features, prompts = args[: -self.count], args[-self.count :]
        image = torch.arange(args[0].shape[0], device=args[0].device)
        asked = LesionPrompts(image, prompts[0]) if self.count == 1 else LesionPrompts(image, None, *prompts)
        low, _ = self.network.ask(features[0] if len(features) == 1 else Features(*features), asked)
        side = self.network.sam.image_size
        return F.interpolate(low, (side, side), mode="bilinear", align_corners=False)


def _asked_alone(sam: Sam2) -> list[nn.Module]:
    """The large parts of a SAM 2 that its image encoder does without."""
    return [sam.network.mask_decoder.transformer, sam.network.memory_attention, sam.network.memory_encoder]


def exported_parts(network: UniUltra, image_size: int) -> dict[str, Part]:
    """The networks to export: `encoder` of images, and the decoder behind it for boxes and for points.

    A user repeats an image's features for each of its lesions, and takes the maximum of their logits.
    """
    network.eval()
    image, _ = made_samples(image_size)
    last = float(image_size - 1)
    boxes = last * torch.tensor([[0.2, 0.2, 0.6, 0.5], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
    points, labels = boxes.unflatten(1, (2, 2)), torch.tensor([[1, 0], [1, -1], [1, 1]])
    with torch.no_grad():
        found = network.features(image)
    features = (found,) if isinstance(found, Tensor) else tuple(found)
    names = ("embedding",) if len(features) == 1 else Features._fields
    return {
        "encoder": Part(ImageEncoder(network).eval(), ("image",), names, (image,)),
        "decoder": Part(PromptedDecoder(network, "boxes").eval(), (*names, "boxes"), ("logits",), (*features, boxes)),
        "decoder_points": Part(
            PromptedDecoder(network, "points").eval(),
            (*names, "points", "labels"),
            ("logits",),
            (*features, points, labels),
        ),
    }
