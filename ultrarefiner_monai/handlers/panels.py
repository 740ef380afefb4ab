"""Figures of what the networks did, for people who cannot tell red from green as well."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from PIL import Image

from ultrarefiner_monai.colours import error_regions, of_case
from ultrarefiner_monai.data.pixels import image_pixels
from ultrarefiner_monai.devices import is_main
from ultrarefiner_monai.files import atomic_write
from ultrarefiner_monai.masks import THRESHOLD, without_islands
from ultrarefiner_monai.metrics import overlap_metrics
from ultrarefiner_monai.metrics.classes import class_probability
from ultrarefiner_monai.texts import printable
from ultrarefiner_monai.tracking.tracker import Tracker

LETTERS = 200  # of an id in the name of a file; file systems take 255
GREYS = 40  # grey speckle does not compress; few greys keep a panel under 300 kB and its colours exact
PANEL_INCHES, DPI = 2.6, 130
ABOVE, BELOW, GAP = 0.38, 0.3, 0.04  # inches of a figure for its two titles, for its legend, and beside each tile


class SavePanels:
    """Draws the first images of a validation: image, the outline of each output, truth and the map of the last one's errors.

    The masks lie on the image at the file's own size, without letterbox. The title names the image and, where classes are told
    apart, the likeliest, its probability and the true one. The same images are drawn each time, so that epochs can be
    compared; rank 0 draws its own. One PNG an image in `output_dir/panels`, or with an interval in
    `output_dir/panels/epoch010` and the like.

    Args:
        output_dir: folder of the run.
        outputs: what the first channels of a prediction are; of more than three the first and the last two are drawn.
        count: how many images.
        tracker: stores the panels as artifacts of its run, if given.
        threshold: probability from which a pixel is lesion.
        interval: epochs from one set of panels to the next; the last epoch has one in any case. None draws always.
        epochs: number of the last epoch, where there is an interval.
        classes: names of the classes that are told apart, whose channels follow those of the outputs.
        islands: share of evidence below which a part of a mask is not drawn, see `masks.without_islands`.
    """

    def __init__(
        self,
        output_dir: str | Path,
        outputs: Sequence[str],
        count: int = 4,
        tracker: Tracker | None = None,
        threshold: float = THRESHOLD,
        interval: int | None = None,
        epochs: int | None = None,
        classes: Sequence[str] = (),
        islands: float = 0.0,
    ) -> None:
        self.folder = Path(output_dir)
        self.outputs = tuple(outputs)
        self.count = count
        self.tracker = tracker
        self.threshold = threshold
        self.interval = interval
        self.epochs = epochs
        self.classes = tuple(classes)
        self.islands = islands
        self._left = 0  # images still to draw
        self._latest = 0  # epoch of the latest set

    def attach(self, engine: Engine) -> None:
        """Follow an evaluator whose decollated output holds `pred` and `truth` and whose batch holds `image_path`."""
        engine.add_event_handler(Events.STARTED, self._reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._draw)

    def _reset(self, engine: Engine) -> None:
        epoch = engine.state.max_epochs or 0  # the trainer's: ValidationHandler runs one epoch of that number
        due = self.interval is None or epoch >= self._latest + self.interval or epoch == self.epochs
        self._left = self.count if due else 0
        self._latest = epoch if due else self._latest

    def _draw(self, engine: Engine) -> None:
        if not is_main():
            return
        state: Any = engine.state
        folder = "panels" if self.interval is None else f"panels/epoch{self._latest:03d}"
        for batch, output in zip(state.batch, state.output, strict=True):
            if self._left == 0:
                return
            self._left -= 1
            item = {**batch, **output}  # postprocessing adds its keys to either
            name = str(item["id"])
            pred, (truth,) = (torch.as_tensor(item[key]).detach().cpu().numpy() for key in ("pred", "truth"))
            channels = [*self.outputs, *self.classes]
            if len(pred) != len(channels):
                raise ValueError(f"{name}: expected channels {', '.join(channels)}, found {len(pred)}")
            maps, planes = np.split(pred, [len(self.outputs)])
            maps = without_islands(maps, self.islands, self.threshold)
            masks = dict(zip(self.outputs, maps >= self.threshold, strict=True))
            path = self.folder / folder / file_name(name)
            image = image_pixels(item["image_path"], {**item, "width": truth.shape[1], "height": truth.shape[0]})
            title = printable(f"{name}{self._told(maps[-1], planes, item)}")
            save_panel(path, image, masks, truth > 0, title)
            if self.tracker is not None:
                self.tracker.log_artifact(path, folder)

    def _told(self, lesion: np.ndarray, planes: np.ndarray, item: Mapping[Any, Any]) -> str:
        """The end of a title: the image's likeliest class, its probability and the true one; nothing where it has none."""
        if not self.classes or "organs" in item:
            return ""
        probability = class_probability(lesion, planes)
        best = int(probability.argmax())
        return f"  {self.classes[best]} {probability[best]:.2f}, truth: {item.get('class') or 'not known'}"


