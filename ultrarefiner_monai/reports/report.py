"""`ultrarefiner report`: everything that a cross-validation has shown, as one page, one document or one table."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from ultrarefiner_monai import __version__
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.files import json_text, write_output
from ultrarefiner_monai.metrics.scores import Row, outputs_of, reliability_diagrams
from ultrarefiner_monai.metrics.scores_file import PER_IMAGE, read_rows
from ultrarefiner_monai.reports.class_tables import class_table
from ultrarefiner_monai.reports.result_checks import warnings_of
from ultrarefiner_monai.reports.result_facts import curves, facts
from ultrarefiner_monai.reports.result_files import ResultFiles, read_results
from ultrarefiner_monai.reports.result_scores import Scores, score_results
from ultrarefiner_monai.reports.statistics import METHOD, correct, mean_by_patient, signed_rank
from ultrarefiner_monai.reports.tables import PLACES, fold_table, groups, output_table, size_cuts, worse_table
from ultrarefiner_monai.texts import csv_text

FORMATS = ("html", "json", "csv")
SCHEMA = "ultrarefiner_monai/report/1"
NORMAL = "normal"  # folder of a run with the scores of images without a lesion

Document = dict[str, Any]


def report(
    folder: str | Path,
    out: str | Path | None = None,
    format: str = "html",
    data_root: str | None = None,
    manifest: str | None = None,
    seed: int = 0,
) -> Path:
    """Write the report of a cross-validation, complete or not; what is missing is said in it.

    Args:
        folder: where `ultrarefiner cv` wrote its results; nothing is changed in it.
        out: file to write; None is `report.<format>` in the current folder.
        format: "html", one page for people that loads nothing; "json", everything in its tables; "csv", the scores of
            each image.
        data_root: where the images lie now, if they have moved.
        manifest: the manifest that the cross-validation was made with, if it has moved.
        seed: of the bootstrap.

    Returns:
        The file written.

    Raises:
        DataError: no cross-validation is there, nothing has been predicted yet, an unknown format, or `out` cannot be written.
    """
    if format not in FORMATS:
        raise DataError(f"report format '{format}': expected one of {', '.join(FORMATS)}")
    files = read_results(folder, data_root, manifest)
    scores = score_results(files)
    if format == "csv":
        text = _csv(scores.rows)
    else:
        document = make_document(files, scores, seed)
        text = json_text(document) if format == "json" else _html(document, files, scores)
    path = Path(out or f"report.{format}")
    write_output("report", path, text.encode())
    return path


def make_document(files: ResultFiles, scores: Scores, seed: int = 0) -> Document:
    """What the cross-validation's report says in numbers and words, as plain values; NaN is undefined.

    Args:
        files: the cross-validation.
        scores: of its predictions.
        seed: of the intervals.
    """
    stages = scores.stages()
    last = [row for row in scores.rows if row["phase"] == stages[-1]]
    cuts = size_cuts(last)
    parts = [
        ({"phase": stage, "place": place}, rows)
        for stage in stages
        for place in PLACES
        if (rows := scores.of(stage, place))
    ]
    results = [{**part, **output_table(rows, seed, tests=True)} for part, rows in parts]
    between = _between(scores, stages, seed)
    tests = correct([line for part in results for line in part["metrics"]] + between)
    classes = [{**part, **table} for part, rows in parts if (table := class_table(rows, seed))]
    warnings, passed = warnings_of(files, scores)
    return {
        "schema": SCHEMA,
        "version": __version__,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "study": facts(files),
        "warnings": [warning._asdict() for warning in warnings],
        "checks": passed,
        "phases": stages,
        "results": results,
        "between": between,
        **({"classes": classes} if classes else {}),  # a study that tells none apart has no such part
        "folds": {stage: fold_table([row for row in scores.rows if row["phase"] == stage]) for stage in stages},
        # Groups are described and not tested: a family of tests on small groups would find little or too much.
        "subgroups": [
            {**part, "by": group.by, "name": group.name, **output_table(group.rows, seed)}
            for part, rows in parts
            for group in groups(rows, cuts)
        ],
        "size_cuts": cuts,
        "calibration": [
            {**part, **reliability_diagrams(sums, outputs_of(rows[0]), len(rows))}
            for part, rows in parts
            if (sums := scores.calibration.get((part["phase"], part["place"]))) is not None
        ],
        "curves": curves(files),
        "worse": worse_table(last, cuts) if len(outputs_of(last[0])) > 1 else None,
        "normals": _normals(files, seed),
        "method": {"intervals": METHOD, "seed": seed, "tests": tests},
    }


def _between(scores: Scores, stages: Sequence[str], seed: int) -> list[Document]:
    """Differences in Dice between stages, of the same output and of the last from the baseline, where both have scored."""
    lines = []
    for one, other in combinations(stages, 2):
        for place in PLACES:
            first, second = scores.of(one, place), scores.of(other, place)
            if first and second:
                before, after = outputs_of(first[0]), outputs_of(second[0])
                pairs = [*((name, name) for name in before if name in after), (before[0], after[-1])]
                lines += [_change(first, second, pair, place, seed) for pair in dict.fromkeys(pairs)]
    return [line for line in lines if line]


def _change(first: Sequence[Row], second: Sequence[Row], outputs: tuple[str, str], place: str, seed: int) -> Document:
    """Second - first stage's Dice of the images in both; nothing where there are none."""
    before = {row["id"]: row[f"{outputs[0]}_dice"] for row in first}
    both = [row for row in second if row["id"] in before]
    if not both:
        return {}
    values = np.array([row[f"{outputs[1]}_dice"] - before[row["id"]] for row in both])
    patients = [row["patient"] for row in both]
    names = {"first": f"{first[0]['phase']} {outputs[0]}", "second": f"{second[0]['phase']} {outputs[1]}"}
    estimate = asdict(mean_by_patient(values, patients, seed))
    return {**names, "place": place, "delta": estimate, "p": signed_rank(values, patients)}


