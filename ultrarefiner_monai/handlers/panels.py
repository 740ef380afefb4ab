"""Pictures of what the networks did, for people who cannot tell red from green as well."""

import math
import re
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events

from ultrarefiner_monai.colours import COARSE, OF_CASES, REFINED, TRUTH, error_regions
from ultrarefiner_monai.devices import is_main
from ultrarefiner_monai.files import atomic_write
from ultrarefiner_monai.metrics import overlap_metrics
from ultrarefiner_monai.metrics.scores import STAGES
from ultrarefiner_monai.tracking.tracker import Tracker

GREYS = 40  # grey speckle does not compress; few greys keep a panel under 300 kB and its colours exact
PANEL_INCHES, DPI = 2.6, 130


class SavePanels:
    """Draws the first images of a validation: image, coarse, refined, truth and the map of errors.

    The masks lie on the image at the file's own size, without letterbox. The same images are drawn each time, so that
    epochs can be compared; rank 0 draws its own. One PNG an image in `output_dir/panels`, or with an interval in
    `output_dir/panels/epoch010` and the like.

    Args:
        output_dir: folder of the run.
        count: how many images.
        tracker: stores the panels as artifacts of its run, if given.
        threshold: probability from which a pixel is lesion.
        interval: epochs from one set of panels to the next; the last epoch has one in any case. None draws always.
        epochs: number of the last epoch, where there is an interval.
    """

    def __init__(
        self,
        output_dir: str | Path,
        count: int = 4,
        tracker: Tracker | None = None,
        threshold: float = 0.5,
        interval: int | None = None,
        epochs: int | None = None,
    ) -> None:
        self.folder = Path(output_dir)
        self.count = count
        self.tracker = tracker
        self.threshold = threshold
        self.interval = interval
        self.epochs = epochs
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

    @property
    def _place(self) -> str:
        return "panels" if self.interval is None else f"panels/epoch{self._latest:03d}"

    def _draw(self, engine: Engine) -> None:
        if not is_main():
            return
        state: Any = engine.state
        for batch, output in zip(state.batch, state.output, strict=True):
            if self._left == 0:
                return
            item = {**batch, **output}  # postprocessing adds its keys to either
            self._left -= 1
            path = self.folder / self._place / f"{re.sub(r'[^0-9A-Za-z._-]+', '_', str(item['id']))}.png"
            masks = _numpy(item["pred"]) >= self.threshold
            save_panel(path, _read_image(item), list(masks), _numpy(item["truth"])[0] > 0, title=str(item["id"]))
            if self.tracker is not None:
                self.tracker.log_artifact(path, self._place)


def save_panel(path: Path, image: np.ndarray, masks: Sequence[np.ndarray], truth: np.ndarray, title: str) -> None:
    """Write one figure.

    Args:
        path: PNG file to write.
        image: (H, W) grey in [0, 1].
        masks: (H, W) bool, the coarse mask and, where there is one, the refined mask; errors are those of the last.
        truth: (H, W) bool.
        title: the image's name.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    named = [("coarse", masks[0], COARSE), *(("refined", mask, REFINED) for mask in masks[1:2])]
    columns = len(named) + 3
    height, width = image.shape
    size = (PANEL_INCHES * columns, PANEL_INCHES * min(height / width, 2.0) + 0.75)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=8)
    axes = iter(figure.subplots(1, columns))
    _show(next(axes), image, "image")
    for name, mask, colour in named:
        _outline(_show(next(axes), image, f"{name}  Dice {_dice(mask, truth)}"), mask, colour)
    _outline(_show(next(axes), image, "truth"), truth, TRUTH)
    _errors(_show(next(axes), image, f"errors of {named[-1][0]}"), named[-1][1], truth)
    _legend(figure, [name for name, _, _ in named])
    _write_png(figure, path)


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


def _legend(figure: Any, stages: Sequence[str]) -> None:
    from matplotlib.patches import Patch

    names = {name: colour for name, colour in OF_CASES.items() if name not in STAGES or name in stages}
    handles = [Patch(facecolor=colour, edgecolor="black", linewidth=0.5, label=name) for name, colour in names.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=7, frameon=False)


def _write_png(figure: Any, path: Path) -> None:
    from PIL import Image

    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    palette = Image.new("P", (1, 1))
    palette.putpalette(_palette())
    picture = Image.open(buffer).convert("RGB").quantize(palette=palette, dither=Image.Dither.NONE)
    with atomic_write(path) as file:
        picture.save(file, format="PNG", optimize=True)


def _palette() -> list[int]:
    """Flat RGB: the greys, the six colours, and each colour's mixtures with black and white for smooth edges."""
    from matplotlib.colors import to_rgb

    greys = np.linspace(0, 1, GREYS).repeat(3).reshape(-1, 3)
    pure = np.array([to_rgb(colour) for colour in OF_CASES.values()])
    mixed = [pure, pure / 2, (pure + 1) / 2]
    return np.rint(255 * np.concatenate([greys, *mixed])).astype(int).ravel().tolist()


def _dice(mask: np.ndarray, truth: np.ndarray) -> str:
    dice = overlap_metrics(mask, truth)["dice"]
    return "undefined (both blank)" if math.isnan(dice) else f"{dice:.3f}"


def _read_image(item: Any) -> np.ndarray:
    from ultrarefiner_monai.data.images import read_grey

    height, width = item["truth"].shape[-2:]
    return read_grey(item["image_path"], size=(int(width), int(height)))


def _numpy(value: Any) -> np.ndarray:
    return torch.as_tensor(value).detach().cpu().numpy()
