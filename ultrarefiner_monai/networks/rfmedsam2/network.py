"""RFMedSAM 2: masks of frames in three steps, U-Net, SAM asked with its boxes, SAM asked again with memory."""

from collections.abc import Mapping
from itertools import chain
from typing import Any, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ultrarefiner_monai.networks.label_logits import with_background
from ultrarefiner_monai.networks.prompts.components import jittered
from ultrarefiner_monai.networks.rfmedsam2.adapters import add_adapters
from ultrarefiner_monai.networks.rfmedsam2.bodies import body_of
from ultrarefiner_monai.networks.rfmedsam2.boxes import boxes_of_logits, hard_boxes, label_masks
from ultrarefiner_monai.networks.rfmedsam2.memory import WINDOW, Remembered, remembered
from ultrarefiner_monai.networks.rfmedsam2.steps import Steps
from ultrarefiner_monai.networks.rfmedsam2.unet import FrameUnet
from ultrarefiner_monai.networks.sam import Sam
from ultrarefiner_monai.networks.sam2 import Decoded, Sam2
from ultrarefiner_monai.networks.sam2.memory import attend, encode_memory, object_pointer
from ultrarefiner_monai.networks.sam2.students import build_prompted

Positions = Literal["current", "sam2"]
Missing = Literal["keep_unet", "ask"]

UNET_PART, SAM_PART = "unet", "sam"  # of a card


class FirstStep(NamedTuple):
    """Of N frames and K labels what the second step starts from.

    `features` of the N frames; `boxes` (N, K, 4) from the U-Net; `logits` (N K, 1, h, w); `memories` (N, K, C, g, g) and
    `pointers` (N, K, P).
    """

    features: Any
    boxes: Tensor
    logits: Tensor
    memories: Tensor
    pointers: Tensor


