"""What batches are made of, and what one hands to a network: image, coarse map, cached embedding, prompts."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from monai.data import CacheDataset
from monai.engines import PrepareBatch

from ultrarefiner_monai.bundle.embeddings import CachedEmbeddings
from ultrarefiner_monai.errors import one_line_errors
from ultrarefiner_monai.networks.prompts.components import jittered
from ultrarefiner_monai.networks.prompts.lesions import LesionPrompts, lesion_prompts, mixed_prompts
from ultrarefiner_monai.networks.rfmedsam2.boxes import hard_boxes
from ultrarefiner_monai.parallel import check_shared_memory

PromptSource = Literal["mixed", "truth_box", "truth_box_10", "truth_point", "auto"]

READERS = 2  # threads that fill the cache
JITTER = 0.1  # of a box's side, as far as its edges are moved for "truth_box_10"
SEED_DIGITS = 15  # of a hash in hexadecimal, as many as a seed of 64 bits with a sign holds


@one_line_errors
def cached_items(data: Sequence[dict[str, Any]], transform: Callable[[Any], Any], cache_rate: float) -> CacheDataset:
    """A data set of transformed items, of which a share is kept in memory.

    Args:
        data: the items.
        transform: what is done with each; what comes before its first random part is done once.
        cache_rate: share of the items, 0 to 1.

    Raises:
        SystemExit: a file has changed since it was checked, or shared memory is full.
    """
    check_shared_memory()
    return CacheDataset(data, transform, cache_rate=cache_rate, num_workers=READERS, progress=False)


def balanced(items: list[dict[str, Any]], balance: Literal["image", "dataset"]) -> list[dict[str, Any]]:
    """The items of one epoch of a training on a combined data set.

    Args:
        items: all of them.
        balance: "image": each once; "dataset": each data set equally often, those of the smaller ones several times in turn,
            each time with another number as `repeat`, so that it is augmented in another way.
    """
    if balance == "image":
        return items
    parts: dict[str, list[dict[str, Any]]] = {}
    for item in items:
        parts.setdefault(item.get("dataset", ""), []).append(item)  # told where there are several
    most = max(map(len, parts.values()))
    return [
        part[number % len(part)] | {"repeat": number // len(part)} for part in parts.values() for number in range(most)
    ]


class PrepareRefinement(PrepareBatch):
    """Turn a dictionary batch into `(inputs, target, args, kwargs)` for a refining network.

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
        """Move the batch to `device` and add the embedding."""
        image = batchdata["image"].to(device, non_blocking=non_blocking)
        extra: dict[str, Any] = {"return_parts": True} if self.return_parts else {}
        if self.embeddings is not None:
            pixels = image.as_subclass(torch.Tensor)
            extra["embedding"] = self.embeddings(pixels, _embedding_keys(batchdata))
        if self.coarse:
            image = torch.cat((image, batchdata["coarse"].to(device, non_blocking=non_blocking)), dim=1)
        label = batchdata.get("label")  # still a path where nothing is learnt from it
        target = label.to(device, non_blocking=non_blocking) if isinstance(label, torch.Tensor) else None
        return image, target, (), extra


class PrepareSequences(PrepareBatch):
    """Turn a dictionary batch into `(inputs, target, args, kwargs)` for a network that sees frames that belong together.

    The batch has `sequence`, a name an image, and `position`. The network gets, as keyword arguments, `sequence` (N,), numbers
    from 0 in the order in which the batch has the sequences, and `position` (N,); both of int64.

    Args:
        return_parts: ask the network for its named parts, which the losses need.
        true_boxes: ask it with the boxes of the true masks: `boxes` (N, labels, 4), of RfMedSam2.
        labels: how many labels a true mask (N, 1, S, S) tells apart, numbered from 1.
    """

    def __init__(self, return_parts: bool = False, true_boxes: bool = False, labels: int = 1) -> None:
        self.return_parts = return_parts
        self.true_boxes = true_boxes
        self.labels = labels

    def __call__(
        self, batchdata: dict[str, Any], device: Any = None, non_blocking: bool = False, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None, tuple, dict]:
        """Move the batch to `device` and number its sequences."""
        image = batchdata["image"].to(device, non_blocking=non_blocking)
        label = batchdata.get("label")  # still a path where nothing is learnt from it
        target = label.to(device, non_blocking=non_blocking) if isinstance(label, torch.Tensor) else None
        names = {name: number for number, name in enumerate(dict.fromkeys(batchdata["sequence"]))}
        numbers = torch.tensor([names[name] for name in batchdata["sequence"]], device=device)
        position = torch.as_tensor(batchdata["position"], dtype=torch.int64).to(device, non_blocking=non_blocking)
        extra: dict[str, Any] = {"return_parts": True} if self.return_parts else {}
        if self.true_boxes:
            truth = batchdata["label"].as_subclass(torch.Tensor)
            masks = torch.cat([truth == label for label in range(1, self.labels + 1)], 1)
            extra["boxes"] = hard_boxes(masks).to(device, non_blocking=non_blocking)
        return image, target, (), {"sequence": numbers, "position": position, **extra}


