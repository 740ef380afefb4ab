"""AutoMedSAM: Segment Anything asked with a class alone (Huang et al., arXiv 2502.06817)."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ultrarefiner_monai.networks.export_parts import Encoder, Part, made_samples
from ultrarefiner_monai.networks.label_logits import any_label, each_label, with_background
from ultrarefiner_monai.networks.prompts.class_prompts import ClassMode, ClassPromptEncoder, Drift, PromptEmbeddings
from ultrarefiner_monai.networks.sam import Sam, build_sam, lora_rank, merge_lora
from ultrarefiner_monai.networks.sam.around import AroundSam

SINGLE = slice(0, 1)  # SAM's token for a prompt that is not ambiguous
LESION = "lesion"  # in a card: no classes are told apart
MASK_LOGIT = 6.9  # of a certain pixel of a mask that SAM is asked with, as in `networks.prompts`


class ClassMasks(NamedTuple):
    """What AutoMedSAM says of a batch, each of whose images was asked for all K classes.

    `logits` (B, K, S, S): l_1..l_K, the background's being zero; `iou` (B, K): predicted by SAM; `sparse` (B, K, 2, C) and
    `dense` (B, K, C, h, w): the prompts, on their own grid; `names` of the classes, none where all lesions are one (K = 1).
    """

    logits: Tensor
    iou: Tensor
    sparse: Tensor
    dense: Tensor
    names: tuple[str, ...] = ()

    @property
    def lesion(self) -> Tensor:
        """Logits (B, 1, S, S) of any class, 1 - p_0 of the softmax over [0, l_1, .., l_K]: log(exp l_1 + .. + exp l_K)."""
        return any_label(self.logits)

    @property
    def outputs(self) -> dict[str, Tensor]:
        """The mask of the stage by name: logits (B, 1, S, S)."""
        return {"mask": self.lesion}

    @property
    def classes(self) -> dict[str, Tensor]:
        """The probability p_k of each class by name as a logit (B, 1, S, S) of its own: l_k - log(1 + sum_(j != k) exp l_j)."""
        return dict(zip(self.names, each_label(self.logits).split(1, 1), strict=False))

    @property
    def with_background(self) -> Tensor:
        """Logits (B, 1 + K, S, S) of background and classes."""
        return with_background(self.logits)

    @property
    def class_probability(self) -> Tensor:
        """How likely each class is for the image, (B, K), which sums to one, by the lesion (1 - p_0 of at least a half)."""
        return self.class_evidence(self.lesion >= 0).softmax(1)

    def class_evidence(self, lesion: Tensor) -> Tensor:
        """Logits (B, K) of the classes of images whose lesion is `lesion`, (B, 1, S, S) of truth values.

        Of each class the mean of p_k over the lesion, or where there is none its maximum over the image, as a logarithm.
        """
        log_probability = self.with_background.float().log_softmax(1)[:, 1:].flatten(2)
        inside = lesion.flatten(2)
        blank = ~inside.any(2)
        over_lesion = log_probability.masked_fill(~(inside | blank[:, None]), -torch.inf).logsumexp(2)
        mean = over_lesion - inside.sum(2).clamp(min=1).log()
        return torch.where(blank, log_probability.amax(2), mean)

    @property
    def quality(self) -> Tensor:
        """IoU with the truth (B,) that SAM predicts, weighted by the classes' probabilities."""
        return (self.iou * self.class_probability).sum(1)


