"""Pictures of single cases: image, coarse, refined, truth and the map of errors, in colours that everybody can tell apart."""

import math
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from PIL import Image, ImageDraw
from skimage.measure import find_contours

from ultrarefiner_monai.colours import COARSE, OF_CASES, REFINED, TRUTH, error_regions
from ultrarefiner_monai.cross_validation.scores import THRESHOLD
from ultrarefiner_monai.data.images import read_grey
from ultrarefiner_monai.data.releases.roots import Root, resolve
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.handlers.comparison import Row
from ultrarefiner_monai.reports.plots import uri
from ultrarefiner_monai.reports.study_scores import Scores
from ultrarefiner_monai.reports.tables import place_of

EACH = 2  # cases of each kind
WIDTH = 400  # pixels of a tile, which is shown 200 wide: sharp on a screen of double density
GREYS = 48  # speckle does not compress; few greys keep a tile under 60 kB and leave its colours exact
COLOURS = tuple(OF_CASES.values())
LINE = 3  # pixels of a tile
Case = dict[str, Any]


def cases(scores: Scores, root: Root, phase: str) -> list[Case]:
    """Best, median and worst images of a phase, by the last stage's Dice and by its change.

    Returns:
        Groups: `title` and `cases`, each with the image's `row`, `place` and `tiles` (`title`, `picture` as data URI);
        images that cannot be read have no tiles.
    """
    rows = [row for row in scores.rows if row["phase"] == phase]
    refined = bool(rows) and "refined_dice" in rows[0]
    keys: dict[str, Callable[[Row], float]] = {f"{'Refined' if refined else 'Coarse'} Dice": _last_dice}
    if refined:
        keys["Change of Dice"] = lambda row: row["refined_dice"] - row["coarse_dice"]
    return [
        {"title": f"{name}: {word}", "cases": [_case(row, scores, root) for row in chosen]}
        for name, key in keys.items()
        for word, chosen in _picked(rows, key).items()
    ]


def tiles(image: np.ndarray, masks: Sequence[np.ndarray], truth: np.ndarray) -> list[Case]:
    """The tiles of one image.

    Args:
        image: (H, W) grey in [0, 1].
        masks: (H, W) bool, coarse and, where there is one, refined; errors are those of the last.
        truth: (H, W) bool.
    """
    named = [("coarse", masks[0], COARSE), *(("refined", mask, REFINED) for mask in masks[1:]), ("truth", truth, TRUTH)]
    drawn = [("image", _grey(image)), *((name, _outlined(image, mask, colour)) for name, mask, colour in named)]
    drawn.append((f"errors of {named[-2][0]}", _errors(image, masks[-1], truth)))
    return [{"title": title, "picture": _png(picture)} for title, picture in drawn]


def _picked(rows: Sequence[Row], key: Callable[[Row], float]) -> dict[str, list[Row]]:
    """Images with the highest, middle and lowest values; one is never in two groups."""
    ranked = sorted((row for row in rows if math.isfinite(key(row))), key=key, reverse=True)
    count = min(EACH, len(ranked) // 3) or min(1, len(ranked))
    middle = (len(ranked) - count) // 2
    groups = {"highest": ranked[:count], "median": ranked[middle : middle + count], "lowest": ranked[::-1][:count]}
    return groups if len(ranked) >= len(groups) else {"highest": ranked[:count]} if ranked else {}


def _case(row: Row, scores: Scores, root: Root) -> Case:
    prediction = scores.predictions[row["phase"], row["id"]]
    item = prediction.item
    try:
        maps, truth = prediction.read(root)
        image = read_grey(resolve(root, item["image"]), size=(item["width"], item["height"]))
        drawn = tiles(image, list((maps >= THRESHOLD).numpy()), truth[0].numpy())
    except DataError:
        drawn = []
    return {"row": row, "place": place_of(row), "tiles": drawn}


def _last_dice(row: Row) -> float:
    return float(row["refined_dice" if "refined_dice" in row else "coarse_dice"])


def _size(image: np.ndarray) -> tuple[int, int]:
    return WIDTH, max(1, round(WIDTH * image.shape[0] / image.shape[1]))


def _grey(image: np.ndarray) -> Image.Image:
    """A picture with a palette: the greys, then the colours."""
    grey = Image.fromarray(np.rint(255 * image).astype(np.uint8)).resize(_size(image), Image.Resampling.LANCZOS)
    levels = np.rint(np.asarray(grey) / 255 * (GREYS - 1)).astype(np.uint8)
    picture = Image.fromarray(levels).copy()
    picture.putpalette(PALETTE)
    return picture


def _outlined(image: np.ndarray, mask: np.ndarray, colour: str) -> Image.Image:
    """The image with the edge of a mask's pixels; the frame of zeros closes outlines at the border."""
    picture = _grey(image)
    draw = ImageDraw.Draw(picture)
    scale = WIDTH / image.shape[1]
    for contour in find_contours(np.pad(mask, 1).astype(float), 0.5):
        points = [((column - 0.5) * scale, (row - 0.5) * scale) for row, column in contour]
        draw.line(points, fill=_index(colour), width=LINE, joint="curve")
    return picture


def _errors(image: np.ndarray, mask: np.ndarray, truth: np.ndarray) -> Image.Image:
    levels = np.array(_grey(image))
    for region, colour in error_regions(mask, truth):
        scaled = Image.fromarray(region.astype(np.uint8)).resize(_size(image), Image.Resampling.NEAREST)
        levels[np.asarray(scaled) > 0] = _index(colour)
    picture = Image.fromarray(levels)
    picture.putpalette(PALETTE)
    return picture


def _index(colour: str) -> int:
    return GREYS + COLOURS.index(colour)


def _palette() -> list[int]:
    greys = np.linspace(0, 255, GREYS).repeat(3)
    return (
        np.rint(np.concatenate([greys, *(255 * np.array(to_rgb(colour)) for colour in COLOURS)])).astype(int).tolist()
    )


PALETTE = _palette()


def _png(picture: Image.Image) -> str:
    stream = BytesIO()
    picture.save(stream, "PNG", optimize=True)
    return uri("png", stream.getvalue())
