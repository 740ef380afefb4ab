"""What a training's output folder holds of an earlier one, and when the new one may take its place."""

from pathlib import Path

from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.files import json_or_empty
from ultrarefiner_monai.schemas import COUNT, TEXT, TEXTS, VALUE, object_of, or_null
from ultrarefiner_monai.tracking.pending import PENDING

REPORT = "run.json"
DONE = "finished.json"  # of a cross-validation: this fold is trained and has predicted
SETTINGS = "settings.json"  # of a cross-validation: what this fold was begun with
WORK = ("checkpoint.pt", "checkpoint.previous.pt", "model.pt")  # there is one once an epoch is done
# What is read as the training's own, the marks of others first: whatever interrupts the removal, nothing is taken for done.
LEFT = (
    DONE,
    SETTINGS,
    *WORK,
    "model.json",
    REPORT,
    "run.log",
    "metrics.jsonl",
    "mlflow_run.json",
    PENDING,
    "per_image.csv",
)

EPOCHS = object_of({"done": COUNT, "planned": COUNT})
RUN = object_of({"status": TEXT}, {"epochs": EPOCHS, "warnings": TEXTS, "files": TEXTS})
FINISHED = object_of({"model_sha256": or_null(TEXT)})
BEGUN_WITH = object_of({"dataset": TEXT}, additionalProperties=VALUE)


def has_work(folder: Path) -> bool:
    """Whether an earlier training has done an epoch there, finished or not."""
    return any((folder / name).exists() for name in WORK)


def refuse_work(folder: Path, resume: bool, overwrite: bool) -> None:
    """Refuse a training in a folder with another's work unless it is to go on with it or to take its place.

    Raises:
        DataError: there is work and neither is asked for, or both are.
    """
    if resume and overwrite:
        raise DataError("resume goes on with what overwrite removes; set one of them")
    if has_work(folder) and not (resume or overwrite):
        raise DataError(
            f"{folder}: holds {_described(folder)}; go on with it by --resume true, replace it by --overwrite true, or name "
            "another --output_dir"
        )


def remove_work(folder: Path) -> None:
    """Remove what an earlier training has left, but for its pictures, predictions and scores, which say whose they are."""
    for name in LEFT:
        (folder / name).unlink(missing_ok=True)


def _described(folder: Path) -> str:
    """What the folder's report says of its training."""
    report = json_or_empty(folder / REPORT, dict, RUN)
    epochs = report.get("epochs")
    if not isinstance(epochs, dict):
        return "a trained model"
    of = "a finished training" if report.get("status") == "finished" else "a training"
    return f"{of} of {epochs.get('done')} of {epochs.get('planned')} epochs"