class AutoMedSam(AroundSam):
    """Mask and class of a lesion by asking Segment Anything for each class.

    Every class is asked for every image, in training and at test; the true class never enters. With `residual` the prompts are
    SAM's own of the whole image (the two tokens of its box, no mask) plus what the encoder gives, which is nothing at first: the
    untrained system is SAM asked with the whole image. The prompt encoder of SAM itself stays as it is.

    SAM's decoder takes several times as long to train as the encoder of the prompts, and tells it little of where a lesion
    lies. While `prompts_alone` is set, a training's masks are therefore what a 1 x 1 convolution reads from the dense prompts
    (deep supervision: Lee et al., AISTATS 2015), and the decoder is not asked; nothing else ever reads them.

    What SAM's decoder makes of two classes differs little for long, while the image's embedding tells them apart. With
    `class_head` one linear layer therefore reads h_1..h_K, zero at first, from the embedding's means over the lesion, as found so
    far, and over the image, both normalised together (their scale is another for each variant), and the lesion's pixels are
    shared among the classes by softmax(l_k + h_k): what is lesion stays so.

    Args:
        sam: the Segment Anything model.
        classes: names of the classes that are told apart, in their order; none: all lesions are one class.
        stride: see `ClassPromptEncoder`.
        class_mode: see `ClassPromptEncoder`.
        steps: see `ClassPromptEncoder`.
        drift: see `ClassPromptEncoder`.
        residual: see above; without it the prompts are the encoder's alone, as published.
        class_head: see above; where no classes are told apart there is nothing to share.
        freeze_image_encoder: keep SAM's image encoder as it is.
        freeze_mask_decoder: keep SAM's mask decoder as it is.
    """

    def __init__(
        self,
        sam: Sam,
        classes: Sequence[str] = (),
        *,
        stride: int = 1,
        class_mode: ClassMode = "embedding",
        steps: int = 7,
        drift: Drift = "mean",
        residual: bool = True,
        class_head: bool = True,
        freeze_image_encoder: bool = True,
        freeze_mask_decoder: bool = False,
    ) -> None:
        super().__init__(sam, freeze_image_encoder)
        channels, *grid = sam.embedding_shape
        self.classes = tuple(classes)
        self.residual = residual
        self.encoder = ClassPromptEncoder(
            max(1, len(self.classes)),
            (grid[0], grid[1]),
            channels,
            stride=stride,
            class_mode=class_mode,
            steps=steps,
            drift=drift,
            zero_start=residual,
        )
        self.reader = nn.Conv2d(channels, 1, 1)
        self.has_class_head = class_head
        self.class_head: nn.Sequential | None = None
        if class_head and self.classes:
            head = nn.Linear(2 * channels, len(self.classes))
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)
            self.class_head = nn.Sequential(nn.LayerNorm(2 * channels, elementwise_affine=False), head)
        self.prompts_alone = False
        sam.prompt_encoder.requires_grad_(False)
        sam.mask_decoder.requires_grad_(not freeze_mask_decoder)

    @property
    def settings(self) -> dict[str, Any]:
        """Plain values that decide a prediction beside the weights."""
        encoder = self.encoder
        asked = {name: getattr(encoder, name) for name in ("stride", "class_mode", "steps", "drift")}
        about: dict[str, Any] = {
            "variant": self.sam.variant,
            "image_size": self.sam.image_size,
            "classes": "+".join(self.classes) or LESION,
        }
        about["class_head"] = self.has_class_head
        return {**about, **asked, "residual": self.residual, "lora_rank": lora_rank(self.sam.image_encoder)}

    def forward(
        self, image: Tensor, embedding: Tensor | None = None, return_parts: bool = False
    ) -> Tensor | ClassMasks:
        """Segment `image` (B, 1, S, S) in [0, 1], whose `embedding` may be known already (a cache).

        Returns:
            Logits (B, 1, S, S) of a lesion, or of background and classes (B, 1 + K, S, S) where some are told apart, or with
            `return_parts` the ClassMasks.
        """
        alone = self.training and self.prompts_alone
        with torch.set_grad_enabled(torch.is_grad_enabled() and not alone):
            embedding = self.embed(image) if embedding is None else embedding
        embedding = embedding.to(self.sam.prompt_encoder.no_mask_embed.weight.dtype)
        noise = self.encoder.draw_noise(embedding).unbind(1) if self.training else [None] * self.encoder.classes
        asked = [self._prompts(embedding, number, own) for number, own in enumerate(noise, 1)]
        read = self._read if alone else self._decode
        low, iou = (torch.cat(found, 1) for found in zip(*(read(embedding, prompts) for prompts in asked), strict=True))
        if self.class_head is not None:
            low = self._shared_out(low, embedding)
        logits = F.interpolate(low, image.shape[2:], mode="bilinear", align_corners=False)
        sparse, dense = (torch.stack(found, 1) for found in zip(*asked, strict=True))
        parts = ClassMasks(logits, iou, sparse, dense, self.classes)
        if return_parts:
            return parts
        return parts.with_background if self.classes else parts.logits

    def _shared_out(self, logits: Tensor, embedding: Tensor) -> Tensor:
        """Logits (B, K, h, w) with the lesion of `logits`, its pixels shared among the classes by the image's embedding, too."""
        lesion = any_label(logits)
        cells = F.interpolate(lesion.detach(), embedding.shape[2:], mode="bilinear", align_corners=False).sigmoid()
        inside = (embedding * cells).sum((2, 3)) / cells.sum((2, 3)).clamp(min=1e-3)
        told = self.class_head(torch.cat([inside, embedding.mean((2, 3))], 1))  # type: ignore[misc]
        shared = logits + told[:, :, None, None]
        return shared + (lesion - any_label(shared))

    def _prompts(self, embedding: Tensor, number: int, noise: Tensor | None) -> PromptEmbeddings:
        """The prompts for one class."""
        label = torch.full((embedding.shape[0],), number, device=embedding.device)
        prompts = self.encoder(embedding, label, noise)
        if not self.residual:
            return prompts
        own = self._whole_image(embedding)
        return PromptEmbeddings(own.sparse + prompts.sparse, own.dense[:, :, :1, :1] + prompts.dense)

    def _decode(self, embedding: Tensor, prompts: PromptEmbeddings) -> tuple[Tensor, Tensor]:
        """SAM's low-resolution logits and IoU (B, 1) for the prompts, the dense ones interpolated to the embedding's grid."""
        dense = prompts.dense
        if self.encoder.stride > 1:
            dense = F.interpolate(dense, embedding.shape[2:], mode="bilinear", align_corners=False)
        return self.sam.decode_embedded(embedding, prompts.sparse, dense, SINGLE)

    def _read(self, embedding: Tensor, prompts: PromptEmbeddings) -> tuple[Tensor, Tensor]:
        """Logits (B, 1, h, w) that the dense prompts show, and zeros (B, 1) in place of SAM's IoU."""
        return self.reader(prompts.dense), embedding.new_zeros(len(embedding), 1)

    def _whole_image(self, embedding: Tensor) -> PromptEmbeddings:
        """SAM's own prompt embeddings of a box around the whole image; the dense one is the same everywhere."""
        side = self.sam.image_size - 1
        box = torch.tensor([[0.0, 0.0, side, side]], device=embedding.device).expand(embedding.shape[0], -1)
        return PromptEmbeddings(*self.sam.encode_prompts(embedding.shape[0], boxes=box))

    @torch.no_grad()
    def teach(self, boxes: Tensor, masks: Tensor) -> PromptEmbeddings:
        """What SAM's own prompt encoder makes of true boxes (B, 4) and true masks (B, 1, H, W) in {0, 1}, for a loss.

        Tokens of the box, and the dense embedding of the mask (that of a box alone is a constant) as logits of +-`MASK_LOGIT`.
        """
        sparse, _ = self.sam.encode_prompts(boxes.shape[0], boxes=boxes)
        _, dense = self.sam.encode_prompts(boxes.shape[0], masks=MASK_LOGIT * (2 * masks.float() - 1))
        return PromptEmbeddings(sparse, dense)


