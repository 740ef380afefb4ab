"""Conduct a study as one MLflow parent run, and sum it up when all its folds are done."""

import logging
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from ultrarefiner_monai.bundle.paths import BUNDLES, project_root
from ultrarefiner_monai.bundle.running import store_uri
from ultrarefiner_monai.bundle.study import Study
from ultrarefiner_monai.data.files import write_atomically
from ultrarefiner_monai.data.readers import find_root
from ultrarefiner_monai.handlers import Tracker
from ultrarefiner_monai.handlers.comparison import write_rows
from ultrarefiner_monai.reports.scores import markdown, study_rows, summary

logger = logging.getLogger(__name__)


def conduct(study: Study, phases: Sequence[str], only_folds: Sequence[int] | None = None) -> str | None:
    """Run ``phases`` of ``study`` and, once every fold is done, write and return its table.

    Writes ``per_image.csv`` and ``summary.md`` into the study's folder, and their numbers into the parent run.
    """
    study.check(phases, only_folds)
    tracker = Tracker(
        uri=store_uri(project_root(str(BUNDLES / phases[0])), study.shared.get("tracking_uri")),
        experiment=study.dataset,
        run_name=f"cv-{study.dataset}-{datetime.now():%Y%m%dT%H%M%S}",
        output_dir=study.out,
        params={"dataset": study.dataset, "manifest_sha256": study.manifest.sha256, **study.shared, **study.settings},
        tags={"kind": "cross-validation"},
        resume=True,
    )
    tracker.start()
    study.parent_run = tracker.run_id
    try:
        study.run(phases, only_folds)
        table = _sum_up(study, tracker) if study.is_complete() else None
    except BaseException:
        tracker.finish("FAILED")
        raise
    tracker.finish("FINISHED")
    return table


def _sum_up(study: Study, tracker: Tracker) -> str:
    root = study.data_root or str(project_root(str(BUNDLES / "phase1")) / "data" / study.dataset)
    rows = study_rows(study, find_root(study.dataset, root))
    lines = summary(rows)
    table = markdown(lines)
    write_rows(study.out / "per_image.csv", rows)
    write_atomically(study.out / "summary.md", (table + "\n").encode())
    for line in lines:
        if line["fold"] in ("mean", "sd", "test"):
            prefix = f"{line['phase']}_{line['fold']}"
            tracker.log_metrics(
                {f"{prefix}_{name}": value for name, value in line.items() if isinstance(value, float)}, step=0
            )
    for name in ("per_image.csv", "summary.md"):
        tracker.log_artifact(Path(study.out) / name)
    return table
