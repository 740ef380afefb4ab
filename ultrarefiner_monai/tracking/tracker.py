"""What happened in a training, number by number: MLflow, TensorBoard and a plain file."""

import atexit
import json
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ultrarefiner_monai.devices import is_main
from ultrarefiner_monai.texts import printable
from ultrarefiner_monai.tracking.metrics_file import append_record
from ultrarefiner_monai.tracking.mlflow_run import MlflowRun, Operation

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


PARAM_LENGTH, TAG_LENGTH, KEY_LENGTH = 6000, 5000, 250  # what MLflow 3 and its servers' databases accept
DATASET_LENGTH, DIGEST_LENGTH = 500, 36
BATCH = 100  # parameters in one request


class Tracker:
    """One run in MLflow, TensorBoard (`output_dir/tensorboard`) and `output_dir/metrics.jsonl`; rank 0 only.

    A dead, slow or failing MLflow server costs one warning; the numbers are in the other two, and in MLflow once it is
    back. No global active run is touched, so that runs may overlap in a process. Everything before `start` is free of
    charge.

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
        self._params = {_key(name): _cut(value, PARAM_LENGTH) for name, value in _dotted(params or {})}
        self._artifacts = [Path(path) for path in artifacts]
        self._data = data
        self._model = model
        named = {_key(name): _cut(value, TAG_LENGTH) for name, value in (tags or {}).items()}
        parent = {} if parent_run is None else {"mlflow.parentRunId": parent_run}
        self._mlflow = MlflowRun(uri, experiment, run_name, named | parent, self.output_dir / "mlflow_run.json", resume)
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
        self._board = SummaryWriter(str(self.output_dir / "tensorboard"))
        atexit.register(self.finish, "KILLED")
        self._mlflow.submit(lambda client, run_id: _send_params(client, run_id, self._params))
        if self._data is not None:
            self._mlflow.submit(_send_data(**self._data))

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Record numbers of one step (an epoch); undefined ones are NaN (null in the file)."""
        if not is_main():
            return
        self.start()
        now = time.time()
        values = {_key(name): float(value) for name, value in metrics.items()}
        append_record(self.output_dir, {"run": self.run_name, "step": step, "time": now} | values)
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step, now)
            self._board.flush()
        self._mlflow.submit(_send_metrics(values, step, int(now * 1000)))

    def log_artifact(self, path: str | Path, folder: str | None = None) -> None:
        """Store a file, or a folder's content, under `folder` of the run's artifacts."""
        if not is_main():
            return
        self.start()
        self._mlflow.submit(_send_artifact(Path(path), folder))

    def finish(self, status: str = "FINISHED") -> None:
        """End the run as FINISHED, FAILED or KILLED; a run that is not open is left as it is."""
        if not self._running:
            return
        self._running = False
        atexit.unregister(self.finish)
        if self._board is not None:
            self._board.close()
        self._mlflow.submit(*(_send_artifact(path, None) for path in self._artifacts if path.exists()))
        self._mlflow.finish(status)
        if self._model is not None and status == "FINISHED":
            self._mlflow.submit(self._model)  # last, so that a model that cannot be logged leaves the run ended


def _send_params(client: Any, run_id: str, params: Mapping[str, str]) -> None:
    """Send what the run does not have yet; a parameter is fixed in MLflow, so a resumed run's change becomes a tag."""
    from mlflow.entities import Param, RunTag

    known = client.get_run(run_id).data.params
    new = [Param(key, value) for key, value in params.items() if key not in known]
    changed = [
        RunTag(f"resumed.{key}"[:KEY_LENGTH], params[key][:TAG_LENGTH])
        for key in params.keys() & known.keys()
        if params[key] != known[key]
    ]
    for start in range(0, len(new), BATCH):
        client.log_batch(run_id, params=new[start : start + BATCH])
    for start in range(0, len(changed), BATCH):
        client.log_batch(run_id, tags=changed[start : start + BATCH])


def _send_metrics(values: Mapping[str, float], step: int, timestamp: int) -> Operation:
    def send(client: Any, run_id: str) -> None:
        from mlflow.entities import Metric

        client.log_batch(run_id, metrics=[Metric(key, value, timestamp, step) for key, value in values.items()])

    return send


def _send_data(name: str, digest: str, context: str) -> Operation:
    def send(client: Any, run_id: str) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source = json.dumps({"manifest_sha256": digest})
        dataset = Dataset(_cut(name, DATASET_LENGTH), digest[:DIGEST_LENGTH], "manifest", source)
        client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", context)])])

    return send


def _send_artifact(path: Path, folder: str | None) -> Operation:
    def send(client: Any, run_id: str) -> None:
        if path.is_dir():
            client.log_artifacts(run_id, str(path), folder or path.name)
        elif path.is_file():
            client.log_artifact(run_id, str(path), folder)

    return send


def _dotted(params: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in params.items():
        name = f"{prefix}{key}"
        pairs += _dotted(value, f"{name}.") if isinstance(value, Mapping) and value else [(name, value)]
    return pairs


def _key(name: str) -> str:
    """A name with MLflow's alphabet and length."""
    return re.sub(r"[^\w\-. :/]", "_", str(name))[:KEY_LENGTH]


def _cut(value: Any, length: int) -> str:
    text = printable(str(value))
    return text if len(text) <= length else text[: length - 1] + "…"
