"""What a manifest holds, in numbers: images, patients and groups by place and class, sizes of images and lesions."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ultrarefiner_monai.data.manifests.folds import size_bins
from ultrarefiner_monai.data.manifests.items import Item
from ultrarefiner_monai.data.manifests.manifest import Manifest
from ultrarefiner_monai.texts import lines_of

SIZES = ("small", "middle", "large")  # the thirds of `folds.size_bins`
QUANTILES = (0, 5, 25, 50, 75, 95, 100)  # per cent of the lesions: the extremes, the usual box and its whiskers
ALL = "all"


@dataclass(frozen=True)
class Place:
    """Counts of a fold, of the test set, of the normals or of everything.

    `sizes` counts small, middle and large lesions: thirds, by their share of the image, of the lesions of one class and
    data set, as the folds were balanced by. `normals` are the images without lesions that share the fold, or that are
    held out with the test set; they are no part of `images` there. `patients` counts the known ones: an item without a
    known patient bears its group's name there.
    """

    name: str
    images: int
    patients: int
    groups: int
    classes: dict[str, int]
    sizes: dict[str, int]
    normals: int


@dataclass(frozen=True)
class Part:
    """One data set of a manifest, or all of it.

    `width` and `height` hold min, median and max of the masks' grids in pixels; `stretched` counts images whose file
    has another size than that. `lesion_share` holds, by class, the quantiles (by per cent) of the lesion's share of the
    image in per cent, of the lesions whose area the manifest tells.
    """

    name: str
    places: tuple[Place, ...]
    width: dict[str, float]
    height: dict[str, float]
    stretched: int
    lesion_share: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Summary:
    """A manifest in numbers; `parts` are the whole and, of a combined data set, each of its data sets."""

    name: str
    sha256: str
    num_folds: int
    seed: int
    header: dict[str, Any]
    parts: tuple[Part, ...]
    excluded: tuple[dict[str, str], ...]
    warnings: tuple[str, ...]


def summarise(manifest: Manifest) -> Summary:
    """Count what a manifest holds; no file is opened."""
    names = sorted({dataset_of(item, manifest) for item in manifest.items()})
    sizes = _sizes(manifest)
    parts = [_part(manifest, names, manifest.name, sizes)]
    if len(names) > 1:
        parts += [_part(manifest, [name], name, sizes) for name in names]
    told = ("description", "reference", "licence", "split", "test_fraction", "grouping")
    return Summary(
        name=manifest.name,
        sha256=manifest.sha256,
        num_folds=manifest.num_folds,
        seed=manifest.seed,
        header={key: manifest.header[key] for key in told if key in manifest.header},
        parts=tuple(parts),
        excluded=tuple(manifest.excluded),
        warnings=tuple(manifest.header.get("warnings", ())),
    )


def document(summary: Summary) -> dict[str, Any]:
    """The summary as a JSON document."""
    return asdict(summary)


def table(summary: Summary) -> str:
    """The summary for a terminal."""
    lines = [f"{summary.name}: {summary.header.get('description', '')}".rstrip(": ")]
    lines += [f"{key}: {summary.header[key]}" for key in ("reference", "licence") if key in summary.header]
    split = ", ".join(f"{key} {summary.header[key]}" for key in ("split", "test_fraction") if key in summary.header)
    lines.append(f"{summary.num_folds} folds, seed {summary.seed}{split and ', '}{split}")
    lines.append(f"sha256 {summary.sha256}")
    for part in summary.parts:
        lines += ["", *([part.name] if len(summary.parts) > 1 else []), *_part_lines(part)]
    lines += [""] if summary.excluded or summary.warnings else []
    lines += [f"excluded {item['id']}: {item['reason']}" for item in summary.excluded]
    lines += [f"warning: {warning}" for warning in summary.warnings]
    return lines_of(lines)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table: the first column to the left, the others to the right, two spaces between them."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]).rstrip()
        for row in rows
    ]


def dataset_of(item: Item, manifest: Manifest) -> str:
    """Data set an item belongs to; items of a combined manifest say so themselves."""
    return item.get("dataset", manifest.name)


def shares_by_class(lesions: Iterable[Item]) -> dict[str, list[float]]:
    """Lesions' shares of their images in per cent, by class in alphabetical order."""
    shares: dict[str, list[float]] = {}
    for item in lesions:
        if share := _lesion_share(item):
            shares.setdefault(item["class"], []).append(100 * share)
    return dict(sorted(shares.items()))


