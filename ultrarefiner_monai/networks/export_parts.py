"""What is exported of a trained model: plain networks from tensors to tensors, each with inputs to try it with.

Images are (B, 1, S, S) float32 in [0, 1], letterboxed to the side S of the model's card; S is fixed, the batch is not.
"""

from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ultrarefiner_monai.networks.refiner import SamRefiner
from ultrarefiner_monai.networks.sam import Sam, lora_rank, merge_lora
from ultrarefiner_monai.networks.ultrarefiner import UltraRefiner

BACKGROUND, LESION = 0.6, 0.15  # grey values of the made images


class Part(NamedTuple):
    """A network to export.

    `inputs` are the names of its arguments, `outputs` those of its result, a tensor or a tuple of several, `samples` one
    tensor an argument: a batch of three, on which no branch may go unseen (two lesions, nothing, everything).
    """

    network: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    samples: tuple[Tensor, ...]


class BothMasks(nn.Module):
    """Coarse and fused logits (B, 2, S, S) of a refining network, from what it takes, (B, 2 or 1, S, S)."""

    def __init__(self, network: SamRefiner | UltraRefiner) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Segment a batch."""
        return torch.cat(list(self.network(x, return_parts=True).outputs.values()), dim=1).float()


class Encoder(nn.Module):
    """SAM's embedding (B, C, h, w) of images (B, 1, S, S), which all refinements of an image share."""

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        kept = {id(sam.image_encoder): sam.image_encoder, id(sam.mask_decoder): nn.Identity()}
        self.sam = deepcopy(sam, kept)  # a trace would store the decoder's weights, too

    def forward(self, image: Tensor) -> Tensor:
        """Embed a batch."""
        return self.sam.embed(image)


class Decoder(nn.Module):
    """Prompt generator, SAM's prompt encoder and mask decoder, fusion: fused logits (B, 1, S, S)."""

    def __init__(self, refiner: SamRefiner) -> None:
        super().__init__()
        self.refiner = deepcopy(refiner, {id(refiner.sam.image_encoder): nn.Identity()})

    def forward(self, coarse: Tensor, embedding: Tensor) -> Tensor:
        """Refine probabilities (B, 1, S, S) with their images' embeddings (B, C, h, w)."""
        image = coarse  # beside an embedding, of which nothing but the size is used
        return self.refiner.refine(image, coarse, embedding).logits


def whole_network(network: nn.Module, image_size: int) -> dict[str, Part]:
    """The network as it is, from images to logits: for systems with nothing to take apart."""
    image, _ = made_samples(image_size)
    return {"model": Part(network, ("image",), ("logits",), (image,))}


def ultrarefiner_parts(network: nn.Module, image_size: int) -> dict[str, Part]:
    """The networks to export of a stage of UltraRefiner: `model`, and where SAM refines its halves `encoder` and `decoder`.

    Adapters (LoRA) are added to the weights they adapt, in place.
    """
    if not isinstance(network, SamRefiner | UltraRefiner):
        return whole_network(network, image_size)
    refiner = network.refiner if isinstance(network, UltraRefiner) else network
    if lora_rank(refiner.sam.image_encoder):
        merge_lora(refiner.sam)
    image, coarse = made_samples(image_size)
    name, whole = ("image_and_coarse", torch.cat((image, coarse), 1)) if network is refiner else ("image", image)
    with torch.no_grad():
        embedding = refiner.embed(image)
    return {
        "model": Part(BothMasks(network).eval(), (name,), ("logits",), (whole,)),
        "encoder": Part(Encoder(refiner.sam).eval(), ("image",), ("embedding",), (image,)),
        "decoder": Part(Decoder(refiner).eval(), ("coarse", "embedding"), ("logits",), (coarse, embedding)),
    }


def made_samples(size: int) -> tuple[Tensor, Tensor]:
    """Images and coarse probabilities, (3, 1, size, size) each: two lesions above padding, nothing at all, lesion only."""
    noise = torch.rand(3, 1, size, size, generator=torch.Generator().manual_seed(0))
    rows, columns = torch.meshgrid(torch.arange(size) / size, torch.arange(size) / size, indexing="ij")
    discs = [(rows - y) ** 2 + (columns - x) ** 2 - radius**2 for y, x, radius in ((0.3, 0.25, 0.12), (0.5, 0.7, 0.17))]
    coarse = torch.stack([torch.sigmoid(-400 * torch.minimum(*discs)), torch.zeros(size, size), torch.ones(size, size)])
    image = (BACKGROUND + (LESION - BACKGROUND) * coarse[:, None]) * (0.5 + noise)
    image[0, :, size * 3 // 4 :] = 0
    image[1] = 0
    return image, coarse[:, None]
