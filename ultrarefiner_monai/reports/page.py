"""The HTML page of a report: one file that loads nothing and runs no script."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, PackageLoader

from ultrarefiner_monai.colours import of_case
from ultrarefiner_monai.metrics.boundaries import NSD_TOLERANCE
from ultrarefiner_monai.metrics.scores import (
    CHANGE,
    LOWER_IS_BETTER,
    Row,
    outputs_of,
    told_class_columns,
    told_columns,
)
from ultrarefiner_monai.metrics.segmentation import DISTANCES
from ultrarefiner_monai.reports.cases import CaseGroup, told_class
from ultrarefiner_monai.reports.plots import Drawing, drawable, forest, learning_curve, reliability_diagram, scatter
from ultrarefiner_monai.reports.result_facts import Curve
from ultrarefiner_monai.reports.result_files import in_words, joined
from ultrarefiner_monai.reports.statistics import TOO_FEW, p_text
from ultrarefiner_monai.reports.tables import PLACES, metric_of, place_of
from ultrarefiner_monai.systems import System
from ultrarefiner_monai.texts import printable_value

TEMPLATE = "report.html"
REGION_NAMES = {"all": "all pixels", "lesion": "in and near lesions"}
UNDEFINED = "–"


def page(
    document: Mapping[str, Any], rows: Sequence[Row], cases: Sequence[CaseGroup], system: System, outputs: Sequence[str]
) -> str:
    """The page.

    Args:
        document: of `report.make_document`.
        rows: of all stages, for the scatter of Dice.
        cases: of `cases.cases`.
        system: whose stages were trained.
        outputs: of all its stages.
    """
    environment = Environment(
        loader=PackageLoader("ultrarefiner_monai.reports"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=printable_value,
    )
    environment.filters |= {"number": number, "interval": interval, "percent": percent, "label": label}
    environment.filters |= {"p": partial(p_text, undefined=UNDEFINED)}
    environment.filters |= {"joined": joined, "in_words": in_words, "columns": told_columns}
    environment.globals |= {"too_few": TOO_FEW}
    environment.filters |= {"class_columns": told_class_columns, "class_label": class_label, "told_class": told_class}
    last, curves = document["phases"][-1], document["curves"]
    of_last = [row for row in rows if row["phase"] == last]
    weights = {name: name.removeprefix("weight_") for name in _logged(curves) if name.startswith("weight_")}
    learned = Curves([], [])
    _draw(learned, curves, weights, "learned weight of each loss", "weight")
    return environment.get_template(TEMPLATE).render(
        **document,
        last=last,
        last_outputs=outputs_of(of_last[0]),
        outputs=outputs,
        stages=[stage.name for stage in system.stages],
        unfed=[stage.name for stage in system.stages if not stage.feeds],
        relations=relations(system),
        summary=[part for part in document["results"] if part["phase"] == last],
        metric_of=metric_of,
        cases=cases,
        case_colours=of_case(outputs),
        change=CHANGE,
        lower_is_better=LOWER_IS_BETTER,
        training=_training(curves),
        weighing=list(dict.fromkeys(curve["phase"] for curve in curves if curve["name"] in weights)),
        weighed=[f"the {name}" for name in weights.values()],
        weights=learned,
        calibrations=_calibrations(document["calibration"], last, outputs),
        scatters=_scatters(of_last),
        forests=_forests(document, last, outputs_of(of_last[0])),
    )


def number(value: Any, metric: str = "", signed: bool = False) -> str:
    """Four digits after the point, two for distances, which are pixels or millimetres; a dash where undefined."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return UNDEFINED
    return f"{value:{'+' if signed else ''}.{2 if metric.endswith(DISTANCES) else 4}f}".replace("-", "−")


def interval(estimate: Mapping[str, Any], metric: str = "", signed: bool = False) -> str:
    """Ends of an estimate's interval."""
    ends = [number(estimate[end], metric, signed) for end in ("low", "high")]
    return UNDEFINED if UNDEFINED in ends else " to ".join(ends)


def percent(value: Any, digits: int = 1) -> str:
    """A share in per cent."""
    if not isinstance(value, int | float) or math.isnan(value):
        return UNDEFINED
    return f"{100 * value:.{digits}f}\N{NO-BREAK SPACE}%"