def places(manifest: Manifest) -> dict[str, tuple[list[Item], list[Item]]]:
    """Images with lesions and normals of every fold and of the test set; normals of no fold are held out with it."""
    found = {
        f"fold {fold}": (
            [item for item in manifest.training if item["fold"] == fold],
            [item for item in manifest.normal if item.get("fold") == fold],
        )
        for fold in range(manifest.num_folds)
    }
    return found | {"test": (manifest.testing, [item for item in manifest.normal if "fold" not in item])}


def _lesion_share(item: Item) -> float:
    """The lesion's share of the mask's pixels; 0 where the manifest does not tell the lesion's area."""
    return item.get("lesion_pixels", 0) / (item["width"] * item["height"] * item.get("depth", 1))


def _sizes(manifest: Manifest) -> dict[str, str]:
    """Size of each lesion by the item's id: thirds of each class and data set."""
    kinds: dict[tuple[str, str], dict[str, float]] = {}
    for item in (*manifest.training, *manifest.testing):
        if share := _lesion_share(item):
            kinds.setdefault((dataset_of(item, manifest), item["class"]), {})[item["id"]] = share
    return {name: SIZES[third] for shares in kinds.values() for name, third in size_bins(shares).items()}


def _part(manifest: Manifest, names: Sequence[str], title: str, sizes: Mapping[str, str]) -> Part:
    def chosen(items: Iterable[Item]) -> list[Item]:
        return [item for item in items if dataset_of(item, manifest) in names]

    by_place = {name: (chosen(lesions), chosen(normals)) for name, (lesions, normals) in places(manifest).items()}
    items = chosen(manifest.items())
    rows = [_place(name, lesions, len(normals), sizes) for name, (lesions, normals) in by_place.items()]
    rows.append(_place("normal", chosen(manifest.normal), 0, sizes))
    rows.append(_place(ALL, items, 0, sizes))
    return Part(
        name=title,
        places=tuple(rows),
        width=_range(item["width"] for item in items),
        height=_range(item["height"] for item in items),
        stretched=sum("image_size" in item for item in items),
        lesion_share=_quantiles(chosen([*manifest.training, *manifest.testing])),
    )


def _place(name: str, items: Sequence[Item], normals: int, sizes: Mapping[str, str]) -> Place:
    classes = Counter(item["class"] for item in items)
    thirds = Counter(sizes[item["id"]] for item in items if item["id"] in sizes)
    return Place(
        name=name,
        images=len(items),
        patients=len({item["patient"] for item in items if item["patient"] != item["group"]}),
        groups=len({item["group"] for item in items}),
        classes=dict(sorted(classes.items())),
        sizes={size: thirds[size] for size in SIZES},
        normals=normals,
    )


def _range(values: Iterable[int]) -> dict[str, float]:
    numbers = list(values)
    if not numbers:
        return {}
    return {"min": min(numbers), "median": float(np.median(numbers)), "max": max(numbers)}


def _quantiles(lesions: Sequence[Item]) -> dict[str, dict[str, float]]:
    """Quantiles of the lesions' shares in per cent, by class and of all."""
    by_class = shares_by_class(lesions)
    groups = by_class | {ALL: [share for shares in by_class.values() for share in shares]}
    return {
        name: {str(q): float(value) for q, value in zip(QUANTILES, np.percentile(shares, QUANTILES), strict=True)}
        for name, shares in groups.items()
        if shares
    }


def _part_lines(part: Part) -> list[str]:
    classes = sorted({label for place in part.places for label in place.classes})
    head = ["", "images", "patients", "groups", *classes, *SIZES, "+ normals"]
    rows = [head]
    for place in part.places:
        counts = [place.images, place.patients or "-", place.groups, *(place.classes.get(name, 0) for name in classes)]
        counts += [*place.sizes.values(), place.normals or ""]
        rows.append([place.name, *map(str, counts)])
    lines = aligned(rows)
    if part.width:
        sizes = [["pixels", *part.width]]
        sizes += [[name, *(f"{value:g}" for value in getattr(part, name).values())] for name in ("width", "height")]
        lines += ["", *aligned(sizes)]
    if part.stretched:
        lines.append(f"{part.stretched} images are stretched onto their mask's size")
    if part.lesion_share:
        shares = [["lesion in % of the image", "min", *(f"{q} %" for q in QUANTILES[1:-1]), "max"]]
        shares += [[name, *(f"{value:.1f}" for value in row.values())] for name, row in part.lesion_share.items()]
        lines += ["", *aligned(shares)]
    return lines
