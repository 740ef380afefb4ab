"""Charts of a report as SVG, one a panel, so that a phone can show them one below the other."""

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from ultrarefiner_monai.colours import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY_BLUE, VERMILLION
from ultrarefiner_monai.metrics.scores import CHANGE, Row, outputs_of
from ultrarefiner_monai.reports.result_facts import Curve

GUIDE = "#777777"
LIMIT = 1.05 * CHANGE
FOLDS = (BLUE, ORANGE, GREEN, PURPLE, VERMILLION, SKY_BLUE, BLACK)
CLASSES = {"benign": (BLUE, "o"), "malignant": (ORANGE, "^"), "other": (GUIDE, "x")}
# Of outputs by their position: on white the sky blue of outlines is too pale; they also differ by their marker and line.
FIRST, LAST = (ORANGE, "o", "--"), (BLUE, "s", "-")
BETWEEN = ((GREEN, "^", "-."), (PURPLE, "D", ":"))
INCHES = (4.4, 3.2)
LEAST_RANGE = 5 * CHANGE  # of an axis of curves: noise, which does not count, takes a fifth of it at most
STYLE: Any = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "report"}


class Drawing(NamedTuple):
    """A figure of the page: its title, and itself as data URI, which loads nothing."""

    title: str
    uri: str


def data_uri(kind: str, content: bytes) -> str:
    """A file of type `image/<kind>` as data URI."""
    return f"data:image/{kind};base64,{b64encode(content).decode()}"


def styles(outputs: Sequence[str]) -> dict[str, tuple[str, str, Any]]:
    """Colour, marker and line of each output."""
    between = {output: BETWEEN[i % len(BETWEEN)] for i, output in enumerate(outputs[1:-1])}
    return {output: between.get(output, LAST) for output in outputs} | {outputs[0]: FIRST}


def drawable(curves: Sequence[Curve]) -> bool:
    """Whether there is a line to draw, and not single points alone."""
    return any(len(curve["steps"]) > 1 for curve in curves)


def learning_curve(curves: Sequence[Curve], names: Mapping[str, str], label: str) -> str:
    """One line a fold and name over epochs, on an axis of `LEAST_RANGE` at least.

    Args:
        curves: of several runs.
        names: what is drawn, and the output that it is of; dashed and dotted lines tell several outputs apart.
        label: of the values.
    """

    def draw(axes: Axes) -> None:
        drawn = [curve for curve in curves if curve["name"] in names]
        lines: dict[str, Any] = {
            output: line if len(names) > 1 else "-" for output, (_, _, line) in styles([*names.values()]).items()
        }
        for curve in drawn:
            style: dict[str, Any] = {"linestyle": lines[names[curve["name"]]], "marker": "o", "markersize": 3}
            axes.plot(curve["steps"], curve["values"], color=FOLDS[curve["fold"] % len(FOLDS)], linewidth=1.3, **style)
        folds = sorted({curve["fold"] for curve in drawn})
        handles = [Line2D([], [], color=FOLDS[fold % len(FOLDS)], label=f"fold {fold}") for fold in folds]
        if len(names) > 1:
            handles += [Line2D([], [], color=GUIDE, linestyle=line, label=name) for name, line in lines.items()]
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set(xlabel="epoch", ylabel=label)
        low, high = axes.get_ylim()
        missing = max(0, LEAST_RANGE - (high - low)) / 2
        axes.set_ylim(low - missing, high + missing)
        axes.figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8, frameon=False)

    return _svg(draw)


def reliability_diagram(calibration: Mapping[str, Any], outputs: Sequence[str], region: str) -> str:
    """Share of lesion pixels against probability for each output, with the share of pixels of each bin below."""
    figure = Figure(figsize=(INCHES[0], 1.15 * INCHES[1]), layout="constrained")
    with matplotlib.rc_context(STYLE):
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        upper.plot([0, 1], [0, 1], color=GUIDE, linewidth=1, linestyle=":", label="perfect")
        for output, (colour, marker, line) in styles(outputs).items():
            bins = calibration[output][region]
            known = [i for i, pixels in enumerate(bins["pixels"]) if pixels]
            points = [[bins[name][i] for i in known] for name in ("confidence", "accuracy")]
            label = f"{output}, ECE {bins['ece']:.4f}" if known else f"{output}, no pixels"
            upper.plot(*points, color=colour, marker=marker, markersize=4, linestyle=line, linewidth=1.3, label=label)
            edges = np.array(calibration["edges"])
            lower.stairs(np.maximum(bins["pixels"], 0), edges, color=colour, linestyle=line, linewidth=1.3)
        upper.set(ylabel="share of lesion pixels", xlim=(0, 1), ylim=(0, 1))
        upper.legend(fontsize=8, frameon=False, loc="upper left")
        lower.set(xlabel="probability", ylabel="pixels")
        if any(any(calibration[output][region]["pixels"]) for output in outputs):
            lower.set_yscale("log")
        return _encoded(figure)


def scatter(rows: Sequence[Row]) -> str:
    """Dice of the last output against that of the first, one point an image."""
    first, *_, last = outputs_of(rows[0])

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=GUIDE, linewidth=1, linestyle=":")
        for name, (colour, marker) in CLASSES.items():
            chosen = [row for row in rows if (row["class"] if row["class"] in CLASSES else "other") == name]
            if chosen:
                x, y = ([row[f"{output}_dice"] for row in chosen] for output in (first, last))
                axes.scatter(x, y, s=12, alpha=0.6, color=colour, marker=marker, linewidths=0.8, label=name)
        axes.set(xlabel=f"{first} Dice", ylabel=f"{last} Dice", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.set_aspect("equal")
        axes.legend(fontsize=8, frameon=False, loc="upper left")

    return _svg(draw, (INCHES[0], INCHES[0]))


def forest(lines: Sequence[tuple[str, dict[str, Any]]], label: str) -> str:
    """Estimates with their intervals, one a line from the top; their names on the left.

    The axis shows all changes that do not count, too (`CHANGE` either way).
    """

    def draw(axes: Axes) -> None:
        axes.axvline(0, color=GUIDE, linewidth=1, linestyle=":")
        for height, (_, estimate) in enumerate(reversed(lines)):
            low, high = estimate["low"], estimate["high"]
            axes.plot([low, high], [height, height], color=BLUE, linewidth=1.6, solid_capstyle="butt")
            axes.plot(estimate["value"], height, marker="s", markersize=5, color=BLUE)
        names = [f"{name} (n = {estimate['images']})" for name, estimate in reversed(lines)]
        axes.set_yticks(range(len(lines)), names)
        left, right = axes.get_xlim()
        axes.set(xlabel=label, ylim=(-0.7, len(lines) - 0.3), xlim=(min(left, -LIMIT), max(right, LIMIT)))
        axes.xaxis.set_major_locator(MaxNLocator(5))

    return _svg(draw, (1.15 * INCHES[0], 0.9 + 0.26 * len(lines)))


def _svg(draw: Callable[[Axes], None], inches: tuple[float, float] = INCHES) -> str:
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
    return data_uri("svg+xml", stream.getvalue())
