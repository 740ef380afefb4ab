"""The tasks of a cross-validation on a Ray cluster, many at a time."""

import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ultrarefiner_monai.cross_validation.engines import Task, _mistakes, _tell, attempt
from ultrarefiner_monai.errors import DataError

if TYPE_CHECKING:
    from ray import ObjectRef

logger = logging.getLogger(__name__)


RETRIES = 3  # of a task whose process died; Ray's own default
OBJECT_STORE = 80 * 1024**2  # bytes; about the least that Ray accepts, since tasks hand over one line each
REACH_S = 5.0  # seconds to reach a cluster; Ray itself would try for over ten minutes
LOOK_S = 1.0  # seconds from one look at the signals to the next
END_S = 10.0  # seconds for tasks to end when they are told to
STOPS = (signal.SIGINT, signal.SIGTERM)
FORWARDED = ("MLFLOW_TRACKING_URI",)  # parent and children belong into one store, whatever is set on their nodes


class RayEngine:
    """The tasks spread over a Ray cluster by its scheduler; those whose process dies are tried again, up to three times.

    Every node needs the same installation, and sees the working directory and all files of the tasks under the same paths.
    A task gets one GPU if any node has one.

    Args:
        address: a running cluster, `host:port` or "auto" for this node's; None starts one of this machine, which ends with
            the run.
        num_cpus: cores a task gets.

    Raises:
        DataError: Ray is not installed, or `num_cpus` is no positive number.
    """

    def __init__(self, address: str | None = None, num_cpus: int = 1) -> None:
        if not isinstance(num_cpus, int) or num_cpus < 1:
            raise DataError(f"num_cpus {num_cpus}: expected a whole number above 0, the cores of a task")
        # Ray reads both on import. It reports to its makers unless told not to, and merges the lines of several workers.
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        os.environ.setdefault("RAY_DEDUP_LOGS", "0")
        try:
            import ray  # noqa: F401
        except ImportError as error:
            raise DataError(
                "the engine 'ray' needs Ray, which is not installed: pip install 'ultrarefiner-monai[ray]'"
            ) from error
        self.address = address
        self.num_cpus = num_cpus

    def run(self, tasks: Sequence[Task]) -> dict[str, str]:
        """See `Engine`.

        Raises:
            DataError: no cluster at the address, or none of its nodes can do a task.
            SystemExit: 130 or 143 after SIGINT or SIGTERM, once the tasks have ended too.
        """
        import ray

        self._connect()
        try:
            with _signals() as arrived:
                return _mistakes(tasks, _follow(self._submit(tasks), arrived))
        finally:
            ray.shutdown()

    def _connect(self) -> None:
        import ray

        if self.address is None:
            ray.init(address="local", include_dashboard=False, object_store_memory=OBJECT_STORE)
            return
        try:
            if ":" in self.address:
                host, _, port = self.address.rpartition(":")
                socket.create_connection((host, int(port)), REACH_S).close()
            ray.init(address=self.address)
        except (OSError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise DataError(
                f"no Ray cluster at {self.address}: {reason}; start one with 'ray start --head', or name no address for "
                "one of this machine"
            ) from error

    def _submit(self, tasks: Sequence[Task]) -> "dict[ObjectRef, Task]":
        """Hand all tasks over; Ray starts each as soon as what it is given, the outcomes of those before it, is there."""
        import ray

        gpus = self._gpus()
        remote = ray.remote(num_cpus=self.num_cpus, max_retries=RETRIES, scheduling_strategy="SPREAD")(_attempt_on_node)
        environment = {name: os.environ[name] for name in FORWARDED if name in os.environ}
        refs: dict[str, ObjectRef] = {}
        for task in tasks:
            here = remote.options(name=task.name, num_gpus=gpus if task.gpu else 0)
            before = [refs[name] for name in task.after]
            refs[task.name] = here.remote(str(Path.cwd()), environment, task.work, *before)
        return {refs[task.name]: task for task in tasks}

    def _gpus(self) -> int:
        """GPUs a task gets; refuses a cluster on which it would wait for ever."""
        import ray

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = int(any("GPU" in node for node in nodes))
        if not any(node.get("CPU", 0) >= self.num_cpus and node.get("GPU", 0) >= gpus for node in nodes):
            found = ", ".join(f"{node.get('CPU', 0):.0f} cores and {node.get('GPU', 0):.0f} GPUs" for node in nodes)
            raise DataError(
                f"num_cpus {self.num_cpus}: no node of the Ray cluster has that many cores{' and a GPU' * gpus}, found {found}"
            )
        return gpus


def _attempt_on_node(
    folder: str, environment: dict[str, str], work: Callable[[], None], *before: str | None
) -> str | None:
    """`attempt` in the working directory and with the variables of the process that asks for it."""
    try:
        os.chdir(folder)
    except OSError as error:
        return f"{folder}: not seen by node {socket.gethostname()} ({error.strerror}); start where every node can read and write"
    os.environ.update(environment)
    # A node that a script has started in the background ignores SIGINT, by which Ray interrupts a task.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return attempt(work, *before)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM as they arrive; Ray's handlers would lose which it was, or end in SIGABRT."""
    arrived: list[int] = []
    before = {number: signal.signal(number, lambda number, _: arrived.append(number)) for number in STOPS}
    try:
        yield arrived
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _follow(submitted: "dict[ObjectRef, Task]", signals: Sequence[int]) -> dict[str, str | None]:
    """Wait for all tasks, telling each as it ends, until a signal arrives; returns their outcomes."""
    import ray

    outcomes: dict[str, str | None] = {}
    started = time.monotonic()
    while len(outcomes) < len(submitted):
        ended, _ = ray.wait([ref for ref, task in submitted.items() if task.name not in outcomes], timeout=LOOK_S)
        if signals:
            _end(list(submitted), signals[0])
        for task, ref in ((submitted[ref], ref) for ref in ended):
            kept_back = next((outcomes[name] for name in task.after if outcomes.get(name) is not None), None)
            outcomes[task.name] = kept_back or _outcome(ref, task.name)
            _tell(task, outcomes, list(submitted.values()), started)
    return outcomes


def _end(refs: "list[ObjectRef]", number: int) -> NoReturn:
    """Interrupt what is running, give it time to close its MLflow run, and end as the signal `number` demands."""
    import ray

    name = signal.Signals(number).name
    logger.warning("stopped by %s; the same command goes on from the last complete epochs", name)
    for ref in reversed(refs):  # those that others wait for at last, or the others would start
        ray.cancel(ref)
    ray.wait(refs, num_returns=len(refs), timeout=END_S)
    raise SystemExit(128 + number)


def _outcome(done: "ObjectRef", name: str) -> str | None:
    """What the task `name` came to; one whose process cannot be kept alive counts as a mistake."""
    import ray
    from ray.exceptions import NodeDiedError, OutOfMemoryError, WorkerCrashedError

    try:
        return ray.get(done)
    except (NodeDiedError, OutOfMemoryError, WorkerCrashedError) as error:
        return f"{name}: its process died {RETRIES + 1} times ({str(error).splitlines()[0]})"
