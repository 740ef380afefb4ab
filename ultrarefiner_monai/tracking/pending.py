"""`mlflow_pending.json`: what a run's folder owes MLflow, there from the run's start until all of it has arrived."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ultrarefiner_monai.errors import DataError, one_line
from ultrarefiner_monai.files import json_or_empty, write_json
from ultrarefiner_monai.tracking.mlflow_run import MlflowRun
from ultrarefiner_monai.tracking.operations import (
    Operation,
    send_artifact,
    send_data,
    send_params,
    send_records,
    send_tags,
)
from ultrarefiner_monai.tracking.store import without_credentials

PENDING = "mlflow_pending.json"
ID_FILE = "mlflow_run.json"
STATUSES = ("FINISHED", "FAILED", "KILLED")


@dataclass
class Pending:
    """What is needed to send a run once more; numbers are in `metrics.jsonl`, and where the store is, is not kept.

    Args:
        experiment: of the run.
        names: of the run, first the one it was begun with; a resumed training adds its own.
        tags: of the run.
        params: its parameters.
        data: the data set that is its input.
        artifacts: files and folders inside the run's own, and the folder of the store that each goes to.
        model: whether the trained model belongs to the run.
        status: how the run ended; None until then.
    """

    experiment: str
    names: list[str]
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    data: dict[str, str] | None = None
    artifacts: list[list[str | None]] = field(default_factory=list)
    model: bool = False
    status: str | None = None

    def write(self, folder: Path) -> None:
        """Keep it in `folder`; a full disk is told by what is worth more."""
        with suppress(OSError):
            write_json(folder / PENDING, asdict(self))

    def add_artifact(self, path: Path, target: str | None, folder: Path) -> None:
        """Note a file, or a folder, that lies in the run's `folder`; others are not kept."""
        if path.absolute().is_relative_to(folder.absolute()):
            self.artifacts.append([path.absolute().relative_to(folder.absolute()).as_posix(), target])

    def operations(self, folder: Path) -> Iterator[Operation]:
        """Everything that a run with this owes, in order; a store takes what it has already without a second copy."""
        yield send_params(self.params)
        yield send_tags(self.tags)
        if self.data is not None:
            yield send_data(**self.data)
        yield send_records(folder, self.names)
        for name, target in self.artifacts:
            path = (folder / str(name)).resolve()
            if path.is_relative_to(folder.resolve()) and path.exists():
                yield send_artifact(path, target)


def read_pending(folder: Path) -> Pending | None:
    """What `folder` owes; None where that is nothing, or its file is not as it was written."""
    content: dict[str, Any] = json_or_empty(folder / PENDING, dict)
    with suppress(AttributeError, IndexError, KeyError, TypeError, ValueError):
        return _checked(Pending(**content))
    return None


def _checked(owed: Pending) -> Pending:
    """The same, or a TypeError or ValueError where a value is of another kind."""
    artifacts: list[str] = [name or "" for name, _ in owed.artifacts] + [target or "" for _, target in owed.artifacts]
    texts = [owed.experiment, owed.names[0], *owed.names, *artifacts]
    for mapping in (owed.tags, owed.params, owed.data or {"name": "", "digest": "", "context": ""}):
        texts += [*mapping.keys(), *mapping.values()]
    whole = all(isinstance(text, str) for text in texts) and owed.status in (*STATUSES, None)
    if not whole or (owed.data is not None and owed.data.keys() != {"name", "digest", "context"}):
        raise TypeError
    return owed


def send_pending(folder: Path, uri: str, model: Callable[[Path], Operation]) -> str | None:
    """Send what the run in `folder` owes the store at `uri`, and end the run there as it has ended here.

    A run that was killed ends as KILLED; a training that goes on afterwards opens it again.

    Args:
        folder: of the run.
        uri: tracking URI.
        model: makes the operation that logs the model in a folder.

    Returns:
        The run's status, None where the folder owes nothing.

    Raises:
        DataError: a training is at work in the folder, or the store still fails.
    """
    owed = read_pending(folder)
    if owed is None:
        return None
    try:
        with FileLock(folder / ".lock", blocking=False):
            status = owed.status or "KILLED"
            run = MlflowRun(uri, owed.experiment, owed.names[0], owed.tags, folder / ID_FILE, resume=True)
            run.send(*owed.operations(folder), lambda client, run_id: client.set_terminated(run_id, status))
            if owed.model and status == "FINISHED":
                run.send(model(folder))
            (folder / PENDING).unlink()
    except Timeout:
        raise DataError(f"{folder}: is in use by a training, which sends its numbers itself; wait for it") from None
    except (DataError, OSError):
        raise
    except Exception as error:  # each kind of store has its own
        reason = f"MLflow at {without_credentials(uri)} fails ({without_credentials(one_line(error))})"
        raise DataError(f"{folder}: {reason}; nothing is lost, do this again later") from None
    return status


def pending_folders(folder: Path) -> list[Path]:
    """The folders at and below `folder` that owe something, sorted."""
    return sorted(path.parent for path in folder.rglob(PENDING))
