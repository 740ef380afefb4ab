"""Whole groups, every part filled, strata spread evenly, and the same answer whatever the order."""

import random
from collections import Counter
from fractions import Fraction

import pytest

from ultrarefiner_monai.data.manifests.folds import assign, size_bins, strata_of
from ultrarefiner_monai.errors import DataError

SHARES = {"testing": Fraction(1, 5)} | {str(fold): Fraction(4, 25) for fold in range(5)}


def test_single_images_are_spread_exactly() -> None:
    groups = {f"{label}{i}": Counter(strata_of(label, i % 3)) for label in ("benign", "malignant") for i in range(75)}
    placed = assign(groups, SHARES, seed=1)
    counts = Counter((name[0], place) for name, place in placed.items())
    assert {counts[label, "testing"] for label in "bm"} == {15}
    assert {counts[label, str(fold)] for label in "bm" for fold in range(5)} == {12}


def test_order_of_the_groups_does_not_matter_and_the_seed_does() -> None:
    groups = {f"g{i}": Counter(strata_of("benign", i % 3)) for i in range(60)}
    names = list(groups)
    random.Random(3).shuffle(names)
    assert assign({name: groups[name] for name in names}, SHARES, 42) == assign(groups, SHARES, 42)
    assert assign(groups, SHARES, 43) != assign(groups, SHARES, 42)


def test_the_assignment_of_a_seed_is_frozen() -> None:
    """A change of this answer would change every manifest's bytes: it needs a new schema version."""
    groups = {f"g{i}": Counter(strata_of("benign", 0)) for i in range(10)}
    placed = assign(groups, SHARES, seed=42)
    assert "".join(placed[f"g{i}"][0] for i in range(10)) == "tt32102140"


def test_too_few_groups_are_refused() -> None:
    with pytest.raises(DataError, match="3 groups cannot fill"):
        assign({f"g{i}": Counter(strata_of("benign", 0)) for i in range(3)}, SHARES, 0)


def test_size_bins_are_thirds() -> None:
    areas = {"f": 0.9, "a": 0.1, "b": 0.1, "c": 0.3, "d": 0.3, "e": 0.5}
    assert size_bins(areas) == {"a": 0, "b": 0, "c": 1, "d": 1, "e": 2, "f": 2}
    assert size_bins({}) == {}
