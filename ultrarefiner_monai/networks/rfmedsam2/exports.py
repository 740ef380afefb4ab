"""What is exported of RFMedSAM 2: the network of single images, and of the stage `joint` what stands beside its U-Net."""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from ultrarefiner_monai.networks.export_parts import Part, made_samples
from ultrarefiner_monai.networks.label_logits import with_background
from ultrarefiner_monai.networks.rfmedsam2.memory import remembered
from ultrarefiner_monai.networks.rfmedsam2.network import RfMedSam2
from ultrarefiner_monai.networks.rfmedsam2.unet import FrameUnet
from ultrarefiner_monai.networks.sam2 import Features, Sam2

SURE = 10.0  # logit of a made mask


class ImageEncoder(nn.Module):
    """SAM's features of images as a tensor, or a tuple of three, through stem and adapters."""

    def __init__(self, network: RfMedSam2) -> None:
        super().__init__()
        self.network = deepcopy(network, {id(network.unet): nn.Identity()})

    def forward(self, image: Tensor) -> Any:
        """Encode images (B, 1, S, S)."""
        features = self.network.encode(image)
        return features if isinstance(features, Tensor) else tuple(features)


class StepsDecoder(nn.Module):
    """Logits of step 2 of images, each its own sequence, from their features and any model's logits (B, K, S, S) of labels.

    Those stand for the U-Net's: their boxes ask, and where it was trained so (`prompt_grad`) they themselves.
    """

    def __init__(self, network: RfMedSam2) -> None:
        super().__init__()
        sam = network.sam
        encoder = sam.network.vision_encoder.backbone if isinstance(sam, Sam2) else sam.image_encoder
        self.labels = network.unet.classes
        self.network = deepcopy(network, {id(module): nn.Identity() for module in (network.unet, encoder)})

    def forward(self, *args: Tensor) -> Tensor:
        """Ask about a batch: features, then logits of labels; (B, 1, S, S), or of background and classes (B, 1 + K, S, S)."""
        *features, logits = args
        groups = remembered(logits.shape[0], None, None, self.network.window, logits.device)
        found = self.network.refine(features[0] if len(features) == 1 else Features(*features), logits, groups)["step2"]
        return with_background(found) if self.labels else found


def exported_parts(network: FrameUnet | RfMedSam2, image_size: int) -> dict[str, Part]:
    """The networks to export: `model` of single images, and of the stage `joint` its `encoder` and `decoder`.

    `decoder` behind `encoder`, with the logits of the U-Net, gives what `model` gives.
    """
    network.eval()
    image, coarse = made_samples(image_size)
    parts = {"model": Part(network, ("image",), ("logits",), (image,))}
    if isinstance(network, RfMedSam2):
        with torch.no_grad():
            features = network.encode(image)
        levels = (features,) if isinstance(features, Tensor) else tuple(features)
        names = ("embedding",) if len(levels) == 1 else Features._fields
        labels = (SURE * (2 * coarse - 1)).repeat(1, max(1, len(network.unet.classes)), 1, 1)
        parts["encoder"] = Part(ImageEncoder(network).eval(), ("image",), names, (image,))
        parts["decoder"] = Part(StepsDecoder(network).eval(), (*names, "coarse_logits"), ("logits",), (*levels, labels))
    return parts
