"""Groups of images that must stay on one side of every split: same patient, or nearly the same image."""

from collections.abc import Iterable, Sequence

from ultrarefiner_monai.data.releases.copies.pairs import ImagePair, opposite
from ultrarefiner_monai.data.releases.records import Record


def group_records(records: Sequence[Record], pairs: Iterable[ImagePair]) -> dict[str, str]:
    """Group of each id: the connected component of "same patient" and "same scene", named after its first id.

    `pairs` are near-duplicates and copies among the records; records without a patient are linked by those alone.
    """
    links = [pair.ids for pair in pairs]
    first_of: dict[str, str] = {}
    for record in records:
        if patient := record.source.patient:
            links.append((first_of.setdefault(patient, record.source.id), record.source.id))
    groups = components((record.source.id for record in records), links)
    return {name: group[0] for group in groups for name in group}


def excluded_duplicates(pairs: Iterable[ImagePair]) -> dict[str, str]:
    """Ids to leave out, with the reason, so that one image of each group of near-duplicates stays.

    A group is a connected component of pairs that are duplicates: near-duplicates that the pixels do not refute, and copies
    that show the same frame. The first image by id that shows a lesion stays, or
    else the first: a normal image whose copy shows a lesion is none. Where copies are called benign and malignant the
    reason says so, because nothing tells which label is true; their masks are usable all the same.
    """
    pairs = [pair for pair in pairs if pair.duplicate]
    by_id = {record.source.id: record for pair in pairs for record in (pair.first, pair.second)}
    reasons: dict[str, str] = {}
    for group in components(by_id, [pair.ids for pair in pairs]):
        stays = min(group, key=lambda name: (not by_id[name].lesion_pixels, name))
        labels = {by_id[name].source.label for name in group}
        remark = ", opposite labels among them" if opposite(labels) else ""
        reasons |= {name: f"near-duplicate of {stays}{remark}" for name in group if name != stays}
    return dict(sorted(reasons.items()))


def components(names: Iterable[str], links: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Connected components of the names, each in order."""
    from scipy.cluster.hierarchy import DisjointSet

    sets = DisjointSet(names)
    for first, second in links:
        sets.merge(first, second)
    return [sorted(group) for group in sets.subsets()]