def label(metric: str, unit: str = "px") -> str:
    """A metric's name for people."""
    names = {"dice": "Dice", "iou": "IoU", "hd95": f"HD95 ({unit})", "assd": f"ASSD ({unit})"}
    names |= {"nsd": f"NSD ({NSD_TOLERANCE:g} px)", "boundary_iou": "boundary IoU"}
    names |= {"lesion_sensitivity": "lesions found (share)", "false_lesions": "false findings per image", "auc": "AUC"}
    return names.get(metric, metric.replace("_", " "))


def class_label(score: str) -> str:
    """The name for people of a score of classes, or of a count of its images, without the output's name."""
    if score.startswith("n_"):
        return f"images with {class_label(score.removeprefix('n_'))}"
    return f"Dice of {score.removeprefix('dice_')}" if score.startswith("dice_") else label(score)


def relations(system: System) -> str:
    """What a reader of differences between stages must know: whose masks are those of another stage, whose network goes on."""
    said = []
    for stage in system.stages:
        for other in map(system.stage, dict.fromkeys(stage.feeds.values())):
            said.append(f"the {other.outputs[-1]} mask of {in_words([stage.name])} is that of {in_words([other.name])}")
        for other in map(system.stage, dict.fromkeys(stage.starts.values())):
            if not other.scored:
                said.append(f"{in_words([stage.name])} trains the {other.outputs[-1]} network on")
    text = "; ".join(said)
    return text and f"{text[0].upper()}{text[1:]}."


class Curves(NamedTuple):
    """What was logged: charts, and in words the values of what was logged once, of which there is nothing to draw."""

    charts: list[Drawing]
    values: list[str]


def _training(curves: Sequence[Curve]) -> Curves:
    """Loss and validation Dice of each stage."""
    found = Curves([], [])
    for stage in dict.fromkeys(curve["phase"] for curve in curves):
        of_stage = [curve for curve in curves if curve["phase"] == stage]
        outputs = outputs_of(name.removeprefix("val_") for name in _logged(of_stage))
        dice = {f"val_{name}_dice": name for name in outputs}
        for names, what in (({"train_loss": "loss"}, "training loss"), (dice, "validation Dice")):
            _draw(found, of_stage, names, f"{stage}: {what}", what)
    return found


def _draw(found: Curves, curves: Sequence[Curve], names: Mapping[str, str], title: str, label: str) -> None:
    """Add the curves of the `names`, see `learning_curve`, as a chart, or in words where each is a single point."""
    chosen = [curve for curve in curves if curve["name"] in names]
    if drawable(chosen):
        found.charts.append(Drawing(title, learning_curve(chosen, names, label)))
    elif chosen:
        said = [f"fold {one['fold']} {names[one['name']]} {number(one['values'][0])}" for one in chosen]
        found.values.append(f"{title}, logged once: {', '.join(said)}")


def _calibrations(calibration: Sequence[Mapping[str, Any]], stage: str, outputs: Sequence[str]) -> list[Drawing]:
    """A diagram a place and region; none of a single point each output."""
    drawn = []
    for part in calibration:
        known = [name for name in outputs if name in part]
        for key, region in REGION_NAMES.items():
            points = max((np.count_nonzero(part[name][key]["pixels"]) for name in known), default=0)
            if part["phase"] == stage and points > 1:
                drawn.append(Drawing(f"{part['place']}, {region}", reliability_diagram(part, known, key)))
    return drawn


def _scatters(rows: Sequence[Row]) -> list[Drawing]:
    outputs = outputs_of(rows[0])
    by_place = {place: [row for row in rows if place_of(row) == place] for place in PLACES}
    return [
        Drawing(f"{place}: {outputs[-1]} against {outputs[0]} Dice, one point an image", scatter(chosen))
        for place, chosen in by_place.items()
        if len(chosen) > 1 and len(outputs) > 1
    ]


def _forests(document: Mapping[str, Any], stage: str, outputs: Sequence[str]) -> list[Drawing]:
    """Change of Dice of all images and of each group, one chart a place."""
    drawn = []
    for part in document["results"]:
        lines = [("all images", metric_of(part, "dice"))]
        lines += [
            (group["name"], metric_of(group, "dice"))
            for group in document["subgroups"]
            if group["phase"] == stage and group["place"] == part["place"]
        ]
        known = [(name, line["delta"]) for name, line in lines if "delta" in line]
        if part["phase"] == stage and len(known) > 1:
            drawn.append(
                Drawing(f"{part['place']}: change of Dice", forest(known, f"{outputs[-1]} − {outputs[0]} Dice"))
            )
    return drawn


def _logged(curves: Sequence[Curve]) -> dict[str, None]:
    """The names of what was logged, in order."""
    return dict.fromkeys(curve["name"] for curve in curves)
