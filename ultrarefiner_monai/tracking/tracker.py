"""What happened in a training, number by number: MLflow, TensorBoard and a plain file."""

import atexit
import logging
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ultrarefiner_monai.devices import is_main
from ultrarefiner_monai.files import naming
from ultrarefiner_monai.tracking.metrics_file import append_record
from ultrarefiner_monai.tracking.mlflow_run import MlflowRun
from ultrarefiner_monai.tracking.operations import (
    KEY_LENGTH,
    PARAM_LENGTH,
    TAG_LENGTH,
    Operation,
    cut,
    send_artifact,
    send_data,
    send_metrics,
    send_params,
    send_tags,
)
from ultrarefiner_monai.tracking.pending import ID_FILE, PENDING, Pending, read_pending
from ultrarefiner_monai.tracking.store import NOTE

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

BOARD = "tensorboard"  # folder of its files

logger = logging.getLogger(__name__)


class Tracker:
    """One run in MLflow, TensorBoard (`output_dir/tensorboard`) and `output_dir/metrics.jsonl`; rank 0 only.

    A dead, slow or failing MLflow server costs one warning; the numbers are in the other two, and in MLflow once it is
    back. What it has not got by the end is told in `mlflow_pending.json`, for a resumed training or `send_pending`. No
    global active run is touched, so that runs may overlap in a process. Everything before `start` is free of charge.

    Args:
        uri: MLflow tracking URI, such as `sqlite:///mlruns.db`.
        experiment: MLflow experiment, by convention the dataset.
        run_name: unique name, such as `phase1-fold0-seed42-20260101T120000`.
        output_dir: folder of the run.
        params: settings, nested or not; keys are joined by dots, long values cut to MLflow's limit.
        tags: text about the run, such as the substitutions of a demonstration.
        parent_run: id of the run this one belongs to (a cross-validation).
        resume: continue the run that an earlier training left in `output_dir/mlflow_run.json`.
        artifacts: files and folders to store when the run ends, where they exist by then.
        data: the data set that MLflow lists as the run's input: `name`, `digest` (a hash that identifies it) and `context`,
            what it is used for.
        model: operation that logs the trained model when the run has FINISHED.
    """

    def __init__(
        self,
        *,
        uri: str,
        experiment: str,
        run_name: str,
        output_dir: str | Path,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, Any] | None = None,
        parent_run: str | None = None,
        resume: bool = False,
        artifacts: Sequence[str | Path] = (),
        data: Mapping[str, str] | None = None,
        model: Operation | None = None,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.run_name = run_name
        self._params = {_key(name): cut(value, PARAM_LENGTH) for name, value in _dotted(params or {})}
        self._artifacts = [Path(path) for path in artifacts]
        self._model = model
        named = {_key(name): cut(value, TAG_LENGTH) for name, value in (tags or {}).items()}
        named |= {} if parent_run is None else {"mlflow.parentRunId": parent_run}
        self._mlflow = MlflowRun(uri, experiment, run_name, named, self.output_dir / ID_FILE, resume)
        self._resume = resume
        self._pending = Pending(
            experiment, [run_name], named, self._params, dict(data) if data else None, model=model is not None
        )
        self._board: SummaryWriter | None = None
        self._running = False

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the run; None before `start`, without a server, and on ranks other than 0."""
        return self._mlflow.run_id

    def start(self) -> None:
        """Open the run and send its parameters; once only."""
        if self._running or not is_main():
            return
        from torch.utils.tensorboard import SummaryWriter

        self._running = True
        self.output_dir.mkdir(parents=True, exist_ok=True)
        self._board = SummaryWriter(str(self.output_dir / BOARD))
        atexit.register(self.finish, "KILLED")
        earlier = read_pending(self.output_dir) if self._resume else None
        for path in self._artifacts:
            self._pending.add_artifact(path, None, self.output_dir)
        if earlier is not None:
            self._pending.names = [*earlier.names, *self._pending.names]
            self._pending.artifacts += [one for one in earlier.artifacts if one not in self._pending.artifacts]
        self._pending.write(self.output_dir)
        if earlier is not None:  # first: a parameter that has changed is told as a change
            self._mlflow.submit(*earlier.operations(self.output_dir))
        self._mlflow.submit(send_params(self._params))
        if self._pending.data is not None:
            self._mlflow.submit(send_data(**self._pending.data))

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Record numbers of one step (an epoch); undefined ones are NaN (null in the file)."""
        if not is_main():
            return
        self.start()
        now = time.time()
        values = {_key(name): float(value) for name, value in metrics.items()}
        append_record(self.output_dir, {"run": self.run_name, "step": step, "time": now} | values)
        if self._board is not None:
            with naming(self.output_dir / BOARD):
                for name, value in values.items():
                    self._board.add_scalar(name, value, step, now)
                self._board.flush()
        self._mlflow.submit(send_metrics(values, step, int(now * 1000)))

    def log_artifact(self, path: str | Path, folder: str | None = None) -> None:
        """Store a file, or a folder's content, under `folder` of the run's artifacts."""
        if not is_main():
            return
        self.start()
        self._pending.add_artifact(Path(path), folder, self.output_dir)
        self._pending.write(self.output_dir)
        self._mlflow.submit(send_artifact(Path(path), folder))

    def log_image(self, path: Path, folder: str, step: int) -> None:
        """Store a PNG as `log_artifact` does, and show it in TensorBoard, where those of one name stand behind a slider."""
        self.log_artifact(path, folder)
        if self._board is not None:
            import numpy as np
            from PIL import Image

            with Image.open(path, formats=["PNG"]) as image, naming(self.output_dir / BOARD):
                self._board.add_image(f"panels/{path.stem}", np.asarray(image.convert("RGB")), step, dataformats="HWC")
                self._board.flush()

    def describe(self, text: str) -> None:
        """Make a text in Markdown the description on the run's page; longer ones than MLflow holds are cut."""
        if not is_main():
            return
        self.start()
        self._pending.tags[NOTE] = text[:TAG_LENGTH]
        self._pending.write(self.output_dir)
        self._mlflow.submit(send_tags({NOTE: text[:TAG_LENGTH]}))

    def finish(self, status: str = "FINISHED") -> None:
        """End the run as FINISHED, FAILED or KILLED; a run that is not open is left as it is."""
        if not self._running:
            return
        self._running = False
        atexit.unregister(self.finish)
        if self._board is not None:
            _close(self._board)
        self._pending.status = status
        self._pending.write(self.output_dir)
        self._mlflow.submit(*(send_artifact(path, None) for path in self._artifacts if path.exists()))
        if self._mlflow.finish(status):
            if self._model is not None and status == "FINISHED":
                self._mlflow.submit(self._model)  # last, so that a model that cannot be logged leaves the run ended
            (self.output_dir / PENDING).unlink(missing_ok=True)
        else:
            logger.info(
                "MLflow has not got all of %s: 'ultrarefiner track %s' sends it", self.run_name, self.output_dir
            )

    def finish_for_another(self, status: str) -> None:
        """End the run that another process has begun in the same folder and can no longer end."""
        self._mlflow.take_over(status)


def _close(board: "SummaryWriter") -> None:
    """Close TensorBoard's file, whose last numbers a full disk may refuse; `metrics.jsonl` has them, or has said why not."""
    with suppress(OSError):
        board.close()


def _dotted(params: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in params.items():
        name = f"{prefix}{key}"
        pairs += _dotted(value, f"{name}.") if isinstance(value, Mapping) and value else [(name, value)]
    return pairs


def _key(name: str) -> str:
    """A name with MLflow's alphabet and length."""
    return re.sub(r"[^\w\-. :/]", "_", str(name))[:KEY_LENGTH]
