"""`predict --dicomweb`: series of a server as files, their masks, and the segmentations back to the server."""

import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ultrarefiner_monai.deploy.dicomweb.server import Instance, Server, is_uid
from ultrarefiner_monai.deploy.dicomweb.session import MIB, NoAnswerError
from ultrarefiner_monai.deploy.images.dicom_header import ULTRASOUND, holds_image
from ultrarefiner_monai.deploy.predict.outputs import Outputs, write_file
from ultrarefiner_monai.deploy.predict.prediction import REPORT, TABLE, Summary, predict
from ultrarefiner_monai.errors import DataError, shown
from ultrarefiner_monai.files import json_text
from ultrarefiner_monai.models.card import read_card
from ultrarefiner_monai.models.ensemble import Models, find_models
from ultrarefiner_monai.texts import lines_of

SCHEMA = "ultrarefiner_monai/dicomweb/1"
INSTANCES, DONE = "instances", "dicomweb.json"  # in the folder of results: what was fetched, and what came of it
MAX_TOTAL = 16 * 1024 * MIB  # of all that is fetched
SHOWN = 5  # files, reasons or kinds that a line names


@dataclass
class Series:
    """What was done with one series of a server: numbers of instances."""

    study: str
    series: str
    found: int = 0
    predicted: int = 0
    skipped: int = 0
    stored: int = 0

    def __str__(self) -> str:
        counts = f"found {self.found}, predicted {self.predicted}, skipped {self.skipped}, stored {self.stored}"
        return f"series {self.series}: {counts}"


@dataclass
class ServerSummary:
    """What a prediction of a server's series did.

    Attributes:
        predicted: of the files that were fetched, see `Summary`.
        series: one a series, in the order of the listing.
        left_out: instance and what it is, of those that are no ultrasound image.
        failures: instance and reason, in one line, of those that could not be fetched, or whose segmentation not be stored.
    """

    predicted: Summary
    series: list[Series]
    left_out: list[tuple[str, str]]
    failures: list[tuple[str, str]]

    @property
    def exit_code(self) -> int:
        """0 when all that is an ultrasound image was predicted, and stored if that was asked for, else 1."""
        return 1 if self.failures else self.predicted.exit_code

    def __str__(self) -> str:
        """Lines for a person: what was left out, each failure, those of the prediction, a line a series."""
        kinds = sorted({kind for _, kind in self.left_out})
        lines = [f"left out: {len(self.left_out)} instances ({shown(kinds, SHOWN)})"] if kinds else []
        lines += [f"failed: {reason}" for _, reason in self.failures]
        return lines_of([*lines, *str(self.predicted).split("\n"), *map(str, self.series)])


@dataclass
class _Fetched:
    """The files of the images among some instances, and what became of the others, as in `ServerSummary`."""

    files: dict[Path, Instance] = field(default_factory=dict)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)


