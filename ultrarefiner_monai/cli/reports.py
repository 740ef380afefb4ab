"""Verbs that tell what was found: the report of a cross-validation and the comparison of two."""

from typing import Literal

from ultrarefiner_monai.files import json_text, write_output


def report(
    study: str,
    out: str | None = None,
    format: Literal["html", "json", "csv"] = "html",
    data_root: str | None = None,
    manifest: str | None = None,
    seed: int = 0,
) -> None:
    """Write the report of a cross-validation, complete or not, as one file.

    Args:
        study: folder that `ultrarefiner cv` wrote.
        out: file to write; report.FORMAT by default.
        format: "html", a page for people; "json", everything in its tables; "csv", the scores of each image.
        data_root: where the images lie now, if they have moved.
        manifest: the manifest it was made with, if it has moved.
        seed: of the bootstrap.
    """
    from ultrarefiner_monai.reports.report import report as write

    print(f"wrote {write(study, out, format, data_root, manifest, seed)}")


def compare(a: str, b: str, phase: str | None = None, json: str | None = None, seed: int = 0) -> None:
    """Print how B differs from A on the images that both have scored, with intervals by patient and corrected tests.

    Args:
        a: folder of a cross-validation or run, or its per_image.csv.
        b: another.
        phase: phase of the cross-validations that is compared; the last one by default.
        json: file for the comparison as JSON.
        seed: of the bootstrap.
    """
    from ultrarefiner_monai.reports.compare import compare as compared
    from ultrarefiner_monai.reports.compare import comparison_text

    document = compared(a, b, phase, seed)
    print(comparison_text(document))
    if json:
        write_output("comparison", json, json_text(document).encode())
        print(f"wrote {json}")
