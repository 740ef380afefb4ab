"""The place of every group of images: one of the training folds, or the held-out test set."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod

from ultrarefiner_monai.data.manifests.folds import assign, size_bins, strata_of
from ultrarefiner_monai.data.releases.records import Record
from ultrarefiner_monai.errors import DataError, shown

TEST = "testing"
NORMAL = ("normal",)  # the one stratum of images without a lesion
FOLDS_AFTER_PUBLISHED_TEST = 5  # where authors published test patients but no folds

Places = dict[str, str]  # group -> TEST, or a fold's number as text


@dataclass(frozen=True)
class Options:
    """How to split.

    `folds` is a number from 2, or "official" for the authors' published split; `test_fraction` is the share of the images
    with lesions that is held out (not used with "official").
    """

    folds: int | str = 5
    seed: int = 42
    test_fraction: float = 0.2

    @property
    def official(self) -> bool:
        """Whether the authors' published split is wanted."""
        return self.folds == "official"

    def check(self, name: str) -> None:
        """Raise `DataError` where an option of the manifest of `name` has no meaning."""
        if self.official:
            return
        if not isinstance(self.folds, int) or isinstance(self.folds, bool) or self.folds < 2:
            raise DataError(f"{name}: --folds {self.folds!r}: expected a whole number from 2, or 'official'")
        if not isinstance(self.test_fraction, int | float) or not 0 <= self.test_fraction < 1:
            raise DataError(f"{name}: --test_fraction {self.test_fraction!r}: expected a number from 0 to below 1")
        if not isinstance(self.seed, int) or isinstance(self.seed, bool):
            raise DataError(f"{name}: --seed {self.seed!r}: expected a whole number")


def split(
    name: str, records: Sequence[Record], group: Mapping[str, str], options: Options, test_patients: Collection[str]
) -> tuple[Places, list[str]]:
    """Place of every group, and what is to be reported about it.

    Groups with lesions are spread by class and lesion size; groups of normals alone follow, in the same shares.

    Args:
        name: data set, for messages.
        records: images in order of their ids.
        group: group of each id.
        options: how to split.
        test_patients: patients the authors published as their test set.

    Raises:
        DataError: senseless options, no published split, or fewer groups than places.
    """
    options.check(name)
    lesions = [record for record in records if record.lesion_pixels]
    if options.official:
        place, warnings = _official(name, records, group, options.seed, test_patients)
        images = Counter(place[group[record.source.id]] for record in lesions)
        shares = {where: Fraction(count, images.total()) for where, count in sorted(images.items())}
    else:
        shares = _wanted_shares(int(options.folds), Fraction(str(options.test_fraction)))
        place, warnings = assign(_strata(lesions, group), shares, options.seed), []
    alone = _normals_alone(records, group, place)
    return place | assign(alone, shares, options.seed, may_be_empty=True), warnings


def _wanted_shares(folds: int, test: Fraction) -> dict[str, Fraction]:
    """Share of the images of each place: the test set, then folds of equal size."""
    return ({TEST: test} if test else {}) | {str(fold): (1 - test) / folds for fold in range(folds)}


def _strata(lesions: Sequence[Record], group: Mapping[str, str]) -> dict[str, Counter[str]]:
    """Images of each group by class and lesion size, each data set of a combination apart."""
    strata: dict[str, Counter[str]] = {}
    for kind in sorted({_kind(record) for record in lesions}):
        of_kind = {r.source.id: r.lesion_pixels / prod(r.mask_sizes[0]) for r in lesions if _kind(r) == kind}
        for name, size_bin in size_bins(of_kind).items():
            strata.setdefault(group[name], Counter()).update(strata_of(kind, size_bin))
    return strata


def _kind(record: Record) -> str:
    return f"{record.source.dataset} {record.source.label}".strip()


def _official(
    name: str, records: Sequence[Record], group: Mapping[str, str], seed: int, test_patients: Collection[str]
) -> tuple[Places, list[str]]:
    lesions = [record for record in records if record.lesion_pixels]
    published = _published(lesions, test_patients)
    if not published:
        lacking = [record.source.id for record in lesions if not record.source.official]
        raise DataError(
            f"{name}: {len(lacking)} of {len(lesions)} images have no place in a published split, {shown(lacking, 3)};"
            " give --folds a number"
        )
    wanted: dict[str, set[str]] = {}
    normals = [record for record in records if not record.lesion_pixels and record.source.official]
    for key, where in {**published, **_published(normals, ())}.items():
        wanted.setdefault(group[key], set()).add(where)
    place = {key: TEST if TEST in places else min(places) for key, places in sorted(wanted.items())}
    warnings = [
        f"group {key} straddles the published split ({', '.join(sorted(places))}): kept in {place[key]}"
        for key, places in sorted(wanted.items())
        if len(places) > 1
    ]
    if set(place.values()) <= {TEST, ""}:
        rest = [record for record in lesions if place[group[record.source.id]] != TEST]
        place |= assign(_strata(rest, group), _wanted_shares(FOLDS_AFTER_PUBLISHED_TEST, Fraction(0)), seed)
    return {key: where for key, where in place.items() if where}, warnings


def _published(lesions: Sequence[Record], test_patients: Collection[str]) -> dict[str, str]:
    """The authors' place of each id ("" where they only name the test set); empty when they published nothing."""
    if test_patients:
        return {r.source.id: TEST if r.source.patient in test_patients else "" for r in lesions}
    if not all(record.source.official for record in lesions):
        return {}
    places = {"test": TEST, "train": ""}
    return {r.source.id: places.get(r.source.official) or _fold(r.source.official) for r in lesions}


def _fold(official: str) -> str:
    return str(int(official) - 1) if official.isdigit() else ""


def _normals_alone(records: Sequence[Record], group: Mapping[str, str], place: Places) -> dict[str, Counter[str]]:
    """Number of images of each group that holds normals only."""
    alone: dict[str, Counter[str]] = {}
    for record in records:
        if group[record.source.id] not in place:
            alone.setdefault(group[record.source.id], Counter()).update(NORMAL)
    return alone
