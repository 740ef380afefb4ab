"""Figures of what the networks did, for people who cannot tell red from green as well."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from PIL import Image

from ultrarefiner_monai.colours import FIRST, INSIDE, OUTSIDE, WHITE, error_regions, of_case
from ultrarefiner_monai.data.pixels import image_pixels
from ultrarefiner_monai.devices import is_main
from ultrarefiner_monai.files import atomic_write
from ultrarefiner_monai.masks import THRESHOLD, without_islands
from ultrarefiner_monai.metrics import overlap_metrics
from ultrarefiner_monai.metrics.classes import class_probability
from ultrarefiner_monai.texts import printable
from ultrarefiner_monai.tracking.tracker import Tracker
from ultrarefiner_monai.transforms.letterboxd import zoom_of

if TYPE_CHECKING:
    from ultrarefiner_monai.networks.prompts.lesions import LesionPrompts

LETTERS = 200  # of an id in the name of a file; file systems take 255
GREYS = 40  # grey speckle does not compress; few greys keep a panel under 300 kB and its colours exact
PANEL_INCHES, DPI = 2.6, 130
ROWS = 2  # a preview shows a figure at the width of its page: with half of the columns tiles are twice as large
TINT = 0.5  # share of the colour where the probability of a prompted mask is 1
# Inches of a figure for its title, for that of each row, for two lines of its legend, and beside each tile.
ABOVE, HEAD, BELOW, GAP = 0.18, 0.2, 0.44, 0.04


class SavePanels:
    """Draws the first images of a validation: prompts, the outlines of outputs and truth, and the last output's errors.

    Prompts are those that the evaluator's inferer has asked with, see `models.inferers.OutputsInferer`. The masks lie on the
    image at the file's own size, without letterbox. The title names the image and, where classes are told
    apart, the likeliest, its probability and the true one. The same images are drawn each time, so that epochs can be
    compared; rank 0 draws its own. One PNG an image in `output_dir/panels`, or with an interval in
    `output_dir/panels/epoch010` and the like.

    Args:
        output_dir: folder of the run.
        outputs: what the first channels of a prediction are; of more than three the first and the last two are drawn.
        count: how many images.
        tracker: stores the panels as artifacts of its run and shows them in TensorBoard, if given.
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
        for number, (batch, output) in enumerate(zip(state.batch, state.output, strict=True)):
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
            asked = _asked(engine, number, truth.shape, item)
            save_panel(path, image, masks, truth > 0, title, asked)
            if self.tracker is not None:
                self.tracker.log_image(path, folder, self._latest)

    def _told(self, lesion: np.ndarray, planes: np.ndarray, item: Mapping[Any, Any]) -> str:
        """The end of a title: the image's likeliest class, its probability and the true one; nothing where it has none."""
        if not self.classes or "organs" in item:
            return ""
        probability = class_probability(lesion, planes)
        best = int(probability.argmax())
        return f"  {self.classes[best]} {probability[best]:.2f}, truth: {item.get('class') or 'not known'}"


def _asked(engine: Engine, number: int, shape: tuple[int, int], item: Mapping[Any, Any]) -> "LesionPrompts | None":
    """The prompts for an image of the batch, in its own pixels; None of a network, or inferer, without."""
    inferer: Any = getattr(engine, "inferer", None)
    prompts = inferer.asked(number) if hasattr(inferer, "asked") else None
    return None if prompts is None else prompts.off_square(shape, item["image"].shape[-1], zoom_of(item["image"]))


def file_name(name: str) -> str:
    """Name of the panel of an image: the end of its id, with nothing but plain letters."""
    return f"{re.sub(r'[^0-9A-Za-z._-]+', '_', name)[-LETTERS:]}.png"


