"""Images in, masks at their own size out: the verb `predict`."""

import csv
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

import ultrarefiner_monai
from ultrarefiner_monai.deploy.images.dicom import DicomFile
from ultrarefiner_monai.deploy.images.find import Found, find_files, open_image_file
from ultrarefiner_monai.deploy.images.image_file import ImageFile
from ultrarefiner_monai.deploy.predict.measures import measure
from ultrarefiner_monai.deploy.predict.outputs import FORMATS, UNCERTAINTIES, Outputs, WriteError, frame_names, writing
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.files import atomic_write, file_sha256, finite
from ultrarefiner_monai.masks import THRESHOLD, check_threshold
from ultrarefiner_monai.models.ensemble import Ensemble, Models

SCHEMA = "ultrarefiner_monai/predict/1"
TABLE, REPORT = "measures.csv", "report.json"
SHOWN = 5  # files that an error names


@dataclass
class Summary:
    """What a prediction did.

    Attributes:
        out: folder of the results.
        rows: one a frame, in order: the file, its mask, sizes, and what `measures.measure` gives.
        failures: file and reason, in one line, of each file that could not be predicted completely.
        seconds: spent on reading, predicting and writing, without loading the model.
    """

    out: Path
    rows: list[dict[str, Any]] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """0 when every file was predicted, else 1."""
        return 1 if self.failures else 0

    def __str__(self) -> str:
        """Lines for a person: each failure, then the counts."""
        lines = [f"skipped: {reason}" for _, reason in self.failures]
        files = len({row["file"] for row in self.rows})
        lesions = sum(row["components"] > 0 for row in self.rows)
        counts = (
            f"pictures: {len(self.rows)}, files: {files}, with a lesion: {lesions}, skipped files: {len(self.failures)}"
        )
        lines.append(f"{counts}; {self.seconds:.1f} s")
        lines.append(f"wrote {self.out / 'masks'}, {self.out / TABLE} and {self.out / REPORT}")
        return "\n".join(lines)


@dataclass(frozen=True)
class _Job:
    """A readable file and the name of its results."""

    source: ImageFile
    name: str


def predict(
    paths: str | Path | Sequence[str | Path],
    model: Models,
    out: str | Path,
    format: str = "png",
    probability: bool = False,
    uncertainty: str | None = None,
    overlay: bool = False,
    threshold: float = THRESHOLD,
    coarse: Models | None = None,
    overwrite: bool = False,
    amp: bool = True,
    device: str | None = None,
) -> Summary:
    """Segment image files and write masks of their size, a table of measures, and a report.

    A file that cannot be read is noted and passed over. Masks take the name of their file, below `out/masks`; those of
    files in sub-folders go to sub-folders of the same name.

    Args:
        paths: files, folders and glob patterns; PNG, JPEG, TIFF, BMP, DICOM and NIfTI.
        model: `model.pt`, its folder, a folder with `fold*/model.pt`, or several of these: an ensemble.
        out: folder to write; made if need be.
        format: "png", "nifti", or "dicom-seg" for DICOM files.
        probability: write probability maps.
        uncertainty: write maps of "entropy" or of "std", the standard deviation of an ensemble's models.
        overlay: write images with the mask's outline.
        threshold: probability from which a pixel is lesion.
        coarse: models of phase 1, whose mean phase 2 refines; other phases take none.
        overwrite: replace results that are there.
        amp: bf16 autocast, as the bundles have by default.
        device: "cpu", "cuda" and the like; None is the first CUDA device, or the CPU.

    Raises:
        DataError: nothing to predict, a wrong option or model, results that are there or would overwrite each other,
            or a disk that refuses. Nothing is predicted then, but for the last case.
    """
    _check_options(format, uncertainty, threshold)
    outputs = Outputs(Path(out), format, float(threshold), probability, uncertainty, overlay)
    found = find_files([paths] if isinstance(paths, str | Path) else paths, outputs.out)
    summary = Summary(outputs.out)
    jobs = list(_readable(found, outputs, summary))
    if not jobs:
        reasons = [reason for _, reason in summary.failures] or ["name files, folders or patterns"]
        raise DataError(f"nothing to predict: {_some(reasons)}")
    _check_targets(jobs, outputs, overwrite)
    ensemble = Ensemble(model, coarse, amp, device)
    if uncertainty == "std" and len(ensemble.paths) == 1:
        raise DataError("uncertainty std: needs several models; name a folder of folds, or take --uncertainty entropy")
    start = time.perf_counter()
    _predict_all(jobs, ensemble, outputs, summary)
    summary.rows = [row for row in summary.rows if (outputs.out / row["mask"]).exists()]
    summary.seconds = time.perf_counter() - start
    _write_tables(summary, ensemble, outputs)
    return summary


