"""The device a network runs on, and the little there is to know about other processes of the same training."""

from typing import Any

import torch
import torch.distributed as dist


def rank() -> int:
    """Rank of this process; 0 when training is not distributed."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def is_main() -> bool:
    """Whether this process writes the files and talks to the tracking server."""
    return rank() == 0


def gather(item: Any) -> list[Any]:
    """Every process's `item`, in rank order, on every process. A collective: all ranks must call it."""
    if not (dist.is_available() and dist.is_initialized()):
        return [item]
    items: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(items, item)
    return items


def default_device() -> torch.device:
    """The first CUDA device, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