def save_panel(
    path: Path,
    image: np.ndarray,
    masks: Mapping[str, np.ndarray],
    truth: np.ndarray,
    title: str,
    prompts: "LesionPrompts | None" = None,
) -> None:
    """Write one figure of two rows: the image, prompts, all outlines in one, the outline of each output, and errors.

    Args:
        path: PNG file to write.
        image: (H, W) grey in [0, 1].
        masks: (H, W) bool of each output; errors are those of the last. Of more than three the first and the last two are
            drawn.
        truth: (H, W) bool.
        title: of the figure.
        prompts: what the network was asked with, in pixels of the image.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    names = list(masks) if len(masks) <= 3 else [*list(masks)[:1], *list(masks)[-2:]]
    colours = of_case(names)
    columns = math.ceil((len(names) + 3 + (prompts is not None)) / ROWS)
    height, width = image.shape
    tile = PANEL_INCHES * min(height / width, 2.0)
    size = (PANEL_INCHES * columns, ROWS * (tile + HEAD) + ABOVE + BELOW)
    figure = Figure(figsize=size, dpi=DPI)
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=8, parse_math=False, y=1 - GAP / size[1], va="top")
    edges = {"left": GAP / size[0], "right": 1 - GAP / size[0], "bottom": BELOW / size[1]}
    edges |= {"top": 1 - (ABOVE + HEAD) / size[1], "wspace": 2 * GAP / PANEL_INCHES, "hspace": HEAD / tile}
    axes = iter(figure.subplots(ROWS, columns, gridspec_kw=edges).flat)
    _show(next(axes), image, "image")
    handles = [
        Patch(facecolor=colour, edgecolor="black", linewidth=0.5, label=name) for name, colour in colours.items()
    ]
    if prompts is not None:
        handles += _prompts(_show(next(axes), image, "prompts" if len(prompts.image) else "no prompts"), prompts)
    together = _show(next(axes), image, f"{', '.join(names)} and truth")
    for name in names:
        dice = overlap_metrics(masks[name], truth)["dice"]
        said = "undefined (both blank)" if math.isnan(dice) else f"{dice:.3f}"
        for axis in (together, _show(next(axes), image, f"{name}  Dice {said}")):
            _outline(axis, masks[name], colours[name])
    _outline(together, truth, colours["truth"])
    _errors(_show(next(axes), image, f"errors of {names[-1]}"), masks[names[-1]], truth)
    for axis in axes:
        axis.set_axis_off()
    figure.legend(handles=handles, loc="lower center", ncols=2 * columns, fontsize=7, frameon=False)
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


def _prompts(axis: Any, prompts: "LesionPrompts") -> list[Any]:
    """Draw masks, boxes and points; handles of a legend for what was drawn."""
    from matplotlib.colors import to_rgb
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch, Rectangle

    handles: list[Any] = []
    edges: Any = {"facecolor": "none", "edgecolor": WHITE, "linewidth": 1}
    extent = axis.axis()
    if prompts.masks is not None and len(prompts.masks):
        mask = prompts.masks.amax(0)[0].numpy()
        axis.imshow(np.dstack([np.broadcast_to(to_rgb(FIRST), (*mask.shape, 3)), TINT * mask]), interpolation="nearest")
        handles.append(Patch(facecolor=FIRST, alpha=TINT, label="mask prompt"))
    if prompts.boxes is not None and len(prompts.boxes):
        for x1, y1, x2, y2 in prompts.boxes.tolist():  # the pixels that it touches
            axis.add_patch(Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1 + 1, y2 - y1 + 1, **edges))
        handles.append(Patch(facecolor="none", edgecolor="black", linewidth=1, label="box"))
    if prompts.points is not None and prompts.labels is not None:
        for label, name, marker, colour in ((1, "point inside", "P", INSIDE), (0, "point outside", "X", OUTSIDE)):
            points = prompts.points[prompts.labels == label].numpy()
            if len(points):
                style: Any = {"marker": marker, "color": colour, "markeredgecolor": WHITE, "markeredgewidth": 0.5}
                axis.plot(*points.T, linestyle="none", markersize=7, **style)
                handles.append(Line2D([], [], linestyle="none", label=name, **style))
    axis.axis(extent)  # a box may reach out of the image
    return handles


def _errors(axis: Any, mask: np.ndarray, truth: np.ndarray) -> None:
    from matplotlib.colors import to_rgba

    overlay = np.zeros((*mask.shape, 4))
    for region, colour in error_regions(mask, truth):
        overlay[region] = to_rgba(colour)
    axis.imshow(overlay, interpolation="nearest")


def _write_png(figure: Any, path: Path, colours: Sequence[str]) -> None:
    """Write the figure with a palette: greys, these tinted, the colours, and their mixtures with black and white for edges."""
    from matplotlib.colors import to_rgb

    figure.canvas.draw()
    greys = np.linspace(0, 1, GREYS).repeat(3).reshape(-1, 3)
    pure = np.array([to_rgb(colour) for colour in colours])
    tinted = (1 - TINT) * greys + TINT * np.array(to_rgb(FIRST))
    palette = Image.new("P", (1, 1))
    shown = np.concatenate([greys, tinted, pure, pure / 2, (pure + 1) / 2])
    palette.putpalette(np.rint(255 * shown).astype(int).ravel().tolist())
    pixels = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3])
    drawn = pixels.quantize(palette=palette, dither=Image.Dither.NONE)
    with atomic_write(path) as file:
        drawn.save(file, format="PNG", optimize=True)