def _normals(files: ResultFiles, seed: int) -> list[Document]:
    """False alarms on the normals that `evaluate.json --split normal` has scored, by stage and output."""
    found = []
    for stage in files.cv.system.stages:
        rows: list[Row] = []
        for run in files.runs_of(stage.name):
            try:
                rows += read_rows(run.folder / NORMAL / PER_IMAGE)
            except DataError:
                continue  # not evaluated
        for output in outputs_of(rows[0]) if rows else ():
            if all(f"{output}_false_positive" in row for row in rows):
                line = {"phase": stage.name, "stage": output, "images": len({row["id"] for row in rows})}
                found.append(line | {"predictions": len(rows)} | _false_alarms(rows, output, seed))
    return found


def _false_alarms(rows: Sequence[Row], output: str, seed: int) -> Document:
    """Share of the images with an alarm, and mean share of the area."""
    patients = [row["patient"] for row in rows]
    return {
        name: asdict(mean_by_patient([row[f"{output}_{column}"] for row in rows], patients, seed))
        for name, column in (("rate", "false_positive"), ("area", "false_positive_area"))
    }


def _html(document: Document, files: ResultFiles, scores: Scores) -> str:
    from ultrarefiner_monai.reports.cases import cases
    from ultrarefiner_monai.reports.page import page

    system = files.cv.system
    outputs = list(dict.fromkeys(output for stage in system.stages for output in stage.outputs))
    shown = cases(scores, files.root, document["phases"][-1], outputs) if files.root and scores.predictions else []
    return page(document, scores.rows, shown, system, outputs)


def _csv(rows: Sequence[Row]) -> str:
    """The rows as CSV; those of stages with fewer scores have empty cells."""
    return csv_text(rows, list(dict.fromkeys(name for row in rows for name in row)))
