"""The device a network runs on, and the little there is to know about other processes of the same training."""

from typing import Any

import torch
import torch.distributed as dist

# What torch's CPU allocator, C++ and oneDNN say; they have no class of their own.
NO_MEMORY = ("DefaultCPUAllocator", "bad_alloc", "could not create a memory object", "Cannot allocate memory")


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


def largest(*numbers: float) -> list[float]:
    """The largest of all processes for each number. A collective of one small tensor; nothing where there is one process."""
    if not (dist.is_available() and dist.is_initialized()):
        return list(numbers)
    values = torch.tensor(numbers, device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.all_reduce(values, dist.ReduceOp.MAX)
    return values.tolist()


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that there is no memory left: CUDA's allocator, torch's on a CPU, oneDNN's, or Python's."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)


def default_device() -> torch.device:
    """The first CUDA device, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
