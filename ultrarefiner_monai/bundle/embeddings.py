"""Image embeddings of a frozen encoder on disk, refused when anything that decided them has changed."""

import hashlib
import io
import json
import logging
import math
import re
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ultrarefiner_monai.bundle.config_keys import running_parser
from ultrarefiner_monai.bundle.preflight import Plan
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.files import read_npz, write_atomically
from ultrarefiner_monai.networks import Sam, SamRefiner, UltraRefiner
from ultrarefiner_monai.networks.sam.around import encoder_learns

logger = logging.getLogger(__name__)


_FORMAT = 1  # part of every signature; raise it when what is stored changes its meaning


def encoder_signature(
    state_dict_hash: str, variant: str, image_size: int, **settings: str | int | float | bool | None
) -> str:
    """Name what decides an embedding besides the image: `variant-size-digest`.

    Args:
        state_dict_hash: hash of the image encoder's weights.
        variant: name of the SAM variant.
        image_size: side (px) of the letterboxed input.
        settings: anything else that changes an embedding, such as the normalisation or autocast's type.
    """
    decisive = {**settings, "format": _FORMAT, "weights": state_dict_hash, "variant": variant, "image_size": image_size}
    digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
    return f"{variant}-{image_size}-{digest[:32]}"


class EmbeddingCache:
    """One float16 array an image, in `folder/<first two letters of the key>/<key>.npz` beside its signature.

    Files are written atomically and carry a checksum (the zip container's CRC-32), so several processes may fill and
    read one cache. Nothing in them is ever unpickled.

    Args:
        folder: of the cache; made on the first `put`.
        signature: of the encoder, from `encoder_signature`.
    """

    def __init__(self, folder: str | Path, signature: str) -> None:
        self.folder = Path(folder)
        self.signature = signature

    def get(self, key: str) -> np.ndarray | None:
        """Read the embedding (C, h, w) float16 of an image, or None if it is not cached or its file is damaged (a warning).

        Args:
            key: SHA-256 of the image file's bytes, and the grid (`-WxH`) that it was read on.

        Raises:
            DataError: another encoder, input size or setting made the file.
        """
        path = self._path(key)
        try:
            stored = read_npz(path)
            embedding, signature = stored["embedding"], str(stored["signature"])
            if embedding.dtype != np.float16:
                raise DataError(f"{path}: expected float16, found {embedding.dtype}")
        except FileNotFoundError:
            return None
        except (DataError, KeyError) as error:
            logger.warning("damaged embedding, made anew: %s", error)
            return None
        if signature != self.signature:
            raise DataError(
                f"{path}: stale embedding, expected {self.signature}, found {signature}; "
                f"delete the file, or choose another folder than {self.folder}"
            )
        return embedding

    def put(self, key: str, array: np.ndarray) -> None:
        """Store an embedding, cast to float16, in place of any earlier one.

        Raises:
            ValueError: values that float16 cannot hold (NaN, infinite, beyond 65504).
            DataError: the file cannot be written; what was there before stays.
        """
        with np.errstate(over="ignore"):
            half = np.asarray(array, dtype=np.float16)
        if not np.isfinite(half).all():
            raise ValueError(f"embedding of {key}: NaN or values beyond float16's 65504; check the encoder's weights")
        content = io.BytesIO()
        np.savez(content, embedding=half, signature=np.array(self.signature))
        path = self._path(key)
        try:
            write_atomically(path, content.getvalue())
        except OSError as error:
            need = f"{content.tell() / 1e6:.1f} MB for each image"
            raise DataError(
                f"{path}: cannot be written ({error.strerror}); needs {need}, free some or move the cache"
            ) from error

    def _path(self, key: str) -> Path:
        """File of a key; keys that are no plain names are refused."""
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]+", key):
            raise DataError(
                f"{key!r} is no key of an embedding: expected the image's SHA-256 in hexadecimal and its grid"
            )
        return self.folder / key[:2] / f"{key}.npz"


class CachedEmbeddings:
    """SAM image embeddings, computed once for each image and kept on disk in half precision.

    Only valid while the image encoder is frozen; the cache's signature covers the encoder's weights, the variant, the image
    size and the arithmetic, so another encoder never meets these files.

    Args:
        sam: the model whose `embed` is cached.
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
        """Embeddings (B, C, h, w) of `image` (B, 1, S, S); `keys` name what decides an image's pixels."""
        known = {key: self.cache.get(key) for key in keys}
        found = {key: array for key, array in known.items() if array is not None}
        missing = [position for position, key in enumerate(keys) if key not in found]
        if missing:
            with torch.autocast(image.device.type, dtype=torch.bfloat16, enabled=self.amp):
                embedding = self.sam.embed(image[missing])
            computed = embedding.half().cpu().contiguous().numpy()  # laid out as in the file, which rounding depends on
            for position, array in zip(missing, computed, strict=True):
                self.cache.put(keys[position], array)
                found[keys[position]] = array
        return torch.from_numpy(np.stack([found[key] for key in keys])).to(image.device, torch.float32)


def _weights_hash(network: nn.Module) -> str:
    """SHA-256 over names and bytes of all weights of `network`."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def embedding_bytes(network: nn.Module) -> int:
    """Bytes of an image's embedding in the cache; 0 for a network whose encoder trains, or without one."""
    sam = getattr(getattr(network, "refiner", network), "sam", None)
    if not isinstance(sam, Sam) or encoder_learns(sam):
        return 0
    return math.prod(sam.prompt_encoder.image_embedding_size) * sam.prompt_encoder.embed_dim * np.float16().nbytes


def cached_embeddings(plan: Plan, network: SamRefiner | UltraRefiner) -> CachedEmbeddings | None:
    """The project's embedding cache for the SAM of `network`, or None where embeddings may change or none is wanted.

    `cache_embeddings` and `amp` are keys of the running configuration.

    Args:
        plan: says where the project is.
        network: its image encoder must not train; LoRA's adapters do.
    """
    parser = running_parser()
    sam = network.refiner.sam if isinstance(network, UltraRefiner) else network.sam
    if not parser.get_parsed_content("cache_embeddings") or plan.data is None or encoder_learns(sam):
        logger.info(
            "embeddings are not cached: the encoder trains, single images are predicted, or cache_embeddings is false"
        )
        return None
    return CachedEmbeddings(sam, str(plan.request.project / "runs" / "embeddings"), parser.get_parsed_content("amp"))