def file_name(name: str) -> str:
    """Name of the panel of an image: the end of its id, with nothing but plain letters."""
    return f"{re.sub(r'[^0-9A-Za-z._-]+', '_', name)[-LETTERS:]}.png"


def save_panel(path: Path, image: np.ndarray, masks: Mapping[str, np.ndarray], truth: np.ndarray, title: str) -> None:
    """Write one figure.

    Args:
        path: PNG file to write.
        image: (H, W) grey in [0, 1].
        masks: (H, W) bool of each output; errors are those of the last. Of more than three the first and the last two are
            drawn.
        truth: (H, W) bool.
        title: of the figure.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    names = list(masks) if len(masks) <= 3 else [*list(masks)[:1], *list(masks)[-2:]]
    colours = of_case(names)
    columns = len(names) + 3
    height, width = image.shape
    tile = PANEL_INCHES * min(height / width, 2.0)
    size = (PANEL_INCHES * columns, tile + ABOVE + BELOW)
    figure = Figure(figsize=size, dpi=DPI)
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=8, parse_math=False, y=1 - GAP / size[1], va="top")
    edges = {"left": GAP / size[0], "right": 1 - GAP / size[0], "bottom": BELOW / size[1], "top": 1 - ABOVE / size[1]}
    axes = iter(figure.subplots(1, columns, gridspec_kw={**edges, "wspace": 2 * GAP / PANEL_INCHES}))
    _show(next(axes), image, "image")
    for name in names:
        dice = overlap_metrics(masks[name], truth)["dice"]
        said = "undefined (both blank)" if math.isnan(dice) else f"{dice:.3f}"
        _outline(_show(next(axes), image, f"{name}  Dice {said}"), masks[name], colours[name])
    _outline(_show(next(axes), image, "truth"), truth, colours["truth"])
    _errors(_show(next(axes), image, f"errors of {names[-1]}"), masks[names[-1]], truth)
    handles = [
        Patch(facecolor=colour, edgecolor="black", linewidth=0.5, label=name) for name, colour in colours.items()
    ]
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), fontsize=7, frameon=False)
    _write_png(figure, path, list(colours.values()))


def _show(axis: Any, image: np.ndarray, title: str) -> Any:
    axis.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="antialiased")
    axis.set_title(title, fontsize=8)
    axis.set_axis_off()
    return axis


def _outline(axis: Any, mask: np.ndarray, colour: str) -> None:
    """Follow the pixels' edge; the frame of zeros closes outlines at the border of the image."""
    if mask.any():
        framed = np.pad(mask.astype(float), 1)
        rows, columns = np.arange(-1, mask.shape[0] + 1), np.arange(-1, mask.shape[1] + 1)
        axis.contour(columns, rows, framed, levels=[0.5], colors=[colour], linewidths=1.3)


def _errors(axis: Any, mask: np.ndarray, truth: np.ndarray) -> None:
    from matplotlib.colors import to_rgba

    overlay = np.zeros((*mask.shape, 4))
    for region, colour in error_regions(mask, truth):
        overlay[region] = to_rgba(colour)
    axis.imshow(overlay, interpolation="nearest")


def _write_png(figure: Any, path: Path, colours: Sequence[str]) -> None:
    """Write the figure with a palette: greys, the colours, and their mixtures with black and white for smooth edges."""
    from matplotlib.colors import to_rgb

    figure.canvas.draw()
    greys = np.linspace(0, 1, GREYS).repeat(3).reshape(-1, 3)
    pure = np.array([to_rgb(colour) for colour in colours])
    palette = Image.new("P", (1, 1))
    palette.putpalette(
        np.rint(255 * np.concatenate([greys, pure, pure / 2, (pure + 1) / 2])).astype(int).ravel().tolist()
    )
    pixels = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3])
    drawn = pixels.quantize(palette=palette, dither=Image.Dither.NONE)
    with atomic_write(path) as file:
        drawn.save(file, format="PNG", optimize=True)
