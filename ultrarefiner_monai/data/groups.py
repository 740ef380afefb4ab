"""Groups of images that must stay on one side of every split: same patient, or nearly the same picture."""

from collections.abc import Sequence

import numpy as np

from .near_duplicates import MAX_DISTANCE, near_duplicate_pairs
from .records import Record


def group_records(records: Sequence[Record], max_distance: int = MAX_DISTANCE) -> list[str]:
    """Group of each record: the connected component of "same patient" and "near-duplicate", named after its first id.

    Records without a patient are linked by near-duplicates alone.
    """
    pairs = near_duplicate_pairs([record.phash16 for record in records], max_distance)
    first_of: dict[str, int] = {}
    for index, record in enumerate(records):
        if patient := record.source.patient:
            pairs.append((first_of.setdefault(patient, index), index))
    ids = [record.source.id for record in records]
    return [min(ids[i] for i in members) for members in components(len(records), pairs)]


def opposite_labels(records: Sequence[Record], max_distance: int = MAX_DISTANCE) -> list[tuple[Record, Record]]:
    """Near-duplicates of which one is called benign and the other malignant."""
    pairs = near_duplicate_pairs([record.phash16 for record in records], max_distance)
    both = ((records[i], records[j]) for i, j in pairs)
    return [(a, b) for a, b in both if {a.source.label, b.source.label} == {"benign", "malignant"}]


def components(count: int, pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """For each of `count` nodes the members of its connected component."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows, columns = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(count, count))
    labels = connected_components(graph, directed=False)[1].tolist()
    members: dict[int, list[int]] = {}
    for index, label in enumerate(labels):
        members.setdefault(label, []).append(index)
    return [members[label] for label in labels]