class Stem(nn.Module):
    """One grey channel to SAM's three: what SAM sees of it, plus two convolutions of which the last is zero at first."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.InstanceNorm2d(8, affine=True),
            nn.LeakyReLU(0.01),
            nn.Conv2d(8, 3, 3, padding=1),
        )
        last: Any = self.layers[-1]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, image: Tensor, normalised: Tensor) -> Tensor:
        """Images (N, 1, S, S) in [0, 1], and as SAM normalises them, (N, 3, S, S), to pixels (N, 3, S, S)."""
        return normalised + self.layers(image)


class RfMedSam2(nn.Module):
    """Masks of frames by a U-Net ("unet"), by SAM asked with its boxes ("step1"), and with second boxes and memory ("step2").

    Segment Anything is frozen; U-Net, stem and adapters learn, and LiteMedSAM's memory, which it came without.

    Args:
        unet: who finds the first boxes.
        sam: LiteMedSAM or a SAM 2, without adapters.
        adapters: where, see `add_adapters`.
        prompt_grad: ask in step 1 with the U-Net's logits, too, through which gradients of the later steps reach it; false: with
            boxes alone, which have no gradient.
        memory_grad: let gradients flow into the memories of other frames; those of the own frame always have them.
        second_box: ask in step 2 with the box of step 1's own mask; false: with the U-Net's again.
        positions: "current" tells memories by their distance, 0 being the own frame alone; "sam2" as SAM 2 tells prompted
            frames: 0 for all.
        window: how many positions back a frame remembers.
        box_jitter: share of a side by which the edges of the first boxes move in training.
        missing: of a label that has no box in a frame "keep_unet" keeps the U-Net's mask in step 1, and in step 2 unless a
            remembered frame has a box of it; "ask" asks SAM without a prompt.

    Raises:
        ValueError: choices or sizes that cannot be, or as `add_adapters`.
    """

    def __init__(
        self,
        unet: FrameUnet,
        sam: Sam | Sam2,
        *,
        adapters: str = "all",
        prompt_grad: bool = True,
        memory_grad: bool = False,
        second_box: bool = True,
        positions: Positions = "current",
        window: int = WINDOW,
        box_jitter: float = 0.05,
        missing: Missing = "keep_unet",
    ) -> None:
        super().__init__()
        if unet.image_size != sam.image_size:
            raise ValueError(f"image_size of the U-Net {unet.image_size} and of SAM {sam.image_size} must be the same")
        if positions not in ("current", "sam2") or missing not in ("keep_unet", "ask"):
            raise ValueError(
                f"positions {positions!r}, missing {missing!r}: expected current or sam2, keep_unet or ask"
            )
        if not 0 <= window <= WINDOW:
            raise ValueError(f"window must be in 0..{WINDOW}, found {window}")
        self.unet, self.stem = unet, Stem()
        self.body: Any = body_of(sam)
        self.places = adapters
        self.adapters = add_adapters(sam, self.body.memory, adapters)
        self.prompt_grad, self.memory_grad, self.second_box = prompt_grad, memory_grad, second_box
        self.positions, self.window, self.box_jitter, self.missing = positions, window, box_jitter, missing
        self.train(self.training)

    @property
    def sam(self) -> Any:
        """The Segment Anything model that is asked."""
        return self.body.sam

    @property
    def settings(self) -> dict[str, Any]:
        """Plain values that decide a prediction beside the weights and the U-Net's own."""
        names = ("prompt_grad", "second_box", "positions", "window", "missing")
        about = {"variant": self.sam.variant, "version": getattr(self.sam, "version", None), "adapters": self.places}
        return about | {name: getattr(self, name) for name in names}

    def trainable(self) -> dict[str, list[nn.Parameter]]:
        """Parameters that learn, by group: `unet`, and `sam` of what stands around Segment Anything."""
        own = chain(self.stem.parameters(), self.adapters.parameters(), self.body.parameters())
        groups = {"unet": self.unet.parameters(), "sam": own}
        return {name: [each for each in group if each.requires_grad] for name, group in groups.items()}

    def train(self, mode: bool = True) -> Self:
        """Set the training mode; what is frozen stays in eval mode."""
        super().train(mode)
        for module in self.body.frozen():
            module.eval()
        return self

    def forward(
        self,
        image: Tensor,
        sequence: Tensor | None = None,
        position: Tensor | None = None,
        boxes: Tensor | None = None,
        return_parts: bool = False,
    ) -> Tensor | Steps:
        """Segment N frames, of any number of sequences.

        Args:
            image: (N, 1, S, S) in [0, 1].
            sequence: (N,) number of the sequence of each frame; None: each its own, whose only memory is its own.
            position: (N,) true index of each frame in its sequence; None: in the order of the batch.
            boxes: (N, K, 4) in place of the U-Net's, x1, y1, x2, y2 inclusive, NaN for none.
            return_parts: give the Steps.

        Returns:
            Logits (N, 1, S, S) of step 2, or of background and classes (N, 1 + K, S, S) where some are told apart; or the Steps.

        Raises:
            ValueError: a position twice in a sequence.
        """
        first, heads = self.unet.segment(image, sequence, position)
        groups = remembered(image.shape[0], sequence, position, self.window, image.device)
        masks = self.refine(self.encode(image), first, groups, boxes)
        parts = Steps({"unet": first, **masks}, heads, self.unet.classes, boxes)
        if return_parts:
            return parts
        return with_background(parts.last) if self.unet.classes else parts.last

    def encode(self, image: Tensor) -> Any:
        """Segment Anything's features of images (N, 1, S, S), through stem and adapters."""
        return self.body.encode(self.stem(image, self.sam.normalise(image)))

    def refine(
        self, features: Any, unet: Tensor, groups: list[Remembered], boxes: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Logits (N, K, S, S) of "step1" and "step2", from the features of N frames and the U-Net's logits (N, K, S, S).

        Args:
            features: as `encode` gives them.
            unet: see above.
            groups: what each frame remembers.
            boxes: (N, K, 4) in place of the U-Net's.
        """
        step1 = self._first_step(features, unet, boxes)
        order = torch.cat([group.frames for group in groups]).argsort()
        second = torch.cat([self._second_step(step1, group) for group in groups])[order]  # (N, K, h, w)
        kept = unet if self.prompt_grad else unet.detach()
        masks = {}
        for name, logits, known in (
            ("step1", step1.logits.unflatten(0, unet.shape[:2])[:, :, 0], _has_box(step1.boxes)),
            ("step2", second, self._remembers_box(step1.boxes, groups)),
        ):
            large = F.interpolate(logits, unet.shape[2:], mode="bilinear", align_corners=False)
            masks[name] = torch.where(known[..., None, None], large, kept) if self.missing == "keep_unet" else large
        return masks

    def _first_step(self, features: Any, unet: Tensor, boxes: Tensor | None) -> FirstStep:
        """Ask about each label of each frame with its box, and remember the answer."""
        frames, labels = unet.shape[:2]
        found = hard_boxes(label_masks(unet.detach())) if boxes is None else boxes
        asked = found.flatten(0, 1)
        if self.training and self.box_jitter and boxes is None:
            asked = jittered(asked, self.box_jitter, (unet.shape[2], unet.shape[3]))
        masks = unet.flatten(0, 1)[:, None] if self.prompt_grad else None
        repeated = self.body.repeat(features, labels)
        decoded = self.body.ask(repeated, asked, masks)
        decoded = decoded._replace(presence=torch.ones_like(decoded.presence))  # no object scores
        logits = decoded.logits
        if self.missing == "keep_unet":  # what is not there is remembered as not there
            kept = unet if self.prompt_grad else unet.detach()
            small = F.interpolate(kept, logits.shape[2:], mode="bilinear", align_corners=False).flatten(0, 1)[:, None]
            logits = torch.where(_has_box(found).flatten()[:, None, None, None], logits, small)
        memories, pointers = self._remember(repeated, decoded._replace(logits=logits))
        shape = (frames, labels)
        return FirstStep(features, found, logits, memories.unflatten(0, shape), pointers.unflatten(0, shape))

    def _remember(self, features: Any, decoded: Decoded) -> tuple[Tensor, Tensor]:
        """Memories and pointers of masks."""
        memory = self.body.memory
        return encode_memory(memory, self.body.coarse(features), decoded), object_pointer(memory, decoded)

    def _second_step(self, first: FirstStep, group: Remembered) -> Tensor:
        """Logits (n, K, h, w) of a group's frames asked again, about each label in the light of its memories."""
        labels = first.boxes.shape[1]
        features = self.body.repeat(_of_frames(first.features, group.frames), labels)
        memories, pointers = self._recall(first.memories, group), self._recall(first.pointers, group)
        codes = group.distances if self.positions == "current" else torch.zeros_like(group.distances)
        attended = attend(self.body.memory, self.body.coarse(features), memories, codes, pointers, group.distances)
        own = first.logits.unflatten(0, (-1, labels))[group.frames]
        side = self.sam.image_size
        boxes = boxes_of_logits(own[:, :, 0], side) if self.second_box else first.boxes[group.frames]
        logits = self.body.ask(features, boxes.flatten(0, 1), attended=attended).logits
        return logits[:, 0].unflatten(0, (-1, labels))

    def _recall(self, memories: Tensor, group: Remembered) -> Tensor:
        """Memories (N, K, ...) by distance, (T, n K, ...): of other frames without a gradient unless that is asked for."""
        own, others = memories[group.sources[:1]], memories[group.sources[1:]]
        return torch.cat([own, others if self.memory_grad else others.detach()]).flatten(1, 2)

    def _remembers_box(self, boxes: Tensor, groups: list[Remembered]) -> Tensor:
        """Whether a label has a box in a frame or in one that it remembers, (N, K)."""
        known = _has_box(boxes)
        order = torch.cat([group.frames for group in groups]).argsort()
        return torch.cat([known[group.sources].any(0) for group in groups])[order]


def _has_box(boxes: Tensor) -> Tensor:
    return ~boxes.isnan().any(2)


def _of_frames(features: Any, frames: Tensor) -> Any:
    """Of one map, or of a tuple of them, the given frames."""
    if isinstance(features, Tensor):
        return features[frames]
    return type(features)(*(level[frames] for level in features))


def describe(network: FrameUnet | RfMedSam2, settings: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What a stage's network is built from, for a model's card; of `settings` it takes what it does not know itself.

    That is the spacing of the pixels that it is shown.
    """
    shown = {"spacing": settings.get(UNET_PART, {}).get("spacing")}
    if isinstance(network, FrameUnet):
        return {UNET_PART: network.settings | shown}
    return {UNET_PART: network.unet.settings | shown, SAM_PART: network.settings}


def build(network: Mapping[str, Mapping[str, Any]]) -> nn.Module:
    """The untrained network of a stage.

    Args:
        network: `{"unet": settings}`, and of the stage `joint` `"sam"`, as `describe` gives them.
    """
    asked = dict(network[UNET_PART])
    asked.pop("spacing", None)  # decides what it is shown
    classes = asked.pop("classes")
    unet = FrameUnet(**asked, classes=() if classes == "lesion" else classes.split("+"))
    if SAM_PART not in network:
        return unet
    settings = dict(network[SAM_PART])
    sam = build_prompted(settings.pop("variant"), unet.image_size, version=settings.pop("version"))
    return RfMedSam2(unet, sam, **settings)