def predict_series(
    server: Server,
    asked: Sequence[str],
    model: Models,
    outputs: Outputs,
    *,
    store: bool = False,
    any_modality: bool = False,
    overwrite: bool = False,
    **options: Any,
) -> ServerSummary:
    """Fetch the images of studies or series, segment them as files, and store the segmentations if asked to.

    What is fetched stays in `out/instances/SERIES/INSTANCE.dcm`; `out/dicomweb.json` says what was done.

    Args:
        server: where they are.
        asked: STUDY or STUDY/SERIES each, identifiers that the server knows.
        model: as for `predict`.
        outputs: as for `predict`.
        **options: as for `predict`.
        store: store each DICOM segmentation in the study that it belongs to.
        any_modality: fetch and predict images of other modalities than ultrasound, too.
        overwrite: replace results that are there.

    Raises:
        NoAnswerError: the server has stopped to answer before all was fetched.
        DataError: as of `predict`, no identifiers, or a server that lists nothing to predict.
    """
    if store and outputs.format != "dicom-seg":
        raise DataError(f"store: only DICOM segmentations can be, not {outputs.format}; add --format dicom-seg")
    places = [_place(word) for word in asked]
    for path in find_models(model):  # a mistake is told before hours of fetching
        read_card(path)
    there = [path for path in (outputs.out / name for name in (INSTANCES, TABLE, REPORT)) if path.exists()]
    if there and not overwrite:
        raise DataError(f"{shown(there, SHOWN)}: already there; name another --out, or replace it with --overwrite")
    listed = {one.uid: one for place in places for one in server.instances(*place)}.values()
    fetched = _fetch(server, listed, outputs.out / INSTANCES, any_modality)
    if not fetched.files:
        reasons = [reason for _, reason in fetched.failures] or sorted({kind for _, kind in fetched.left_out})
        raise DataError(f"nothing to predict of {len(listed)} instances: {shown(reasons, SHOWN) or 'check the UIDs'}")
    predicted = predict(list(fetched.files), model, outputs, any_modality=any_modality, overwrite=overwrite, **options)
    masks = _masks(predicted, fetched.files)
    stored, refused = _store(server, masks) if store else ([], [])
    series = _counted(listed, masks, stored)
    summary = ServerSummary(predicted, series, fetched.left_out, fetched.failures + refused)
    document = {
        "schema": SCHEMA,
        "url": server.url,
        "series": [vars(one) for one in series],
        "stored": [{"instance": one.uid, "mask": f"masks/{masks[one].name}"} for one in stored],
        "left_out": [{"instance": uid, "is": kind} for uid, kind in summary.left_out],
        "failures": [{"instance": uid, "reason": reason} for uid, reason in summary.failures],
    }
    write_file(outputs.out / DONE, json_text(document).encode())
    return summary


def _place(word: str) -> tuple[str, str | None]:
    """The study and series that a word names."""
    study, slash, series = word.partition("/")
    if not is_uid(study) or (slash and not is_uid(series)):
        raise DataError(
            f"{word}: expected STUDY or STUDY/SERIES with --dicomweb, their UIDs (digits and dots, at most 64); correct it"
        )
    return study, series or None


def _fetch(server: Server, instances: Iterable[Instance], folder: Path, any_modality: bool) -> _Fetched:
    """Write the images among the instances below a folder."""
    from tqdm import tqdm

    fetched, total = _Fetched(), 0
    for one in tqdm(instances, desc="fetching", unit="instance", disable=not sys.stderr.isatty()):
        if not holds_image(one.sop_class) or not (any_modality or one.modality in ("", ULTRASOUND)):
            fetched.left_out.append((one.uid, one.modality or one.sop_class))
            continue
        try:
            content = server.fetch(one)
        except NoAnswerError:
            raise
        except DataError as error:
            fetched.failures.append((one.uid, str(error)))
            continue
        if (total := total + len(content)) > MAX_TOTAL:
            raise DataError(f"{server.url}: more than {MAX_TOTAL // MIB} MiB in all; name fewer series at once")
        path = folder / one.series / f"{one.uid}.dcm"
        write_file(path, content)
        fetched.files[path] = one
    return fetched


def _masks(predicted: Summary, files: dict[Path, Instance]) -> dict[Instance, Path]:
    """The first mask of each instance that was predicted completely."""
    failed = {path for path, _ in predicted.failures}
    masks: dict[Instance, Path] = {}
    for row in predicted.rows:
        if row["file"] not in failed:
            masks.setdefault(files[Path(row["file"])], predicted.out / row["mask"])
    return masks


def _store(server: Server, masks: Mapping[Instance, Path]) -> tuple[list[Instance], list[tuple[str, str]]]:
    """Store segmentations: the instances whose segmentation the server has now, and the failures."""
    stored, failures = [], []
    for one, path in masks.items():
        try:
            server.store(path, one.study)
        except DataError as error:
            failures.append((one.uid, str(error)))
            if isinstance(error, NoAnswerError):
                break
        else:
            stored.append(one)
    return stored, failures


def _counted(
    instances: Iterable[Instance], predicted: Collection[Instance], stored: Collection[Instance]
) -> list[Series]:
    """What was done with each series of the instances."""
    series: dict[str, Series] = {}
    for one in instances:
        count = series.setdefault(one.series, Series(one.study, one.series))
        count.found += 1
        count.predicted += one in predicted
        count.skipped += one not in predicted
        count.stored += one in stored
    return list(series.values())
