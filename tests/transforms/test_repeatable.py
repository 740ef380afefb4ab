"""An item's augmentation follows from the epoch and the item alone."""

import pytest
import torch
from monai.data import CacheDataset, DataLoader
from monai.transforms import Identityd, RandGaussianNoised

from ultrarefiner_monai.handlers.random_states import reseed_transforms
from ultrarefiner_monai.transforms import RepeatableCompose


def epochs(seeds, workers=0, order=range(5), cache_rate=1.0):
    """What the loader serves in epochs of those seeds: the noise on each item, by id."""
    items = [{"id": f"p{n}", "image": torch.zeros(1, 2, 2)} for n in order]
    transform = RepeatableCompose([Identityd("image"), RandGaussianNoised("image", prob=1.0)])
    loader = DataLoader(
        CacheDataset(items, transform, cache_rate=cache_rate, progress=False), batch_size=2, num_workers=workers
    )
    served = []
    for seed in seeds:
        torch.manual_seed(seed)
        reseed_transforms(loader)
        served.append({n: i.tolist() for batch in loader for n, i in zip(batch["id"], batch["image"], strict=True)})
    return served


def test_every_item_and_every_epoch_differ():
    first, second = epochs([1, 2])
    values = [str(noise) for served in (first, second) for noise in served.values()]
    assert len(set(values)) == len(values) == 10


@pytest.mark.parametrize("other", [{"workers": 2}, {"order": (4, 2, 0, 1, 3)}, {"cache_rate": 0.0}], ids=str)
def test_workers_order_and_cache_change_nothing(other):
    assert epochs([1, 2], **other) == epochs([1, 2])
