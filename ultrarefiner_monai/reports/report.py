"""`ultrarefiner report`: one file that says what a study has shown."""

import csv
import json
from io import StringIO
from pathlib import Path
from typing import Any

from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.files import finite, write_atomically
from ultrarefiner_monai.reports.document import findings
from ultrarefiner_monai.reports.study_files import StudyFiles, read_study
from ultrarefiner_monai.reports.study_scores import Scores, score_study

FORMATS = ("html", "json", "csv")


def report(
    study_folder: str | Path,
    out: str | Path | None = None,
    format: str = "html",
    data_root: str | None = None,
    manifest: str | None = None,
    seed: int = 0,
) -> Path:
    """Write the report of a study, complete or not; what is missing is said in it.

    Args:
        study_folder: where `ultrarefiner cv` wrote its results; nothing is changed in it.
        out: file to write; None is `report.<format>` in the current folder.
        format: "html", one page for people that loads nothing; "json", everything in its tables; "csv", the scores of
            each image.
        data_root: where the images lie now, if they have moved.
        manifest: the manifest that the study was made with, if it has moved.
        seed: of the bootstrap.

    Returns:
        The file written.

    Raises:
        DataError: the folder is no study, nothing has been predicted yet, an unknown format, or `out` cannot be written.
    """
    if format not in FORMATS:
        raise DataError(f"report format '{format}': expected one of {', '.join(FORMATS)}")
    files = read_study(study_folder, data_root, manifest)
    scores = score_study(files)
    path = Path(out or f"report.{format}")
    text = _table(scores) if format == "csv" else _text(files, scores, format, seed)
    try:
        write_atomically(path, text.encode())
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"report {path}: cannot be written ({reason}); free space or name another file") from None
    return path


def as_json(document: dict[str, Any]) -> str:
    """A document as strict JSON."""
    return json.dumps(finite(document), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _text(files: StudyFiles, scores: Scores, format: str, seed: int) -> str:
    document = findings(files, scores, seed)
    if format == "json":
        return as_json(document)
    from ultrarefiner_monai.reports.cases import cases
    from ultrarefiner_monai.reports.page import page

    pictured = (
        cases(scores, files.root, document["phases"][-1]) if files.root is not None and scores.predictions else []
    )
    return page(document, scores.rows, pictured)


def _table(scores: Scores) -> str:
    """The rows as CSV; those of phases with fewer scores have empty cells."""
    names = dict.fromkeys(name for row in scores.rows for name in row)
    stream = StringIO()
    writer = csv.DictWriter(stream, fieldnames=list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(scores.rows)
    return stream.getvalue()
