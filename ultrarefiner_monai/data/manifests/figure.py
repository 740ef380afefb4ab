"""One page of charts about a manifest: image sizes, lesion areas and positions, counts by fold and class."""

from collections import Counter
from io import BytesIO
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.legend import Legend
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from PIL import Image

from ultrarefiner_monai.colours import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY_BLUE, VERMILLION, YELLOW
from ultrarefiner_monai.data.images import read_mask
from ultrarefiner_monai.data.manifests.items import Item, masks_of
from ultrarefiner_monai.data.manifests.manifest import Manifest
from ultrarefiner_monai.data.manifests.summary import dataset_of, places, shares_by_class, summarise
from ultrarefiner_monai.data.releases.roots import Root, resolve
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.files import write_output
from ultrarefiner_monai.parallel import in_parallel

# Told apart by their lightness in grey print too. Classes and data sets share none, so that blue is benign in every panel.
LIGHT_GREY, GREY = "#E4E4E4", "#999999"
CLASS_COLOURS = {"benign": BLUE, "malignant": ORANGE, "normal": LIGHT_GREY}
OTHER_CLASS = SKY_BLUE
DATASET_COLOURS = (GREEN, PURPLE, BLACK, GREY, YELLOW)
STRETCHED = VERMILLION
LINES = {"benign": "-", "malignant": "--"}
POSITION_SIDE = 64  # points a side of the position map: finer than the spread of lesions, small enough to hold them all
SIZE_INCHES, DPI = (10.0, 9.0), 150  # 1500 x 1350 pixels; on an A4 page, 17 cm wide, letters of 9 points become 6
DISC = 20.0  # area of one image's disc in square points; n images take sqrt(n) of it, or a uniform data set is a blot
AREA_BINS = 24
BAR: dict[str, Any] = {"edgecolor": "#333333", "linewidth": 0.6}
LEAST_LABELLED = 0.04  # of the highest bar: a lower segment has no room for its number
MARGIN = 0.08  # inches around a panel
ABSENT, UNREADABLE = "absent", "unreadable"


def manifest_figure(manifest: Manifest, root: Root | None = None) -> Figure:
    """Draw a manifest; its masks are read from `root`, in parallel, for the map of positions.

    Masks that are absent from a partial release or unreadable are left out and counted in the panel's title.
    """
    figure = Figure(figsize=SIZE_INCHES, dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=MARGIN, h_pad=MARGIN))
    everything = summarise(manifest).parts[0].places[-1]
    patients = f"{everything.patients} patients" if everything.patients else "patients unknown"
    counts = f"{everything.images} images, {patients}, {everything.groups} groups"
    split = f"{manifest.num_folds} folds, seed {manifest.seed}, manifest {manifest.sha256[:12]}"
    figure.suptitle(f"{manifest.name}: {counts}\n{split}", fontsize=12)
    panels = figure.subplots(2, 2)
    _draw_sizes(panels[0, 0], manifest)
    _draw_areas(panels[0, 1], manifest)
    _draw_positions(panels[1, 0], manifest, root)
    _draw_counts(panels[1, 1], manifest)
    return figure


