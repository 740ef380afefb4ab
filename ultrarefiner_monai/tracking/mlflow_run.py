"""One MLflow run that outlives its server: what cannot be sent waits, and training never does for long."""

import json
import logging
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from ultrarefiner_monai.files import atomic_write, read_json
from ultrarefiner_monai.schemas import NAME, TEXT, object_of
from ultrarefiner_monai.tracking.operations import Operation
from ultrarefiner_monai.tracking.relocation import strayed
from ultrarefiner_monai.tracking.store import StoreError, experiment_id, open_store, without_credentials
from ultrarefiner_monai.tracking.store_checks import database_of

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

logger = logging.getLogger(__name__)

RECORDED = object_of({"run_id": NAME}, {"experiment": TEXT})  # `mlflow_run.json`

# Seconds after a failure; longer where the failure itself took long, so that waiting stays under a tenth of the time.
PAUSE_S = 60.0


class MlflowRun:
    """A queue of operations on one run, sent in order by `flush`; nothing here raises because of the server.

    After a failure one warning is logged, the queue is kept, and the server is left alone for a while before the next
    try.

    Args:
        uri: tracking URI, such as `sqlite:///mlruns.db` or `http://127.0.0.1:5000`.
        experiment: name of the experiment, created where needed.
        name: name of the run.
        tags: tags of a new run.
        id_file: JSON file that remembers the run's id for a resumed training.
        resume: continue the run that `id_file` names.
        fallback: what the warning about a failing server says of the records.
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        name: str,
        tags: Mapping[str, str],
        id_file: Path,
        resume: bool = False,
        fallback: str = "training goes on, the numbers are kept in metrics.jsonl and TensorBoard",
    ) -> None:
        self.run_id: str | None = None
        self._uri = uri
        self._experiment = experiment
        self._name = name
        self._tags = dict(tags)
        self._id_file = id_file
        self._resume = resume
        self._fallback = fallback
        self._queue: deque[Operation] = deque()
        self._client: MlflowClient | None = None
        self._retry_at = 0.0
        self._warned = False

    def send(self, *operations: Operation) -> None:
        """Queue operations and send all, whatever the store raises where it fails."""
        self._queue.extend(operations)
        self._send()

    def submit(self, *operations: Operation) -> None:
        """Queue operations and send what can be sent now."""
        self._queue.extend(operations)
        self.flush()

    def flush(self, force: bool = False) -> bool:
        """Send the queue; True once it is empty. `force` tries even if the last failure was a moment ago."""
        started = time.monotonic()
        if started < self._retry_at and not force:
            return False
        try:
            self._send()
        except Exception as error:  # no failure of a server, its database or its client may stop a training
            self._report(error)
            now = time.monotonic()
            self._retry_at = now + max(PAUSE_S, 10 * (now - started))
            return False
        return True

    def finish(self, status: str) -> bool:
        """End the run with an MLflow status (FINISHED, FAILED, KILLED) after everything that waits; True if that has arrived."""
        self._queue.append(lambda client, run_id: client.set_terminated(run_id, status))
        return self.flush(force=True)

    def take_over(self, status: str) -> None:
        """End the run that `id_file` names, which a process that is gone has left open; nothing where it names none."""
        if self._id_file.is_file():
            self._resume = True
            self.finish(status)

    def _send(self) -> None:
        client, run_id = self._open()
        while self._queue:
            try:
                self._queue[0](client, run_id)
            except Exception as error:
                if getattr(error, "error_code", None) != "INVALID_PARAMETER_VALUE":
                    raise
                self._report(error)  # the server is well and will never accept this one: drop it
            self._queue.popleft()

    def _open(self) -> "tuple[MlflowClient, str]":
        if self._client is not None and self.run_id is not None:
            return self._client, self.run_id
        self._client = open_store(self._uri)
        # Processes that begin a cross-validation at the same moment share its run.
        self._id_file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._id_file.with_name(f".{self._id_file.name}.lock")):
            run = self._reopened(self._client)
            if run is None:
                experiment = experiment_id(self._client, self._uri, self._experiment)
                run = self._client.create_run(experiment, tags=self._tags, run_name=self._name)
            self.run_id = run.info.run_id
            with atomic_write(self._id_file, "w", encoding="utf-8") as file:
                json.dump({"experiment": self._experiment, "run_id": self.run_id}, file)
        self._warn_of_strayed_artifacts(self._client, run.info.experiment_id)
        return self._client, self.run_id

    def _reopened(self, client: "MlflowClient") -> "Run | None":
        if not (self._resume and self._id_file.is_file()):
            return None
        from mlflow.exceptions import MlflowException

        run_id = read_json(self._id_file, dict, "remove it to record a new run", RECORDED)["run_id"]
        try:
            client.update_run(run_id, status="RUNNING")
            return client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None  # another store than last time

    def _warn_of_strayed_artifacts(self, client: "MlflowClient", experiment: str) -> None:
        database = database_of(self._uri)
        folder = database and strayed(client.get_experiment(experiment).artifact_location, database)
        if folder:
            logger.warning(
                "MLflow store %s was moved or copied and still keeps artifacts in %s; "
                "'ultrarefiner relocate --tracking_uri %s' makes it use the folder beside it",
                *(self._uri, folder, self._uri),
            )

    def _report(self, error: Exception) -> None:
        if self._warned:
            return
        self._warned = True
        if isinstance(error, StoreError):
            logger.warning("%s; %s", error, self._fallback)
        else:
            reason = without_credentials(" ".join(str(error).split()))[:200]
            logger.warning("MLflow at %s fails (%s); %s", without_credentials(self._uri), reason, self._fallback)
