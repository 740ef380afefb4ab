"""Image embeddings of a frozen encoder on disk, refused when anything that decided them has changed."""

import hashlib
import io
import json
import re
import zipfile
from pathlib import Path

import numpy as np

from .errors import DataError
from .files import write_atomically

_FORMAT = 1  # part of every signature; raise it when what is stored changes its meaning


def encoder_signature(
    state_dict_hash: str, variant: str, image_size: int, **settings: str | int | float | bool | None
) -> str:
    """Name what decides an embedding besides the image: ``variant-size-digest``.

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
    """One float16 array an image, in ``folder/<first two letters of the key>/<key>.npz`` beside its signature.

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
        """Read the embedding (C, h, w) float16 of an image, or None if it is not cached.

        Args:
            key: SHA-256 of the image file's bytes.

        Raises:
            DataError: the file is corrupt, or another encoder, input size or setting made it.
        """
        path = self._path(key)
        try:
            return self._read(path)
        except FileNotFoundError:
            return None

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

    def _read(self, path: Path) -> np.ndarray:
        """Embedding of one file, its checksum and signature checked."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                embedding, signature = stored["embedding"], str(stored["signature"])
        except FileNotFoundError:
            raise
        except (OSError, ValueError, KeyError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
            raise DataError(f"{path}: corrupt embedding ({error}); delete the file, it is made anew") from error
        if signature != self.signature:
            raise DataError(
                f"{path}: stale embedding, expected {self.signature}, found {signature}; "
                f"delete the file, or choose another folder than {self.folder}"
            )
        return embedding

    def _path(self, key: str) -> Path:
        """File of a key; keys that are no plain names are refused."""
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]+", key):
            raise DataError(f"{key!r} is no key of an embedding: expected the image's SHA-256 in hexadecimal")
        return self.folder / key[:2] / f"{key}.npz"
