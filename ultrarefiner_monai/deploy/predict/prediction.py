"""Images in, masks at their own size out: the verb `predict`."""

import math
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import tee
from pathlib import Path
from typing import Any

import ultrarefiner_monai
from ultrarefiner_monai.data.releases.roots import LONGEST
from ultrarefiner_monai.deploy.images.dicom import DicomFile
from ultrarefiner_monai.deploy.images.find import Found, find_files, open_image_file, real
from ultrarefiner_monai.deploy.images.image_file import ImageFile, NoImageError
from ultrarefiner_monai.deploy.images.volume import VolumeFile
from ultrarefiner_monai.deploy.predict.measures import measure
from ultrarefiner_monai.deploy.predict.outputs import Outputs, WriteError, frame_names, write_file
from ultrarefiner_monai.deploy.predict.prompt_table import LesionPrompts, PromptsOf, prompts_within, read_prompts
from ultrarefiner_monai.errors import DataError, shown
from ultrarefiner_monai.files import file_sha256, finite, json_text
from ultrarefiner_monai.masks import without_islands
from ultrarefiner_monai.models.ensemble import Ensemble, Models
from ultrarefiner_monai.systems import find_stage
from ultrarefiner_monai.texts import csv_text, lines_of

SCHEMA = "ultrarefiner_monai/predict/1"
TABLE, REPORT = "measures.csv", "report.json"
SHOWN = 5  # files that an error names
SHOWN_FILES = 2  # files that a note names


@dataclass
class Summary:
    """What a prediction did.

    Attributes:
        out: folder of the results.
        rows: one a frame, in order: the file, its mask, sizes, and what `measures.measure` gives.
        notes: file and how it was understood, in one line, where files differ: orientation, range of grey values, colour.
        masks: the masks beside images that were left out.
        no_images: the DICOM files without an image, such as reports, that were left out, and what each holds.
        failures: file and reason, in one line, of each file that could not be predicted completely.
        seconds: spent on reading, predicting and writing, without loading the model.
    """

    out: Path
    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)
    masks: list[Path] = field(default_factory=list)
    no_images: list[tuple[Path, str]] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """0 when every file was predicted, else 1."""
        return 1 if self.failures else 0

    def __str__(self) -> str:
        """Lines for a person: each failure, what was left out, each kind of note, then the counts."""
        lines = [f"skipped: {reason}" for _, reason in self.failures]
        if self.masks:
            named = shown(self.masks, SHOWN_FILES)
            lines.append(f"left out: {len(self.masks)} masks beside their images ({named}); name a mask to predict it")
        if self.no_images:
            named = shown([path for path, _ in self.no_images], SHOWN_FILES)
            lines.append(f"left out: {len(self.no_images)} DICOM files without an image ({named})")
        noted = defaultdict(list)
        for file, note in self.notes:
            noted[note].append(file)
        for note, files in noted.items():
            lines.append(f"note: {note}; {len(files)} file{'s' * (len(files) > 1)}: {shown(files, SHOWN_FILES)}")
        count = len({row["file"] for row in self.rows})
        lesions = sum(row["components"] > 0 for row in self.rows)
        counts = (
            f"pictures: {len(self.rows)}, files: {count}, with a lesion: {lesions}, skipped files: {len(self.failures)}"
        )
        lines.append(f"{counts}; {self.seconds:.1f} s")
        lines.append(f"wrote {self.out / 'masks'}, {self.out / TABLE} and {self.out / REPORT}")
        return lines_of(lines)


@dataclass(frozen=True)
class _Job:
    """A readable file and the name of its results."""

    source: ImageFile
    name: str