class PreparePrompts(PrepareBatch):
    """Turn a dictionary batch into `(inputs, target, args, kwargs)` for a network that is asked about lesions.

    Prompts come from the true masks under `label`: in training of a kind that is drawn for each batch (`mixed_prompts`), else
    as the `source` says, the same in every epoch. With "auto" another model's map, under `coarse`, travels as the image's second
    channel in their place, and the truth reaches the network in no way.

    Args:
        source: "mixed", "truth_box", "truth_box_10", whose edges are moved by up to 10 % of the box's side, "truth_point", or
            "auto".
        mix: chances of box, points, box and point, for "mixed".
    """

    def __init__(self, source: PromptSource, mix: Sequence[float] = (0.6, 0.2, 0.2)) -> None:
        self.source = source
        self.mix = tuple(mix)

    def __call__(
        self, batchdata: dict[str, Any], device: Any = None, non_blocking: bool = False, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None, tuple, dict]:
        """Move the batch to `device` and add the prompts."""
        image = batchdata["image"].to(device, non_blocking=non_blocking)
        label = batchdata.get("label")  # still a path where nothing is learnt from it, nor asked
        target = label.to(device, non_blocking=non_blocking) if isinstance(label, torch.Tensor) else None
        if self.source == "auto":
            coarse = batchdata["coarse"].to(device, non_blocking=non_blocking)
            return torch.cat((image, coarse), dim=1), target, (), {}
        prompts = self._from_truth(batchdata["label"].as_subclass(torch.Tensor), batchdata["sha256"])
        return image, target, (), {"prompts": prompts.to(device, non_blocking)}

    def _from_truth(self, masks: torch.Tensor, hashes: Sequence[str]) -> LesionPrompts:
        """Prompts for the lesions of true masks (B, 1, S, S) of images with these SHA-256."""
        if self.source == "mixed":
            return mixed_prompts(masks, self.mix)
        prompts = lesion_prompts(masks, "points" if self.source == "truth_point" else "box")
        if self.source != "truth_box_10" or prompts.boxes is None:
            return prompts
        size = (masks.shape[2], masks.shape[3])
        moved = [
            jittered(prompts.boxes[prompts.image == number], JITTER, size, _generator_of(sha256))
            for number, sha256 in enumerate(hashes)
        ]
        return prompts._replace(boxes=torch.cat(moved))


def _generator_of(sha256: str) -> torch.Generator:
    """Random numbers that belong to an image, whatever batch it is in."""
    return torch.Generator().manual_seed(int(sha256[:SEED_DIGITS], 16))


def _embedding_keys(batchdata: dict[str, Any]) -> list[str]:
    """What decides the pixels of each image: its file and grid, or of an augmented `view` the pixels themselves.

    An image of another size than its mask is stretched onto the manifest's grid: the grid is part of the image.
    """
    grids = zip(batchdata["sha256"], batchdata["width"], batchdata["height"], strict=True)
    keys = [f"{sha256}-{int(width)}x{int(height)}" for sha256, width, height in grids]
    views = batchdata.get("view", [0] * len(keys))
    return [
        hashlib.sha256(pixels.numpy().tobytes()).hexdigest() if view else key
        for key, pixels, view in zip(keys, batchdata["image"].as_subclass(torch.Tensor), views, strict=True)
    ]