def _check_options(format: str, uncertainty: str | None, threshold: float) -> None:
    if format not in FORMATS:
        raise DataError(f"format {format}: expected one of {', '.join(FORMATS)}")
    if uncertainty is not None and uncertainty not in UNCERTAINTIES:
        raise DataError(f"uncertainty {uncertainty}: expected one of {', '.join(UNCERTAINTIES)}")
    check_threshold(threshold)


def _readable(found: Sequence[Found], outputs: Outputs, summary: Summary) -> Iterator[_Job]:
    """The files that can be opened; the others become failures."""
    for file in found:
        try:
            source = open_image_file(file.path)
            if outputs.format == "dicom-seg" and not isinstance(source, DicomFile):
                raise DataError(f"{file.path}: a DICOM segmentation needs a DICOM file; take --format png or nifti")
        except DataError as error:
            summary.failures.append((str(file.path), str(error)))
        else:
            yield _Job(source, file.name)


def _check_targets(jobs: Sequence[_Job], outputs: Outputs, overwrite: bool) -> None:
    """Refuse to write one file twice, over an image that is read, or over results that are there."""
    sources = defaultdict(list)
    for job in jobs:
        for target in outputs.files(job.name, job.source.count):
            sources[target].append(str(job.source.path))
    for target, files in sources.items():
        if len(files) > 1:
            raise DataError(f"{_some(files)}: all would write {target}; rename them or predict them into other folders")
    if overlap := {target.resolve() for target in sources} & {job.source.path.resolve() for job in jobs}:
        raise DataError(f"{_some(sorted(map(str, overlap)))}: would be overwritten by its own mask; name another --out")
    there = [target for target in (*sources, outputs.out / TABLE, outputs.out / REPORT) if target.exists()]
    if there and not overwrite:
        raise DataError(f"{_some(there)}: already there; name another --out, or replace it with --overwrite")


def _predict_all(jobs: Sequence[_Job], ensemble: Ensemble, outputs: Outputs, summary: Summary) -> None:
    from tqdm import tqdm

    total = sum(job.source.count for job in jobs)
    with tqdm(total=total, desc="predicting", unit="picture", disable=not sys.stderr.isatty()) as bar:
        for job in jobs:
            try:
                for row in _predict_file(job, ensemble, outputs):
                    summary.rows.append(row)
                    bar.update()
            except WriteError:
                raise
            except DataError as error:
                path = str(job.source.path)
                summary.failures.append((path, str(error) if path in str(error) else f"{path}: {error}"))


def _predict_file(job: _Job, ensemble: Ensemble, outputs: Outputs) -> Iterator[dict[str, Any]]:
    """Write the results of all frames of a file; a row of measures each."""
    names, masks = frame_names(job.name, job.source.count), []
    for index, grey in enumerate(job.source.frames()):
        consensus = ensemble(grey)
        mask = consensus.probability >= outputs.threshold
        outputs.write(job.source, names[index], grey, consensus, mask)
        masks.append(mask)
        yield _facts(job, index, mask, outputs) | measure(mask, consensus, job.source.spacing)
    outputs.complete(job.source, job.name, masks, ensemble.name)


def _facts(job: _Job, index: int, mask: np.ndarray, outputs: Outputs) -> dict[str, Any]:
    """The part of a row that no model has a say in."""
    down_column, along_row = job.source.spacing or (float("nan"), float("nan"))
    return {
        "file": str(job.source.path),
        "frame": index + 1,
        "mask": outputs.mask_file(job.name, job.source.count, index).relative_to(outputs.out).as_posix(),
        "width": mask.shape[1],
        "height": mask.shape[0],
        "spacing_x_mm": along_row,
        "spacing_y_mm": down_column,
    }


def _write_tables(summary: Summary, ensemble: Ensemble, outputs: Outputs) -> None:
    """Write `measures.csv`, undefined numbers empty, and `report.json`, with the models, undefined numbers null."""
    stream = StringIO()
    columns = summary.rows[0] if summary.rows else ("file",)
    writer = csv.DictWriter(stream, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(finite(row, instead="") for row in summary.rows)
    document = {
        "schema": SCHEMA,
        "version": ultrarefiner_monai.__version__,
        "purpose": "research; not for clinical use",
        "phase": ensemble.phase,
        "models": [{"file": str(path), "sha256": file_sha256(path)} for path in ensemble.paths],
        "coarse_models": [{"file": str(path), "sha256": file_sha256(path)} for path in ensemble.coarse_paths],
        "threshold": outputs.threshold,
        "device": ensemble.device,
        "seconds": round(summary.seconds, 3),
        "pictures": finite(summary.rows),
        "failures": [{"file": path, "reason": reason} for path, reason in summary.failures],
    }
    _write_text(outputs.out / TABLE, stream.getvalue())
    _write_text(outputs.out / REPORT, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def _write_text(path: Path, text: str) -> None:
    with writing(path), atomic_write(path, "w", encoding="utf-8") as file:
        file.write(text)


def _some(names: Sequence[str | Path]) -> str:
    """The first of the names, and how many more there are."""
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(str, names[:SHOWN])) + rest
