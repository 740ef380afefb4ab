"""Scoring trained models on a split, and the summary of it in one JSON file."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Events
from monai.engines import SupervisedEvaluator
from torch import nn

from ultrarefiner_monai import __version__
from ultrarefiner_monai.bundle.preflight import Plan
from ultrarefiner_monai.bundle.preflight.classes import describe_others
from ultrarefiner_monai.bundle.preflight.data import write_excluded
from ultrarefiner_monai.bundle.preflight.provenance import EXTERNAL, describe_overlap, overlap_with_training
from ultrarefiner_monai.bundle.run_facts import SUMMARY, run_facts
from ultrarefiner_monai.bundle.starting_weights import load_trained
from ultrarefiner_monai.devices import is_main
from ultrarefiner_monai.errors import DataError, one_line_errors
from ultrarefiner_monai.files import file_sha256, finite, json_or_empty, write_json
from ultrarefiner_monai.handlers import RunReport
from ultrarefiner_monai.handlers.failure import log_in_one_line, was_stopped
from ultrarefiner_monai.handlers.run_guard import exit_codes
from ultrarefiner_monai.metrics.scores_file import PER_IMAGE, read_rows
from ultrarefiner_monai.systems.classes import CLASSES
from ultrarefiner_monai.tracking import Tracker

logger = logging.getLogger(__name__)


@one_line_errors
def evaluate(plan: Plan, network: nn.Module, tracker: Tracker, evaluator: SupervisedEvaluator) -> dict[str, float]:
    """Score the trained model, or the cascade, on the plan's split; returns the metrics and tracks them as `<split>_<metric>`.

    Writes `metrics.json` into the tracker's folder beside what the evaluator's handlers write there.

    Raises:
        SystemExit: a model is missing, damaged, or was trained on something else than the plan says; or another's scores are
            there.
    """
    load_trained(plan, network)
    split = str(plan.request.split)
    images = len(evaluator.data_loader.dataset)  # type: ignore[union-attr, arg-type]
    facts = evaluation_facts(plan, split, images)
    others = describe_others(plan.classes, plan.items(split)) if plan.labels == CLASSES else ""
    refuse_scores(tracker.output_dir, facts, plan.request.overwrite)
    log_in_one_line(evaluator)
    RunReport(tracker.output_dir, facts, lambda: {"metrics": finite(evaluator.state.metrics)}).attach(evaluator)
    evaluator.add_event_handler(Events.STARTED, lambda _: _warn(facts, others))
    tracker.start()
    try:
        with exit_codes("start the evaluation again"):
            write_excluded(plan.excluded, tracker.output_dir)
            evaluator.run()
            if is_main():
                rows = read_rows(tracker.output_dir / PER_IMAGE)
                write_summary(tracker.output_dir / SUMMARY, facts, evaluator.state.metrics, rows)
    except BaseException as error:
        tracker.finish("KILLED" if was_stopped(error) else "FAILED")
        raise
    tracker.log_metrics({f"{split}_{name}": value for name, value in evaluator.state.metrics.items()}, step=0)
    tracker.finish("FINISHED")
    return dict(evaluator.state.metrics)


def evaluation_facts(plan: Plan, split: str, images: int) -> dict[str, Any]:
    """What `run.json` and `metrics.json` say of the evaluation of `split`, which has so many `images`."""
    facts = {
        **run_facts(plan),
        "split": split,
        "evaluated_on": {"dataset": plan.dataset, "manifest_sha256": plan.manifest.sha256, "images": images},
        "models": {stage: file_sha256(path) for stage, path in plan.models.items()},
    }
    if split == EXTERNAL:
        facts["overlap"] = overlap_with_training(
            plan.trained_on, plan.manifest.split(EXTERNAL, 0), plan.request.manifests
        )
    return facts


def refuse_scores(folder: Path, facts: Mapping[str, Any], overwrite: bool) -> None:
    """Refuse to replace the scores of other models, or of other data, in `folder` unless that is asked for.

    Raises:
        DataError: there are some.
    """
    earlier = json_or_empty(folder / SUMMARY, dict)
    differing = [key for key in ("models", "evaluated_on") if earlier and earlier.get(key) != facts[key]]
    if differing and not overwrite:
        what = "models" if "models" in differing else "data"
        raise DataError(f"{folder}: holds the scores of other {what}; --overwrite true replaces them")


def write_summary(
    path: Path, facts: Mapping[str, Any], metrics: Mapping[str, float], rows: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Write `facts`, `metrics` and the scores of each image, `per_image`, as one JSON file.

    Each metric gets its `value` (null: undefined) and the `n` it is the mean of.
    """
    images = facts["evaluated_on"]["images"]
    summary = {
        name: {"value": value, "n": count_of(name, metrics, images)}
        for name, value in finite(metrics).items()
        if not name.endswith("_undefined") and not name.startswith("n_") and name != "lesions"
    }
    content = {
        **facts,
        "version": __version__,
        "lesions": metrics.get("lesions"),
        "metrics": summary,
        "per_image": finite(rows),
    }
    write_json(path, content)


def count_of(name: str, metrics: Mapping[str, float], images: int) -> int:
    """How many images (for the sensitivity: lesions) the metric `name` is taken from."""
    if name.endswith("lesion_sensitivity"):
        return int(metrics["lesions"])
    if name in ("worse_share", "better_share"):
        name = "delta_dice"
    counts = [count for count in metrics if count.startswith("n_") and name.endswith(count[1:])]
    return int(metrics[max(counts, key=len)]) if counts else images  # n_boundary_iou, not n_iou


def _warn(facts: Mapping[str, Any], others: str) -> None:
    """Tell of images that the model may know, and (`others`) of those of other classes; called when the report listens."""
    if others:
        logger.warning("%s", others)
    if "overlap" in facts and (line := describe_overlap(facts["overlap"], facts["evaluated_on"]["images"])):
        logger.warning("%s", line)