def predict(
    paths: str | Path | Sequence[str | Path],
    model: Models,
    outputs: Outputs,
    *,
    coarse: Models | None = None,
    boxes: str | Path | None = None,
    points: str | Path | None = None,
    auto: Models | None = None,
    any_modality: bool = False,
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
        outputs: what to write, and where.
        coarse: models of the stage that feeds the model's, such as phase 1 for phase 2; other stages take none.
        boxes: table of the boxes that a model is asked about, see `read_prompts`.
        points: the same of points.
        auto: models whose lesions it is asked about.
        any_modality: predict DICOM files of other modalities than ultrasound, too.
        overwrite: replace results that are there.
        amp: bf16 autocast, as the bundles have by default.
        device: "cpu", "cuda" and the like; None is the first CUDA device, or the CPU.

    Raises:
        DataError: nothing to predict, a wrong model, results that are there or would overwrite each other, or a disk that
            refuses. Nothing is predicted then, but for the last case.
    """
    found, masks = find_files([paths] if isinstance(paths, str | Path) else paths, outputs.out)
    summary = Summary(outputs.out, masks=masks)
    jobs = list(_readable(found, outputs, any_modality, summary))
    if not jobs:
        reasons = [reason for _, reason in (*summary.failures, *summary.no_images)] or [
            "name files, folders or patterns"
        ]
        raise DataError(f"nothing to predict: {shown(reasons, SHOWN)}")
    _check_targets(jobs, outputs, overwrite)
    named = _ways(coarse, boxes=boxes, points=points, auto=auto)
    prompts = _prompts_of(jobs, [file.path for file in found], boxes, points)
    ensemble = Ensemble(model, auto if coarse is None else coarse, amp, device)
    _check_asked(ensemble, named)
    if outputs.uncertainty == "std" and len(ensemble.paths) == 1:
        raise DataError("uncertainty std: needs several models; name a folder of folds, or take --uncertainty entropy")
    if outputs.labels and not ensemble.classes:
        raise DataError(f"labels: {ensemble.paths[0]} tells no classes apart; leave --labels out")
    start = time.perf_counter()
    _predict_all(jobs, ensemble, outputs, summary, prompts)
    summary.rows = [row for row in summary.rows if (outputs.out / row["mask"]).exists()]
    summary.seconds = time.perf_counter() - start
    numbered = outputs.labels or any(isinstance(job.source, VolumeFile) for job in jobs)
    _write_tables(summary, ensemble, outputs, numbered)
    return summary


def _ways(coarse: Models | None, **asked: Any) -> list[str]:
    """The option that says what a model is asked about; none where nothing does."""
    named = [f"--{name}" for name, value in asked.items() if value is not None]
    if named and coarse is not None:
        raise DataError(f"--coarse feeds a model, {named[0]} says what one is asked about: leave one out")
    if len(named) > 1:
        raise DataError(f"{' and '.join(named)}: a model is asked in one way; leave the others out")
    return named


def _prompts_of(
    jobs: Sequence[_Job], files: Sequence[Path], boxes: str | Path | None, points: str | Path | None
) -> dict[Path, LesionPrompts] | None:
    """Prompts of each of the `files`, those that cannot be read among them, from the table that was named, if one was."""
    tables: dict[PromptsOf, str | Path | None] = {"boxes": boxes, "points": points}
    for kind, table in tables.items():
        if table is not None:
            if several := [str(job.source.path) for job in jobs if job.source.count > 1]:
                raise DataError(f"--{kind}: {shown(several, SHOWN)}: has several frames, a row names a file of one")
            return read_prompts(Path(table), kind, files)
    return None


def _check_asked(ensemble: Ensemble, named: Sequence[str]) -> None:
    """A model that is asked about lesions is told which, and no other is."""
    stage = find_stage(ensemble.stage)[1]
    if stage.prompted and not named:
        raise DataError(
            f"{ensemble.paths[0]}: {stage.name} is asked about lesions; say which with --boxes FILE, --points FILE or "
            "--auto MODEL"
        )
    if named and not stage.prompted:
        raise DataError(f"{ensemble.paths[0]}: {stage.name} is asked about nothing; leave {named[0]} out")


def _readable(found: Sequence[Found], outputs: Outputs, any_modality: bool, summary: Summary) -> Iterator[_Job]:
    """The files that can be opened; the others become failures, but for those that hold no image."""
    for file in found:
        try:
            if len(os.fsencode(file.path.name)) > LONGEST:
                raise DataError(f"{file.path}: a name of more than {LONGEST} bytes, too long for results; shorten it")
            source = open_image_file(file.path, any_modality)
            if outputs.format == "dicom-seg" and not isinstance(source, DicomFile):
                raise DataError(f"{file.path}: a DICOM segmentation needs a DICOM file; take --format png or nifti")
        except NoImageError as error:
            summary.no_images.append((file.path, str(error)))
        except DataError as error:
            summary.failures.append((str(file.path), str(error)))
        else:
            yield _Job(source, file.name)


def _check_targets(jobs: Sequence[_Job], outputs: Outputs, overwrite: bool) -> None:
    """Refuse to write one file twice, over an image that is read, or over results that are there."""
    sources = defaultdict(list)
    for job in jobs:
        for target in outputs.files(job.name, job.source.count, isinstance(job.source, VolumeFile)):
            sources[target].append(str(job.source.path))
    for target, files in sources.items():
        if len(files) > 1:
            raise DataError(
                f"{shown(files, SHOWN)}: all would write {target}; rename them or predict them into other folders"
            )
    if overlap := {real(target) for target in sources} & {real(job.source.path) for job in jobs}:
        raise DataError(
            f"{shown(sorted(map(str, overlap)), SHOWN)}: would be overwritten by its own mask; name another --out"
        )
    there = [target for target in (*sources, outputs.out / TABLE, outputs.out / REPORT) if target.exists()]
    if there and not overwrite:
        raise DataError(f"{shown(there, SHOWN)}: already there; name another --out, or replace it with --overwrite")


def _predict_all(
    jobs: Sequence[_Job],
    ensemble: Ensemble,
    outputs: Outputs,
    summary: Summary,
    prompts: Mapping[Path, LesionPrompts] | None,
) -> None:
    from tqdm import tqdm

    total = sum(job.source.count for job in jobs)
    with tqdm(total=total, desc="predicting", unit="picture", disable=not sys.stderr.isatty()) as bar:
        for job in jobs:
            try:
                for row in _predict_file(job, ensemble, outputs, prompts):
                    summary.rows.append(row)
                    bar.update()
            except WriteError:
                raise
            except DataError as error:
                path = str(job.source.path)
                summary.failures.append((path, str(error) if path in str(error) else f"{path}: {error}"))
            summary.notes += [(str(job.source.path), note) for note in job.source.notes]


def _predict_file(
    job: _Job, ensemble: Ensemble, outputs: Outputs, prompts: Mapping[Path, LesionPrompts] | None
) -> Iterator[dict[str, Any]]:
    """Write the results of all frames of a file; a row of measures each."""
    source, masks, planes = job.source, [], []
    if volume := isinstance(source, VolumeFile):
        source.clip = ensemble.clip
    down_column, along_row = source.spacing or (math.nan, math.nan)
    frames, seen = tee(source.frames())
    if volume:  # which no table of prompts can name
        found = ensemble.predict_volume(seen, source.spacing)
    elif prompts is None:
        found = (ensemble(grey, pixel=source.spacing) for grey in seen)
    else:
        found = (ensemble(grey, prompts_within(prompts, source.path, grey.shape), source.spacing) for grey in seen)
    names = frame_names(job.name, source.count)
    for index, (name, grey, consensus) in enumerate(zip(names, frames, found, strict=True)):
        lesion = without_islands(consensus.probability, 0 if volume else ensemble.islands, outputs.threshold)
        mask = lesion >= outputs.threshold
        planes.append(outputs.write(source, name, grey, consensus, mask))
        masks.append(mask)
        facts = {
            "file": str(source.path),
            "frame": index + 1,
            "mask": outputs.mask_file(job.name, source.count, index, volume).relative_to(outputs.out).as_posix(),
            "width": mask.shape[1],
            "height": mask.shape[0],
            "spacing_x_mm": along_row,
            "spacing_y_mm": down_column,
        }
        yield facts | measure(mask, consensus._replace(probability=lesion), source.spacing, ensemble.organs)
    outputs.complete(source, job.name, masks, planes, ensemble.name)


def _write_tables(summary: Summary, ensemble: Ensemble, outputs: Outputs, numbered: bool) -> None:
    """Write `measures.csv`, undefined numbers empty, and `report.json`, with the models, undefined numbers null.

    Where masks are `numbered`, those of classes and of volumes, the report says what their values mean.
    """
    names = ensemble.classes if outputs.labels else ("lesion",)
    columns = list(summary.rows[0]) if summary.rows else ["file"]
    table = csv_text([finite(row, instead="") for row in summary.rows], columns)
    document = {
        "schema": SCHEMA,
        "version": ultrarefiner_monai.__version__,
        "purpose": "research; not for clinical use",
        "phase": ensemble.stage,
        "models": [{"file": str(path), "sha256": file_sha256(path)} for path in ensemble.paths],
        "coarse_models": [{"file": str(path), "sha256": file_sha256(path)} for path in ensemble.coarse_paths],
        "threshold": outputs.threshold,
        "islands": ensemble.islands,
        **({} if ensemble.spacing is None else {"spacing": ensemble.spacing}),
        **({"mask_values": dict(enumerate(("background", *names)))} if numbered else {}),
        "device": ensemble.device,
        "seconds": round(summary.seconds, 3),
        "pictures": summary.rows,
        "notes": [{"file": path, "note": note} for path, note in summary.notes],
        "left_out": [str(path) for path in (*summary.masks, *(path for path, _ in summary.no_images))],
        "failures": [{"file": path, "reason": reason} for path, reason in summary.failures],
    }
    write_file(outputs.out / TABLE, table.encode())
    write_file(outputs.out / REPORT, json_text(document).encode())
