"""Random states as plain values, so that a checkpoint holding them loads with `weights_only=True`."""

import random
from typing import Any

import numpy as np
import torch
from monai.data.utils import set_rnd


def capture_random_states(generator: torch.Generator | None = None) -> dict[str, Any]:
    """States of Python, NumPy (global generator), torch, every CUDA device and the data loader's own generator."""
    version, words, gauss = random.getstate()
    numpy_state: Any = np.random.get_state(legacy=False)
    return {
        "python": [version, list(words), gauss],
        "numpy": {
            "key": torch.from_numpy(numpy_state["state"]["key"].astype(np.int64)),
            "position": int(numpy_state["state"]["pos"]),
            "has_gauss": int(numpy_state["has_gauss"]),
            "gauss": float(numpy_state["gauss"]),
        },
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "loader": None if generator is None else generator.get_state(),
    }


def restore_random_states(states: dict[str, Any], generator: torch.Generator | None = None) -> None:
    """Put back what `capture_random_states` took; CUDA states only where the number of devices is the same."""
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words), gauss))
    saved = states["numpy"]
    key = saved["key"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", key, saved["position"], saved["has_gauss"], saved["gauss"]))
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
    if generator is not None and states["loader"] is not None:
        generator.set_state(states["loader"])


def reseed_transforms(loader: Any) -> None:
    """Seed the random transforms of a loader's dataset from torch's generator.

    MONAI transforms own NumPy generators that live as long as the process, out of a checkpoint's reach. Seeded afresh
    from torch's generator when an epoch starts, they follow from the state that the checkpoint holds.
    """
    dataset = getattr(loader, "dataset", None)
    if dataset is not None:
        set_rnd(dataset, int(torch.empty((), dtype=torch.int64).random_()))