def save_figure(manifest: Manifest, root: Root | None, path: str | Path) -> Path:
    """Write the figure of a manifest as PNG, atomically.

    Raises `DataError` where `path` is no PNG file's or cannot be written to.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise DataError(f"figure {path}: expected a name that ends in .png, found {path.suffix or 'no ending'}")
    stream = BytesIO()
    manifest_figure(manifest, root).savefig(stream, format="png")
    write_output("figure", path, stream.getvalue())
    return path


def _draw_sizes(axes: Axes, manifest: Manifest) -> None:
    """One disc a size, its area by the number of images, so that equal sizes do not hide each other."""
    names = sorted({dataset_of(item, manifest) for item in manifest.items()})
    for name, colour in zip(names, cycle(DATASET_COLOURS)):
        items = [item for item in manifest.items() if dataset_of(item, manifest) == name]
        _discs(axes, Counter((item["width"], item["height"]) for item in items), name, color=colour, alpha=0.55)
    stretched = Counter(tuple(item["image_size"]) for item in manifest.items() if "image_size" in item)
    if stretched:
        _discs(axes, stretched, "file before stretching", facecolor="none", edgecolor=STRETCHED)
    axes.set(title="(a) Image sizes (larger disc: more images)", xlabel="width (pixels)", ylabel="height (pixels)")
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.1)
    axes.grid(alpha=0.3)
    handles: list[Any] = _legend(axes, columns=1).legend_handles
    for handle in handles:
        handle.set_sizes([2 * DISC])


def _discs(axes: Axes, sizes: Counter[Any], name: str, **style: Any) -> None:
    widths, heights = zip(*sizes, strict=True)
    label = f"{name}: {sizes.total()} images, different sizes: {len(sizes)}"
    axes.scatter(widths, heights, [DISC * count**0.5 for count in sizes.values()], label=label, linewidths=0.8, **style)


def _draw_areas(axes: Axes, manifest: Manifest) -> None:
    by_class = shares_by_class([*manifest.training, *manifest.testing])
    axes.set(title="(b) Lesion area", xlabel="lesion's share of the image (%)", ylabel="images")
    axes.grid(alpha=0.3)
    if not by_class:
        _says(axes, "the manifest tells no lesion area")
        return
    every = [share for shares in by_class.values() for share in shares]
    edges = np.geomspace(min(every), max(max(every), 1.01 * min(every)), AREA_BINS + 1).tolist()
    for label, shares in by_class.items():
        middle = median(shares)
        name = f"{label}: {len(shares)} images, median {middle:.1f} % (upright line)"
        style: dict[str, Any] = {"color": _colour(label), "linestyle": LINES.get(label, ":")}
        axes.hist(shares, edges, histtype="stepfilled", alpha=0.25, color=_colour(label))
        axes.hist(shares, edges, histtype="step", linewidth=1.6, label=name, **style)
        axes.axvline(middle, linewidth=1, **style)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(axes, columns=1)


def _draw_positions(axes: Axes, manifest: Manifest, root: Root | None) -> None:
    """Share of the lesions that cover each point of the image, in per cent, all images stretched to one shape."""
    axes.set(
        title="(c) Lesion position", xlabel="from the left (% of the width)", ylabel="from the top (% of the height)"
    )
    if root is None:
        _says(axes, "masks were not read:\nno release folder was named")
        return
    lesions = [*manifest.training, *manifest.testing]
    outcomes = in_parallel(lambda item: _small_mask(item, root), lesions, progress="masks")
    masks = [outcome for outcome in outcomes if not isinstance(outcome, str)]
    counts = Counter(outcome for outcome in outcomes if isinstance(outcome, str))
    left_out = "".join(f", {count} {fault}" for fault, count in sorted(counts.items()))
    axes.set_title(f"(c) Lesion position: mean of {len(masks)} masks{left_out}")
    if not masks:
        _says(axes, "no mask of the manifest is there")
        return
    cover = 100 * np.mean(masks, axis=0)
    aspect = median(item["height"] for item in lesions) / median(item["width"] for item in lesions)
    image = axes.imshow(cover, cmap="cividis", vmin=0, extent=(0, 100, 100, 0), aspect=aspect)
    axes.figure.colorbar(image, cax=axes.inset_axes((1.03, 0, 0.04, 1)), label="lesions that cover the point (%)")


def _small_mask(item: Item, root: Root) -> np.ndarray | str:
    """Cover (64, 64) in [0, 1] of the item's lesion, or why there is none."""
    try:
        paths = [resolve(root, path) for path in masks_of(item)]
        if not all(path.is_file() for path in paths):
            return ABSENT
        mask = read_mask(paths)
    except DataError:
        return UNREADABLE
    side = (POSITION_SIDE, POSITION_SIDE)
    return np.asarray(Image.fromarray(mask.astype(np.float32)).resize(side, Image.Resampling.BOX))


def _draw_counts(axes: Axes, manifest: Manifest) -> None:
    """Bars by place, the normals that share it on top of the lesions."""
    by_place = {place: [*lesions, *normals] for place, (lesions, normals) in places(manifest).items()}
    counts = {place: Counter(item["class"] for item in items) for place, items in by_place.items()}
    below = np.zeros(len(counts))
    for label in sorted(set().union(*counts.values()), key=lambda label: (label == "normal", label)):
        heights = np.array([count[label] for count in counts.values()])
        bars = axes.bar(list(counts), heights, bottom=below, label=label, color=_colour(label), **BAR)
        numbers = [str(n) if n >= LEAST_LABELLED * max(map(Counter.total, counts.values())) else "" for n in heights]
        axes.bar_label(bars, numbers, label_type="center", fontsize=8, color="white" if label == "benign" else "black")
        below += heights
    axes.set(title="(d) Images by fold and class", ylabel="images")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(axes, columns=3)


def _legend(axes: Axes, columns: int) -> Legend:
    """Below the axes, where it hides nothing."""
    handles, labels = axes.get_legend_handles_labels()  # named, since none at all would be a warning
    style: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.13), "frameon": False}
    return axes.legend(handles, labels, fontsize=9, ncols=columns, **style)


def _colour(label: str) -> str:
    return CLASS_COLOURS.get(label, OTHER_CLASS)


def _says(axes: Axes, text: str) -> None:
    """Tell why an empty panel is empty."""
    axes.set(xticks=[], yticks=[], xlabel="", ylabel="")
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, fontsize=10)
