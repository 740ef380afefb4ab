"""Charts of a report as SVG, one a panel, so that a phone can show them one below the other."""

from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from ultrarefiner_monai.colours import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY_BLUE, VERMILLION
from ultrarefiner_monai.handlers.comparison import Row

FOLDS = (BLUE, ORANGE, GREEN, PURPLE, VERMILLION, SKY_BLUE, BLACK)
GUIDE = "#777777"
# On white the sky blue of outlines is too pale; the stages also differ by their marker and line.
STYLES = {"coarse": (ORANGE, "o", "--"), "refined": (BLUE, "s", "-")}
INCHES = (4.4, 3.2)
STYLE: Any = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "report"}


def uri(kind: str, content: bytes) -> str:
    """A picture as data URI, which loads nothing."""
    return f"data:image/{kind};base64,{b64encode(content).decode()}"


def learning_curve(curves: Sequence[dict[str, Any]], names: Sequence[str], label: str) -> str:
    """One line a fold and name over epochs: dashed for coarse, solid otherwise."""

    def draw(axes: Axes) -> None:
        drawn = [curve for curve in curves if curve["name"] in names]
        for curve in drawn:
            line = "--" if "coarse" in curve["name"] and len(names) > 1 else "-"
            style: dict[str, Any] = {"linestyle": line, "marker": "o", "markersize": 3, "linewidth": 1.3}
            axes.plot(curve["steps"], curve["values"], color=FOLDS[curve["fold"] % len(FOLDS)], **style)
        folds = sorted({curve["fold"] for curve in drawn})
        handles = [Line2D([], [], color=FOLDS[fold % len(FOLDS)], label=f"fold {fold}") for fold in folds]
        if len(names) > 1:
            lines: dict[str, Any] = {"coarse": "--", "refined": "-"}
            handles += [Line2D([], [], color=GUIDE, linestyle=line, label=name) for name, line in lines.items()]
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set(xlabel="epoch", ylabel=label)
        axes.figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8, frameon=False)

    return _svg(draw)


def reliability_diagram(calibration: dict[str, Any], region: str) -> str:
    """Share of lesion pixels against probability for each stage, with the share of pixels of each bin below."""
    figure = Figure(figsize=(INCHES[0], 1.15 * INCHES[1]), layout="constrained")
    with matplotlib.rc_context(STYLE):
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        upper.plot([0, 1], [0, 1], color=GUIDE, linewidth=1, linestyle=":", label="perfect")
        edges = np.array(calibration["edges"])
        for stage, (colour, marker, line) in STYLES.items():
            if stage not in calibration:
                continue
            bins = calibration[stage][region]
            known = [i for i, pixels in enumerate(bins["pixels"]) if pixels]
            points = [[bins[name][i] for i in known] for name in ("confidence", "accuracy")]
            label = f"{stage}, ECE {bins['ece']:.4f}" if known else f"{stage}, no pixels"
            upper.plot(*points, color=colour, marker=marker, markersize=4, linestyle=line, linewidth=1.3, label=label)
            lower.stairs(np.maximum(bins["pixels"], 0), edges, color=colour, linestyle=line, linewidth=1.3)
        upper.set(ylabel="share of lesion pixels", xlim=(0, 1), ylim=(0, 1))
        upper.legend(fontsize=8, frameon=False, loc="upper left")
        lower.set(xlabel="probability", ylabel="pixels")
        if any(any(calibration[stage][region]["pixels"]) for stage in STYLES if stage in calibration):
            lower.set_yscale("log")
        return _encoded(figure)


def scatter(rows: Sequence[Row]) -> str:
    """Refined against coarse Dice, one point an image."""

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=GUIDE, linewidth=1, linestyle=":")
        for name, colour, marker in (("benign", BLUE, "o"), ("malignant", ORANGE, "^"), ("other", GUIDE, "x")):
            chosen = [row for row in rows if _class(row) == name]
            if chosen:
                coarse, refined = ([row[f"{stage}_dice"] for row in chosen] for stage in ("coarse", "refined"))
                axes.scatter(coarse, refined, s=12, alpha=0.6, color=colour, marker=marker, linewidths=0.8, label=name)
        axes.set(xlabel="coarse Dice", ylabel="refined Dice", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.set_aspect("equal")
        axes.legend(fontsize=8, frameon=False, loc="upper left")

    return _svg(draw, (INCHES[0], INCHES[0]))


def forest(lines: Sequence[tuple[str, dict[str, Any]]], label: str) -> str:
    """Estimates with their intervals, one a line from the top; their names on the left."""

    def draw(axes: Axes) -> None:
        axes.axvline(0, color=GUIDE, linewidth=1, linestyle=":")
        for height, (_, estimate) in enumerate(reversed(lines)):
            low, high = estimate["low"], estimate["high"]
            axes.plot([low, high], [height, height], color=BLUE, linewidth=1.6, solid_capstyle="butt")
            axes.plot(estimate["value"], height, marker="s", markersize=5, color=BLUE)
        names = [f"{name} (n = {estimate['images']})" for name, estimate in reversed(lines)]
        axes.set_yticks(range(len(lines)), names)
        axes.set(xlabel=label, ylim=(-0.7, len(lines) - 0.3))
        axes.xaxis.set_major_locator(MaxNLocator(5))

    return _svg(draw, (1.15 * INCHES[0], 0.9 + 0.26 * len(lines)))


def _class(row: Row) -> str:
    return row["class"] if row["class"] in ("benign", "malignant") else "other"


def _svg(draw: Any, inches: tuple[float, float] = INCHES) -> str:
    """A chart of one pair of axes as data URI."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=inches, layout="constrained")
        axes = figure.add_subplot()
        axes.grid(alpha=0.25)
        draw(axes)
        return _encoded(figure)


def _encoded(figure: Figure) -> str:
    stream = BytesIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return uri("svg+xml", stream.getvalue())
