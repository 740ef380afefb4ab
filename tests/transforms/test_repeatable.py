"""An item's augmentation follows from the epoch and the item alone."""

import pytest
import torch
from monai.data import CacheDataset, DataLoader, MetaTensor
from monai.transforms import Identityd, RandGaussianNoised

from ultrarefiner_monai.handlers.random_states import reseed_transforms
from ultrarefiner_monai.transforms import RepeatableCompose


def epochs(seeds, workers=0, order=range(5), cache_rate=1.0, views=None):
    """What the loader serves in epochs of those seeds: the noise on each item, by id."""
    items = [{"id": f"p{n}", "image": MetaTensor(torch.zeros(1, 2, 2))} for n in order]
    transform = RepeatableCompose([Identityd("image"), RandGaussianNoised("image", prob=1.0)], views)
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


def test_an_item_that_an_epoch_has_twice_is_seen_in_two_ways():
    transform = RepeatableCompose([RandGaussianNoised("image", prob=1.0)])
    item = {"id": "p0", "image": MetaTensor(torch.zeros(1, 2, 2))}
    once, first, again = (transform(item | extra)["image"] for extra in ({}, {"repeat": 0}, {"repeat": 1}))
    assert torch.equal(once, first) and not torch.equal(first, again)


@pytest.mark.parametrize("other", [{"workers": 2}, {"order": (4, 2, 0, 1, 3)}, {"cache_rate": 0.0}], ids=str)
def test_workers_order_and_cache_change_nothing(other):
    assert epochs([1, 2], **other) == epochs([1, 2])


def test_an_item_is_seen_in_so_many_ways_and_once_as_it_is():
    served = epochs(range(40), views=3)
    seen = {name: {str(noise[name]) for noise in served} for name in served[0]}
    assert {len(ways) for ways in seen.values()} == {3}
    assert all(str(torch.zeros(1, 2, 2).tolist()) in ways for ways in seen.values())
    different = {way for ways in seen.values() for way in ways}
    assert len(different) == 5 * 2 + 1  # no two items share a way but the plain one
    assert epochs(range(4), views=3, workers=2) == epochs(range(4), views=3, cache_rate=0.0) == served[:4]


def test_the_number_of_the_view_is_told():
    transform = RepeatableCompose([Identityd("image"), RandGaussianNoised("image", prob=1.0)], views=4)
    shown = {}
    for seed in range(30):
        transform.set_random_state(seed)
        item = transform({"id": "a", "image": torch.zeros(1, 2, 2)})
        shown.setdefault(item["view"], []).append(item["image"])
    assert sorted(shown) == [0, 1, 2, 3] and not shown[0][0].any()
    assert all(torch.equal(one, images[0]) for images in shown.values() for one in images)
    with pytest.raises(ValueError, match="views must be >= 1, found 0"):
        RepeatableCompose([Identityd("image")], views=0)


def test_what_comes_then_is_drawn_in_every_epoch_whatever_the_view():
    noise = RandGaussianNoised("image", prob=1.0)
    transform = RepeatableCompose([Identityd("image"), noise], views=1, then=[RandGaussianNoised("other", prob=1.0)])
    items = [{"id": "a", "image": torch.zeros(1, 2, 2), "other": torch.zeros(1, 2, 2)}]
    data = CacheDataset(items, transform, progress=False)
    seen = []
    for seed in (1, 2, 1):
        transform.set_random_state(seed)
        seen.append(data[0])
    assert all(torch.equal(item["image"], items[0]["image"]) for item in seen)  # view 0 is the item as it is
    first, second, again = (item["other"] for item in seen)
    assert not torch.equal(first, second) and torch.equal(first, again) and not torch.equal(first, items[0]["other"])
