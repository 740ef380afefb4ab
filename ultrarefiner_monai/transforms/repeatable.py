"""Random transforms whose numbers do not depend on who draws them, or in which order."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from monai.transforms import Compose
from torch.utils.data import get_worker_info

SEED_BYTES = 4  # NumPy's generators take seeds below 2**32


class RepeatableCompose(Compose):
    """`Compose` that seeds its random transforms anew for every item, from the epoch's seed and the item's `id`.

    MONAI seeds the transforms once a worker, so that an item's augmentation depends on the number of workers and on the
    items that its worker served before. Here two runs with one seed show the network the same images, whatever the
    number of workers.

    The epoch's seed is the one that `set_random_state` was last given in the main process; what MONAI's loader gives its
    workers is ignored, since they start with a copy of the main process's.

    Args:
        transforms: as in `Compose`; items are dictionaries with `id`.
    """

    epoch_seed = 0

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> "RepeatableCompose":
        """Take `seed` for the items to come; ignored inside a loader's worker."""
        if get_worker_info() is None:
            super().set_random_state(seed, state)
            self.epoch_seed = int(self.R.randint(2**31))
        return self

    def __call__(
        self,
        input_: Mapping[str, Any],
        start: int = 0,
        end: int | None = None,
        threading: bool = False,
        lazy: bool | None = None,
    ) -> Any:
        """Apply the transforms `start` to `end` to one item, as `Compose` does."""
        digest = hashlib.sha256(f"{self.epoch_seed} {input_['id']}".encode()).digest()
        super().set_random_state(int.from_bytes(digest[:SEED_BYTES], "big"))
        return super().__call__(input_, start, end, threading, lazy)
