"""Batches in pieces."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def pieces(batch: Mapping[str, Any], size: int) -> list[tuple[Mapping[str, Any], float]]:
    """Pieces of at most `size` images, in their order, and the share of the batch's images that each has.

    Args:
        batch: a collated batch: tensors (B, ...) and lists of B values; what has no B values is in every piece.
        size: images of a piece. A batch that fits is the one piece, untouched.
    """
    images = len(batch["image"])
    if size >= images:
        return [(batch, 1.0)]
    cuts = [slice(start, min(start + size, images)) for start in range(0, images, size)]
    return [
        ({key: _cut(value, cut, images) for key, value in batch.items()}, (cut.stop - cut.start) / images)
        for cut in cuts
    ]


def _cut(value: Any, cut: slice, images: int) -> Any:
    return value[cut] if isinstance(value, Tensor | list | tuple) and len(value) == images else value


def weighted(parts: list[tuple[Mapping[str, Tensor], float]]) -> dict[str, Tensor]:
    """A loss's components of the whole batch from those of its pieces and their shares."""
    return {name: sum(values[name] * share for values, share in parts) for name in parts[0][0]}  # type: ignore[misc]
