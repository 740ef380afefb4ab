"""Whole groups into a test share and folds, balanced by class and lesion size.

scikit-learn's StratifiedGroupKFold does nearly this, but it makes k equal parts (a test share of 20 % beside five folds
of 16 % needs two runs, most other shares are out of reach) and promises no equal result across versions, whereas a
manifest's bytes must not change. So the assignment is written out here: greedy, largest group first, exact arithmetic.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction

from ultrarefiner_monai.errors import DataError

SIZE_BINS = 3  # small, middle, large lesions (thirds of each class): the least that keeps tiny lesions from piling up

Strata = Mapping[str, Counter[str]]


def assign(groups: Strata, shares: Mapping[str, Fraction], seed: int, may_be_empty: bool = False) -> dict[str, str]:
    """Give each group to one part so that every stratum is spread over the parts in proportion to `shares`.

    `groups` counts the strata of each group's images, `shares` (summing to 1) names the parts. Groups are sorted by
    name, shuffled with `seed`, then given away largest first where the squared deviation from the targets, relative to the
    targets, grows least. Raises `DataError` when a part stays empty, unless it `may_be_empty`.
    """
    totals = sum(groups.values(), Counter())
    filled: dict[str, Counter[str]] = {part: Counter() for part in shares}
    part_of = {}
    generator = random.Random(seed)  # whose `random()` is the one generator that Python promises never to change
    keys = {group: generator.random() for group in sorted(groups)}
    for group in sorted(groups, key=lambda group: (-groups[group].total(), keys[group], group)):
        part = min(shares, key=lambda part: _cost(groups[group], filled[part], totals, shares[part]))
        filled[part] += groups[group]
        part_of[group] = part
    empty = [part for part, content in filled.items() if not content]
    if empty and not may_be_empty:
        raise DataError(
            f"{len(groups)} groups cannot fill {', '.join(empty)}: ask for fewer folds or a smaller test share"
        )
    return part_of


def size_bins(areas: Mapping[str, float]) -> dict[str, int]:
    """Third (0, 1 or 2) of each id by its lesion's share of the image; equal shares are ordered by id."""
    ordered = sorted(areas, key=lambda name: (areas[name], name))
    return {name: rank * SIZE_BINS // len(ordered) for rank, name in enumerate(ordered)}


def _cost(added: Counter[str], filled: Counter[str], totals: Counter[str], share: Fraction) -> Fraction:
    """Growth of the sum over strata of (count - target)^2 / target when `added` joins `filled`, exact."""
    cost = Fraction(0)
    for stratum, count in added.items():
        target = totals[stratum] * share
        cost += (2 * count * (filled[stratum] - target) + count * count) / target
    return cost


def strata_of(label: str, size_bin: int) -> Sequence[str]:
    """Strata one image counts for: all images, its class, and its class and size."""
    return ("all", label, f"{label} {size_bin}")
