"""Everything that a report says, in numbers and words: the document behind HTML and JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import combinations
from typing import Any

import numpy as np

from ultrarefiner_monai import __version__
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.handlers.comparison import Row
from ultrarefiner_monai.metrics import reliability
from ultrarefiner_monai.metrics.calibration import BINS, REGIONS
from ultrarefiner_monai.metrics.scores import STAGES as SCORED
from ultrarefiner_monai.metrics.scores_file import PER_IMAGE, read_rows
from ultrarefiner_monai.reports.degraded import worse
from ultrarefiner_monai.reports.statistics import METHOD, holm, mean_by_patient, signed_rank
from ultrarefiner_monai.reports.study_checks import warnings_of
from ultrarefiner_monai.reports.study_facts import curves, facts
from ultrarefiner_monai.reports.study_files import StudyFiles
from ultrarefiner_monai.reports.study_scores import Scores
from ultrarefiner_monai.reports.tables import PLACES, fold_table, groups, size_cuts, stage_table

SCHEMA = "ultrarefiner_monai/report/1"
NORMAL = "normal"

Document = dict[str, Any]


def findings(files: StudyFiles, scores: Scores, seed: int = 0) -> Document:
    """What the study's report says, as plain values; NaN is undefined.

    Args:
        files: the study.
        scores: of its predictions.
        seed: of the intervals.
    """
    phases = scores.phases()
    last = [row for row in scores.rows if row["phase"] == phases[-1]]
    cuts = size_cuts(last)
    results = _results(scores, phases, seed)
    between = _between(scores, phases, seed)
    family = correct([line for part in results for line in part["metrics"]] + between)
    warnings, passed = warnings_of(files, scores)
    return {
        "schema": SCHEMA,
        "version": __version__,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "study": facts(files),
        "warnings": warnings,
        "checks": passed,
        "phases": phases,
        "results": results,
        "between": between,
        "folds": {phase: fold_table([row for row in scores.rows if row["phase"] == phase]) for phase in phases},
        "subgroups": _subgroups(scores, phases, cuts, seed),
        "size_cuts": cuts,
        "calibration": _calibration(scores),
        "curves": curves(files),
        "worse": worse(last, cuts) if "refined_dice" in last[0] else None,
        "normals": _normals(files, seed),
        "method": {"intervals": METHOD, "seed": seed, "tests": family},
    }


def _results(scores: Scores, phases: Sequence[str], seed: int) -> list[Document]:
    return [
        {"phase": phase, "place": place, **stage_table(rows, seed, tests=True)}
        for phase in phases
        for place in PLACES
        if (rows := scores.of(phase, place))
    ]


def _subgroups(scores: Scores, phases: Sequence[str], cuts: Sequence[float], seed: int) -> list[Document]:
    """Described with intervals and not tested: a family of tests on small groups would find little or too much."""
    return [
        {"phase": phase, "place": place, "by": by, "name": name, **stage_table(chosen, seed)}
        for phase in phases
        for place in PLACES
        for by, name, chosen in groups(scores.of(phase, place), cuts)
    ]


def _between(scores: Scores, phases: Sequence[str], seed: int) -> list[Document]:
    """Differences in Dice between phases, on the images that both have scored."""
    pairs = (("coarse", "coarse"), ("refined", "refined"), ("coarse", "refined"))
    return [
        line
        for first, second in combinations(phases, 2)
        for place in PLACES
        for stages in pairs
        if (line := _change(scores.of(first, place), scores.of(second, place), stages, seed))
    ]


def _change(first: Sequence[Row], second: Sequence[Row], stages: tuple[str, str], seed: int) -> Document:
    """Second - first stage's Dice of the images in both."""
    before = {row["id"]: row[f"{stages[0]}_dice"] for row in first if f"{stages[0]}_dice" in row}
    both = [row for row in second if row["id"] in before and f"{stages[1]}_dice" in row]
    if not both:
        return {}
    values = np.array([row[f"{stages[1]}_dice"] - before[row["id"]] for row in both])
    patients = [row["patient"] for row in both]
    names = {"first": f"{first[0]['phase']} {stages[0]}", "second": f"{second[0]['phase']} {stages[1]}"}
    estimate = asdict(mean_by_patient(values, patients, seed))
    fold = "test" if both[0]["fold"] == "test" else PLACES[0]
    return {**names, "place": fold, "delta": estimate, "p": signed_rank(values, patients)}


def correct(lines: Sequence[Document]) -> int:
    """Add `p_holm` to all lines with a test; returns their number, the family."""
    tested = [line for line in lines if "p" in line]
    for line, adjusted in zip(tested, holm([line["p"] for line in tested]), strict=True):
        line["p_holm"] = adjusted
    return sum(line["p"] == line["p"] for line in tested)


def _calibration(scores: Scores) -> list[Document]:
    edges = [i / BINS for i in range(BINS + 1)]
    return [
        {
            "phase": phase,
            "place": place,
            "images": len(scores.of(phase, place)),
            "edges": edges,
            **{
                stage: {region: reliability(part) for region, part in zip(REGIONS, regions, strict=True)}
                for stage, regions in zip(SCORED, sums, strict=False)
            },
        }
        for (phase, place), sums in scores.calibration.items()
    ]


def _normals(files: StudyFiles, seed: int) -> list[Document]:
    """False alarms on the normals that `evaluate.json --split normal` has scored, by phase and stage."""
    found = []
    for phase in dict.fromkeys(run.phase for run in files.runs):
        rows = [row for run in files.runs_of(phase) for row in _table(run.folder / NORMAL / PER_IMAGE)]
        for stage in SCORED:
            if rows and all(f"{stage}_false_positive" in row for row in rows):
                found.append({"phase": phase, "stage": stage, **_false_alarms(rows, stage, seed)})
    return found


def _false_alarms(rows: Sequence[Row], stage: str, seed: int) -> Document:
    patients = [row["patient"] for row in rows]
    estimates = {
        name: asdict(mean_by_patient([row[f"{stage}_{column}"] for row in rows], patients, seed))
        for name, column in (("rate", "false_positive"), ("area", "false_positive_area"))
    }
    return {"images": len({row["id"] for row in rows}), "predictions": len(rows), **estimates}


def _table(path: Any) -> list[Row]:
    try:
        return read_rows(path)
    except DataError:
        return []
