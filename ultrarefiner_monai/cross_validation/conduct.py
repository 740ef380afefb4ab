"""Conduct cross-validations as one MLflow parent run each, and sum each up when all its folds are done."""

import logging
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from ultrarefiner_monai.cross_validation.engines import Engine, LocalEngine
from ultrarefiner_monai.cross_validation.needs import check_needs, check_space
from ultrarefiner_monai.cross_validation.ray_engine import RayEngine
from ultrarefiner_monai.cross_validation.scores import markdown, score, summary
from ultrarefiner_monai.cross_validation.tasks import CrossValidation
from ultrarefiner_monai.cross_validation.terminal import short_table
from ultrarefiner_monai.data.releases.readers import find_root
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.files import write_atomically
from ultrarefiner_monai.handlers.failure import was_stopped
from ultrarefiner_monai.metrics.cases import PER_CASE
from ultrarefiner_monai.metrics.scores_file import PER_IMAGE, write_rows
from ultrarefiner_monai.shipped import project_root
from ultrarefiner_monai.tracking import Tracker
from ultrarefiner_monai.tracking.store import store_uri

logger = logging.getLogger(__name__)

PROJECT = project_root()


def conduct(
    cvs: Sequence[CrossValidation],
    stages: Sequence[str] | None = None,
    only_folds: Sequence[int] | None = None,
    engine: Engine | None = None,
) -> list[list[dict[str, Any]] | None]:
    """Do `stages` of all `cvs`, and write the table of each that has every fold done by then.

    Writes `per_image.csv`, of volumes `per_case.csv`, and `summary.md` into a cross-validation's folder, and the summary's
    numbers into its parent run: as `<stage>_<metric>_mean` and `_sd` those over folds, as `_test` those of the test set.

    Args:
        cvs: one a data set.
        stages: stages to do; None is all.
        only_folds: see `tasks`.
        engine: does the tasks of all cross-validations; None is this process.

    Returns:
        The summary of each cross-validation (`scores.summary`), None where folds are left to do.

    Raises:
        DataError: a cross-validation cannot run, told before anything is written; or some tasks
            could not be done, told after all others.
    """
    for cv in cvs:
        cv.check(stages, only_folds)
    check_space({cv.out: check_needs(cv, stages or cv.stages, only_folds) for cv in cvs})
    for cv in cvs:
        logger.info("%s on %s: %s", cv.system.title, cv.dataset, ", ".join(stages or cv.stages))
        logger.info("what each training logs: %s/STAGE/foldK/run.log", cv.out)
    parents = [_start_parent(cv) for cv in cvs]
    tasks = [cv.tasks(stages, only_folds) for cv in cvs]
    try:
        mistakes = (engine or LocalEngine()).run([task for own in tasks for task in own])
        failed = [any(task.name in mistakes for task in own) for own in tasks]
        summaries = [_conclude(*one) for one in zip(cvs, parents, failed, strict=True)]
    except BaseException as error:
        for parent in parents:
            parent.finish("KILLED" if was_stopped(error) else "FAILED")
        raise
    if mistakes:
        reasons = "; ".join(dict.fromkeys(mistakes.values()))
        raise DataError(f"{len(mistakes)} tasks are not done, the same command goes on with them: {reasons}")
    return summaries


def _start_parent(cv: CrossValidation) -> Tracker:
    tracker = Tracker(
        uri=store_uri(cv.shared.get("tracking_uri")),
        experiment=cv.dataset,
        run_name=f"cv-{cv.dataset}-{datetime.now():%Y%m%dT%H%M%S}",
        output_dir=cv.out,
        params={"dataset": cv.dataset, "manifest_sha256": cv.manifest.sha256, **cv.shared, **cv.settings},
        tags={"kind": "cross-validation"},
        resume=True,
    )
    tracker.start()
    cv.parent_run = tracker.run_id
    return tracker


def _conclude(cv: CrossValidation, parent: Tracker, failed: bool) -> list[dict[str, Any]] | None:
    lines = _sum_up(cv, parent) if cv.is_complete() else None
    parent.finish("FAILED" if failed else "FINISHED")
    return lines


def _sum_up(cv: CrossValidation, tracker: Tracker) -> list[dict[str, Any]]:
    root = cv.data_root or str(PROJECT / "data" / cv.dataset)
    rows, cases = score(cv, find_root(cv.dataset, root))
    lines = summary(rows)
    write_rows(cv.out / PER_IMAGE, rows)
    if cases:
        write_rows(cv.out / PER_CASE, cases)
        tracker.log_artifact(cv.out / PER_CASE)
    write_atomically(cv.out / "summary.md", (markdown(lines) + "\n").encode())
    for line in lines:
        if line["fold"] in ("mean", "sd", "test"):
            numbers = {name: value for name, value in line.items() if isinstance(value, float) or name.startswith("n_")}
            tracker.log_metrics(
                {f"{line['phase']}_{name}_{line['fold']}": value for name, value in numbers.items()}, step=0
            )
    tracker.describe(f"{cv.system.title}, {cv.num_folds} folds\n\n```\n{short_table(lines)}\n```\n")
    for name in (PER_IMAGE, "summary.md"):
        tracker.log_artifact(Path(cv.out) / name)
    return lines


def make_engine(name: str, **options: Any) -> Engine:
    """The engine "local" or "ray"; `options` that are None are left to their defaults.

    Raises:
        DataError: an unknown name, or options of the other engine.
    """
    given = {key: value for key, value in options.items() if value is not None}
    if name == "ray":
        return RayEngine(**given)
    if name != "local":
        raise DataError(f"engine '{name}': expected local or ray")
    if given:
        raise DataError(f"{', '.join(given)}: only for the engine 'ray'")
    return LocalEngine()
