"""Figures of single cases: image, outlines, and the map of errors, in colours that everybody can tell apart."""

import math
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from typing import NamedTuple

import numpy as np
from matplotlib.colors import to_rgb
from PIL import Image, ImageDraw
from skimage.measure import find_contours

from ultrarefiner_monai.colours import error_regions, of_case
from ultrarefiner_monai.data.pixels import image_pixels
from ultrarefiner_monai.data.releases.roots import Root, resolve
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.masks import THRESHOLD, without_islands
from ultrarefiner_monai.metrics.classes import FOUND, PROBABILITY, classes_of
from ultrarefiner_monai.metrics.scores import Row, outputs_of
from ultrarefiner_monai.reports.plots import Drawing, data_uri
from ultrarefiner_monai.reports.result_scores import Scores
from ultrarefiner_monai.reports.tables import place_of

EACH = 2  # cases of each kind
WIDTH = 400  # pixels of a tile, which is shown 200 wide: sharp on a screen of double density
GREYS = 48  # speckle does not compress; few greys keep a tile under 60 kB and leave its colours exact
LINE = 3  # pixels of a tile


class Case(NamedTuple):
    """An image with its scores; no `tiles` where its files cannot be read."""

    row: Row
    place: str
    tiles: list[Drawing]


class CaseGroup(NamedTuple):
    """Cases that were chosen for the same reason."""

    title: str
    cases: list[Case]


def cases(scores: Scores, root: Root, stage: str, outputs: Sequence[str]) -> list[CaseGroup]:
    """Best, median and worst images of a stage, by the last output's Dice and by its change; wrong classes.

    Args:
        scores: with predictions.
        root: where the images lie.
        stage: whose cases.
        outputs: of all stages; an output has the same colour in each.
    """
    colours = of_case(outputs)
    rows = [row for row in scores.rows if row["phase"] == stage]
    first, last = outputs_of(rows[0])[0], outputs_of(rows[0])[-1]
    keys: dict[str, Callable[[Row], float]] = {f"{last.capitalize()} Dice": lambda row: row[f"{last}_dice"]}
    if first != last:
        keys["Change of Dice"] = lambda row: row[f"{last}_dice"] - row[f"{first}_dice"]
    groups = {f"{name}: {word}": chosen for name, key in keys.items() for word, chosen in _picked(rows, key).items()}
    if wrong := _surest_mistakes(rows):
        groups["Class: wrong, and the surest of it"] = wrong
    return [CaseGroup(title, [_case(row, scores, root, colours) for row in chosen]) for title, chosen in groups.items()]


def told_class(row: Row) -> tuple[str, float] | None:
    """The class that was found in an image and its probability; None where none are told apart."""
    output, _ = classes_of(row)
    return (row[f"{output}{FOUND}"], row[f"{output}{PROBABILITY}{row[f'{output}{FOUND}']}"]) if output else None


def tiles(
    image: np.ndarray, masks: Mapping[str, np.ndarray], truth: np.ndarray, colours: Mapping[str, str]
) -> list[Drawing]:
    """The tiles of one image.

    Args:
        image: (H, W) grey in [0, 1].
        masks: (H, W) bool of each output; errors are those of the last.
        truth: (H, W) bool.
        colours: of `colours.of_case`; the palette of all tiles.
    """
    last = list(masks)[-1]
    codes = {colour: GREYS + number for number, colour in enumerate(colours.values())}
    drawn = {"image": _levels(image)}
    outlines = {**masks, "truth": truth}
    drawn |= {name: _outlined(image, {codes[colours[name]]: mask}) for name, mask in outlines.items()}
    drawn["all outlines"] = _outlined(image, {codes[colours[name]]: mask for name, mask in outlines.items()})
    drawn[f"errors of {last}"] = _errors(image, masks[last], truth, codes)
    return [Drawing(title, _png(levels, colours)) for title, levels in drawn.items()]


def _picked(rows: Sequence[Row], key: Callable[[Row], float]) -> dict[str, list[Row]]:
    """Images with the highest, middle and lowest values; one is never in two groups."""
    ranked = sorted((row for row in rows if math.isfinite(key(row))), key=key, reverse=True)
    count = min(EACH, len(ranked) // 3) or min(1, len(ranked))
    middle = (len(ranked) - count) // 2
    groups = {"highest": ranked[:count], "median": ranked[middle : middle + count], "lowest": ranked[::-1][:count]}
    return groups if len(ranked) >= len(groups) else {"highest": ranked[:count]} if ranked else {}


def _surest_mistakes(rows: Sequence[Row]) -> list[Row]:
    """Images with another class than was found, the most probable first."""
    found = [(told, row) for row in rows if (told := told_class(row)) and told[0] != row["class"]]
    return [row for _, row in sorted(found, key=lambda one: -one[0][1])[:EACH]]


def _case(row: Row, scores: Scores, root: Root, colours: Mapping[str, str]) -> Case:
    prediction = scores.predictions[row["phase"], row["id"]]
    item = prediction.item
    try:
        maps, truth = prediction.read(root)
        image = image_pixels(resolve(root, item["image"]), item)
    except DataError:
        return Case(row, place_of(row), [])
    outputs = without_islands(maps[: len(prediction.files)].numpy(), prediction.islands) >= THRESHOLD
    masks = dict(zip(prediction.files, outputs, strict=True))
    return Case(row, place_of(row), tiles(image, masks, truth[0].numpy(), colours))


def _size(image: np.ndarray) -> tuple[int, int]:
    return WIDTH, max(1, round(WIDTH * image.shape[0] / image.shape[1]))


def _levels(image: np.ndarray) -> np.ndarray:
    """The image at a tile's size as numbers of greys."""
    grey = Image.fromarray(np.rint(255 * image).astype(np.uint8)).resize(_size(image), Image.Resampling.LANCZOS)
    return np.rint(np.asarray(grey) / 255 * (GREYS - 1)).astype(np.uint8)


def _outlined(image: np.ndarray, masks: Mapping[int, np.ndarray]) -> np.ndarray:
    """The image with the edges of masks' pixels, each by its number of a colour; frames of zeros close them at the border."""
    drawn = Image.fromarray(_levels(image))
    draw = ImageDraw.Draw(drawn)
    scale = WIDTH / image.shape[1]
    for code, mask in masks.items():
        for contour in find_contours(np.pad(mask, 1).astype(float), 0.5):
            points = [((column - 0.5) * scale, (row - 0.5) * scale) for row, column in contour]
            draw.line(points, fill=code, width=LINE, joint="curve")
    return np.asarray(drawn)


def _errors(image: np.ndarray, mask: np.ndarray, truth: np.ndarray, codes: Mapping[str, int]) -> np.ndarray:
    levels = _levels(image)
    for region, colour in error_regions(mask, truth):
        scaled = Image.fromarray(region.astype(np.uint8)).resize(_size(image), Image.Resampling.NEAREST)
        levels[np.asarray(scaled) > 0] = codes[colour]
    return levels


def _png(levels: np.ndarray, colours: Mapping[str, str]) -> str:
    """A tile as data URI: numbers of a palette of the greys, then the colours."""
    greys = np.linspace(0, 255, GREYS).repeat(3)
    pure = [255 * np.array(to_rgb(colour)) for colour in colours.values()]
    tile, stream = Image.fromarray(levels), BytesIO()
    tile.putpalette(np.rint(np.concatenate([greys, *pure])).astype(int).tolist())
    tile.save(stream, "PNG", optimize=True)
    return data_uri("png", stream.getvalue())
