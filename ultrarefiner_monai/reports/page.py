"""The HTML page of a report: one file that loads nothing and runs no script."""

import math
from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader

from ultrarefiner_monai.colours import OF_CASES
from ultrarefiner_monai.handlers.comparison import Row
from ultrarefiner_monai.metrics.boundaries import NSD_TOLERANCE
from ultrarefiner_monai.metrics.scores import CHANGE, LOWER_IS_BETTER
from ultrarefiner_monai.metrics.segmentation import DISTANCES
from ultrarefiner_monai.reports.plots import forest, learning_curve, reliability_diagram, scatter
from ultrarefiner_monai.reports.tables import PLACES, metric_of

TEMPLATE = "report.html"
REGION_NAMES = {"all": "all pixels", "lesion": "in and near lesions"}
UNDEFINED = "–"

Chart = dict[str, str]  # title, alt, picture


def page(document: dict[str, Any], rows: Sequence[Row], cases: Sequence[dict[str, Any]]) -> str:
    """The page.

    Args:
        document: of `findings`.
        rows: of all phases, for the scatter of Dice.
        cases: of `cases.cases`.
    """
    environment = Environment(
        loader=PackageLoader("ultrarefiner_monai.reports"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": number, "interval": interval, "p": p_value, "percent": percent, "label": label}
    last = document["phases"][-1]
    return environment.get_template(TEMPLATE).render(
        **document,
        last=last,
        summary=[part for part in document["results"] if part["phase"] == last],
        metric_of=metric_of,
        cases=cases,
        case_colours=OF_CASES,
        change=CHANGE,
        lower_is_better=LOWER_IS_BETTER,
        training=_training(document["curves"]),
        weights=_weights(document["curves"]),
        calibrations=_reliability(document["calibration"], last),
        scatters=_scatters(rows, last),
        forests=_forests(document, last),
    )


def number(value: Any, metric: str = "", signed: bool = False) -> str:
    """Four digits after the point, two for distances, which are pixels or millimetres; a dash where undefined."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return UNDEFINED
    return f"{value:{'+' if signed else ''}.{2 if metric.endswith(DISTANCES) else 4}f}".replace("-", "−")


def interval(estimate: dict[str, Any], metric: str = "", signed: bool = False) -> str:
    """Ends of an estimate's interval."""
    ends = [number(estimate[end], metric, signed) for end in ("low", "high")]
    return UNDEFINED if UNDEFINED in ends else " to ".join(ends)


def p_value(value: Any) -> str:
    """A p-value as tables print it."""
    if not isinstance(value, int | float) or math.isnan(value):
        return UNDEFINED
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def percent(value: Any, digits: int = 1) -> str:
    """A share in per cent."""
    if not isinstance(value, int | float) or math.isnan(value):
        return UNDEFINED
    return f"{100 * value:.{digits}f}\N{NO-BREAK SPACE}%"


def label(metric: str, unit: str = "px") -> str:
    """A metric's name for people."""
    names = {"dice": "Dice", "iou": "IoU", "hd95": f"HD95 ({unit})", "assd": f"ASSD ({unit})"}
    names |= {"nsd": f"NSD ({NSD_TOLERANCE:g} px)", "boundary_iou": "boundary IoU"}
    names |= {"lesion_sensitivity": "lesions found (share)", "false_lesions": "false findings per image"}
    return names.get(metric, metric.replace("_", " "))


def _training(curves: Sequence[dict[str, Any]]) -> list[Chart]:
    charts = []
    for phase in dict.fromkeys(curve["phase"] for curve in curves):
        of_phase = [curve for curve in curves if curve["phase"] == phase]
        stages = [name for name in ("val_coarse_dice", "val_refined_dice") if _logged(of_phase, name)]
        for names, what in ((["train_loss"], "training loss"), (stages, "validation Dice")):
            if any(_logged(of_phase, name) for name in names):
                title = f"{phase}: {what}"
                charts.append(_chart(title, learning_curve(of_phase, names, what)))
    return charts


def _weights(curves: Sequence[dict[str, Any]]) -> list[Chart]:
    names = [name for name in ("weight_coarse", "weight_refined") if _logged(curves, name)]
    return [_chart("learned weight of each loss", learning_curve(curves, names, "weight"))] if names else []


def _reliability(calibration: Sequence[dict[str, Any]], phase: str) -> list[Chart]:
    return [
        _chart(f"{part['place']}, {REGION_NAMES[region]}", reliability_diagram(part, region))
        for part in calibration
        if part["phase"] == phase
        for region in REGION_NAMES
    ]


def _scatters(rows: Sequence[Row], phase: str) -> list[Chart]:
    charts = []
    for place in PLACES:
        chosen = [row for row in rows if row["phase"] == phase and (row["fold"] == "test") == (place == "test")]
        if chosen and "refined_dice" in chosen[0]:
            charts.append(_chart(f"{place}: refined against coarse Dice, one point an image", scatter(chosen)))
    return charts


def _forests(document: dict[str, Any], phase: str) -> list[Chart]:
    """Change of Dice of all images and of each group, one chart a place."""
    charts = []
    for part in document["results"]:
        lines = [("all images", metric_of(part, "dice"))]
        lines += [
            (group["name"], metric_of(group, "dice"))
            for group in document["subgroups"]
            if group["phase"] == phase and group["place"] == part["place"]
        ]
        known = [(name, line["delta"]) for name, line in lines if "delta" in line]
        if part["phase"] == phase and known:
            charts.append(_chart(f"{part['place']}: change of Dice", forest(known, "refined − coarse Dice")))
    return charts


def _logged(curves: Sequence[dict[str, Any]], name: str) -> bool:
    return any(curve["name"] == name for curve in curves)


def _chart(title: str, picture: str) -> Chart:
    return {"title": title, "picture": picture}
