"""What can be told to an MLflow run: operations, each called with a client and the run's id."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ultrarefiner_monai.texts import printable
from ultrarefiner_monai.tracking.metrics_file import read_records

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

Operation = Callable[["MlflowClient", str], Any]

PARAM_LENGTH, TAG_LENGTH, KEY_LENGTH = 6000, 5000, 250  # what MLflow 3 and its servers' databases accept
DATASET_LENGTH, DIGEST_LENGTH = 500, 36
BATCH = 100  # parameters in one request
METRICS_BATCH = 1000  # numbers in one request, MLflow's limit


def send_params(params: Mapping[str, str]) -> Operation:
    """Send parameters, those of them that the run does not have."""
    return lambda client, run_id: _send_params(client, run_id, params)


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


def send_metrics(values: Mapping[str, float], step: int, timestamp: int) -> Operation:
    """Send the numbers of a step, at a time in milliseconds."""

    def send(client: Any, run_id: str) -> None:
        from mlflow.entities import Metric

        client.log_batch(run_id, metrics=[Metric(key, value, timestamp, step) for key, value in values.items()])

    return send


def send_records(folder: Path, names: Sequence[str]) -> Operation:
    """Send all numbers in `metrics.jsonl` of runs with these names; a store knows those that it has by their time."""

    def send(client: Any, run_id: str) -> None:
        from mlflow.entities import Metric

        found = [
            Metric(key, math.nan if value is None else value, int(record["time"] * 1000), record["step"])
            for record in read_records(folder)
            if record.get("run") in names
            for key, value in record.items()
            if key not in ("run", "step", "time")
        ]
        for start in range(0, len(found), METRICS_BATCH):
            client.log_batch(run_id, metrics=found[start : start + METRICS_BATCH])

    return send


def send_tags(tags: Mapping[str, str]) -> Operation:
    """Send tags, in place of those of the same names."""

    def send(client: Any, run_id: str) -> None:
        from mlflow.entities import RunTag

        client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    return send


def send_data(name: str, digest: str, context: str) -> Operation:
    """Send the data set that is the run's input."""

    def send(client: Any, run_id: str) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source = json.dumps({"manifest_sha256": digest})
        dataset = Dataset(cut(name, DATASET_LENGTH), digest[:DIGEST_LENGTH], "manifest", source)
        client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", context)])])

    return send


def send_artifact(path: Path, folder: str | None) -> Operation:
    """Send a file, or a folder's content, into `folder` of the run's artifacts."""

    def send(client: Any, run_id: str) -> None:
        if path.is_dir():
            client.log_artifacts(run_id, str(path), folder or path.name)
        elif path.is_file():
            client.log_artifact(run_id, str(path), folder)

    return send


def cut(value: Any, length: int) -> str:
    """The text of a value in one line of printable letters, at most so long."""
    text = printable(str(value))
    return text if len(text) <= length else text[: length - 1] + "…"
