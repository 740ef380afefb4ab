"""What a batch of the refinement phases hands to the network: image, coarse map, cached embedding."""

import hashlib
import logging
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.engines import PrepareBatch
from torch import nn

from ultrarefiner_monai.bundle.plan import Plan
from ultrarefiner_monai.data.embedding_cache import EmbeddingCache, encoder_signature
from ultrarefiner_monai.networks import Sam

logger = logging.getLogger(__name__)


class CachedEmbeddings:
    """SAM image embeddings, computed once for each picture and kept on disk in half precision.

    Only valid while the image encoder is frozen and pictures reach it unaugmented; the cache's signature covers the encoder's
    weights, the variant, the image size and the arithmetic, so another encoder never meets these files.

    Args:
        sam: the model whose ``embed`` is cached.
        folder: where the cache lives; several runs may share it.
        amp: embed under bf16 autocast.
    """

    def __init__(self, sam: Sam, folder: str, amp: bool = False) -> None:
        self.sam = sam
        self.amp = amp
        self.folder = Path(folder)

    @cached_property
    def cache(self) -> EmbeddingCache:
        """The cache of this encoder; opened at the first batch, when the network holds the weights it will use."""
        signature = encoder_signature(
            _weights_hash(self.sam.image_encoder), self.sam.variant, self.sam.image_size, amp=self.amp
        )
        return EmbeddingCache(self.folder / signature, signature)

    @torch.no_grad()
    def __call__(self, image: torch.Tensor, keys: list[str]) -> torch.Tensor:
        """Embeddings (B, C, h, w) of ``image`` (B, 1, S, S); ``keys`` are the sha256 of the picture files."""
        known = {key: self.cache.get(key) for key in keys}
        found = {key: array for key, array in known.items() if array is not None}
        missing = [position for position, key in enumerate(keys) if key not in found]
        if missing:
            with torch.autocast(image.device.type, dtype=torch.bfloat16, enabled=self.amp):
                computed = self.sam.embed(image[missing]).half().cpu().numpy()
            for position, array in zip(missing, computed, strict=True):
                self.cache.put(keys[position], array)
                found[keys[position]] = array
        return torch.from_numpy(np.stack([found[key] for key in keys])).to(image.device, torch.float32)


def _weights_hash(network: nn.Module) -> str:
    """SHA-256 over names and bytes of all weights of ``network``."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class PrepareRefinement(PrepareBatch):
    """Turn a dictionary batch into ``(inputs, target, args, kwargs)`` for a refining network.

    Args:
        coarse: whether a coarse map travels in the batch (phase 2): inputs are (B, 2, S, S), else (B, 1, S, S).
        embeddings: source of cached embeddings, or None to let the network embed each picture.
        return_parts: ask the network for its named parts, which the losses need.
    """

    def __init__(self, coarse: bool, embeddings: CachedEmbeddings | None = None, return_parts: bool = False) -> None:
        self.coarse = coarse
        self.embeddings = embeddings
        self.return_parts = return_parts

    def __call__(
        self, batchdata: dict[str, Any], device: Any = None, non_blocking: bool = False, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None, tuple, dict]:
        """Move the batch to ``device`` and add the embedding."""
        image = batchdata["image"].to(device, non_blocking=non_blocking)
        extra: dict[str, Any] = {"return_parts": True} if self.return_parts else {}
        if self.embeddings is not None:
            extra["embedding"] = self.embeddings(image.as_subclass(torch.Tensor), batchdata["sha256"])
        if self.coarse:
            image = torch.cat((image, batchdata["coarse"].to(device, non_blocking=non_blocking)), dim=1)
        label = batchdata.get("label")  # still a path where nothing is learnt from it
        target = label.to(device, non_blocking=non_blocking) if isinstance(label, torch.Tensor) else None
        return image, target, (), extra


def cached_embeddings(plan: Plan, sam: Sam, wanted: bool, amp: bool = False) -> CachedEmbeddings | None:
    """The project's embedding cache for ``sam``, or None where embeddings may change or caching is not ``wanted``.

    Args:
        plan: says where the project is.
        sam: the model to embed with.
        wanted: False when the encoder trains (LoRA) or the user switched the cache off.
        amp: embed under bf16 autocast.
    """
    if not wanted or plan.images is not None:
        logger.info(
            "embeddings are not cached: the encoder trains, single pictures are predicted, or cache_embeddings is false"
        )
        return None
    return CachedEmbeddings(sam, str(plan.project / "runs" / "embeddings"), amp)
