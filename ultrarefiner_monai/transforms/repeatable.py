"""Random transforms whose numbers do not depend on who draws them, or in which order."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.transforms import Compose, RandomizableTrait
from torch.utils.data import get_worker_info

SEED_BYTES = 4  # NumPy's generators take seeds below 2**32


class RepeatableCompose(Compose):
    """`Compose` that seeds its random transforms anew for every item, from the epoch's seed, the item's `id` and its `repeat`.

    MONAI seeds the transforms once a worker, so that an item's augmentation depends on the number of workers and on the
    items that its worker served before. Here two runs with one seed show the network the same images, whatever the
    number of workers.

    The epoch's seed is the one that `set_random_state` was last given in the main process; what MONAI's loader gives its
    workers is ignored, since they start with a copy of the main process's.

    With `views` an item is seen in so many ways, one of which is drawn in each epoch, so that what is made of each can be kept;
    its number is in the item as `view`. View 0 is the item as it is, without what follows the first random transform. What comes
    `then` is drawn anew in every epoch, whatever the view.

    Args:
        transforms: as in `Compose`; items are dictionaries with `id`, and with `repeat` where an epoch has one several times.
        views: of an item; None: another one in every epoch.
        then: further transforms.

    Raises:
        ValueError: fewer than one view.
    """

    epoch_seed = 0

    def __init__(
        self,
        transforms: Sequence[Callable[[Any], Any]],
        views: int | None = None,
        then: Sequence[Callable[[Any], Any]] = (),
    ) -> None:
        super().__init__(transforms)
        self.then = Compose(then)
        if views is not None and views < 1:
            raise ValueError(f"views must be >= 1, found {views}")
        self.views = views

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
        """Apply the transforms `start` to `end` to one item, as `Compose` does, and without an `end` what comes then."""
        repeat = f" {input_['repeat']}" if input_.get("repeat") else ""
        drawn = _number(f"{self.epoch_seed} {input_['id']}{repeat}")
        if self.views is None:
            super().set_random_state(drawn)
            item = super().__call__(input_, start, end, threading, lazy)
        else:
            view = drawn % self.views
            super().set_random_state(_number(f"view {view} {input_['id']}"))
            first = self.get_index_of_first(lambda transform: isinstance(transform, RandomizableTrait))
            stop = first if view == 0 and (end is None or end > (first or 0)) else end
            item = {**super().__call__(input_, start, stop, threading, lazy), "view": view}
        return item if end is not None or not self.then.transforms else self.then.set_random_state(drawn)(item)


def _number(text: str) -> int:
    """A seed that follows from `text` alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:SEED_BYTES], "big")