def describe(network: AutoMedSam, settings: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What the stage's network is built from, for a model's card; `settings` say nothing that it does not know itself."""
    return {"sam": network.settings}


def build(network: Mapping[str, Mapping[str, Any]]) -> nn.Module:
    """The untrained network of a stage.

    Args:
        network: `{"sam": settings}` as `AutoMedSam.settings` gives them.
    """
    settings = dict(network["sam"])
    sam = build_sam(settings.pop("variant"), settings.pop("image_size"), lora_rank=settings.pop("lora_rank"))
    classes = settings.pop("classes")
    return AutoMedSam(sam, () if classes == LESION else classes.split("+"), **settings)


class Decoder(nn.Module):
    """Class prompts and SAM's mask decoder: what the network gives, from an image's embedding (B, C, h, w)."""

    def __init__(self, network: AutoMedSam) -> None:
        super().__init__()
        self.network = deepcopy(network, {id(network.sam.image_encoder): nn.Identity()})

    def forward(self, embedding: Tensor) -> Tensor:
        """Segment the images with these embeddings."""
        side = self.network.sam.image_size
        image = embedding[:, :1, :1, :1].expand(-1, -1, side, side)  # of which nothing but the size is used
        return self.network(image, embedding)


def exported_parts(network: AutoMedSam, image_size: int) -> dict[str, Part]:
    """The networks to export: `model`, and its halves `encoder` and `decoder`; adapters (LoRA) are merged, in place."""
    if lora_rank(network.sam.image_encoder):
        merge_lora(network.sam)
    network.eval()  # without noise
    image, _ = made_samples(image_size)
    with torch.no_grad():
        embedding = network.embed(image)
    return {
        "model": Part(network, ("image",), ("logits",), (image,)),
        "encoder": Part(Encoder(network.sam).eval(), ("image",), ("embedding",), (image,)),
        "decoder": Part(Decoder(network).eval(), ("embedding",), ("logits",), (embedding,)),
    }
