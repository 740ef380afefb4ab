"""What became of a run, in one JSON file for programs, a log file and a last table for people."""

import json
import logging
import platform
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

import ultrarefiner_monai
from ultrarefiner_monai.devices import is_main
from ultrarefiner_monai.files import atomic_write
from ultrarefiner_monai.handlers.failure import on_failure, was_stopped
from ultrarefiner_monai.handlers.progress import duration
from ultrarefiner_monai.tracking.metrics_file import read_epochs

logger = logging.getLogger(__name__)

REPORT, LOG = "run.json", "run.log"
PACKAGES = ("torch", "monai", "pytorch-ignite", "mlflow", "numpy")
SHOWN = ("dice", "iou", "hd95")  # columns of the last table, for each stage and the difference
PACKAGE_LOG = logging.getLogger("ultrarefiner_monai")


class RunReport:
    """Writes `run.json` and `run.log` into the folder of a run and logs a last table of its best and last epoch.

    `run.json` says "running" from the start, so that a run which was killed does not leave the report of an earlier one.
    It ends as "finished", "interrupted" (by a signal) or "failed" (with the error). `run.log` has every line that the
    package logs, whatever is on the terminal; a resumed training adds to it. Rank 0 only.

    Args:
        output_dir: folder of the run.
        facts: what is known before, such as phase, data set and fold.
        results: called at the end, for what is known then.
    """

    def __init__(
        self, output_dir: str | Path, facts: Mapping[str, Any], results: Callable[[], Mapping[str, Any]] = dict
    ) -> None:
        self.folder = Path(output_dir)
        self.facts = dict(facts)
        self.results = results
        self._begun: datetime | None = None
        self._started = 0.0
        self._warnings = _Warnings(logging.WARNING)
        self._log: logging.Handler | None = None

    def attach(self, engine: Engine) -> None:
        """Follow a trainer or an evaluator; after a handler that may refuse to start, nothing is written where it does."""
        if is_main():
            engine.add_event_handler(Events.STARTED, self._begin)
            engine.add_event_handler(Events.COMPLETED, self._complete)
            on_failure(engine, self._fail)

    def _begin(self, engine: Engine) -> None:
        self._begun, self._started = datetime.now(UTC), time.monotonic()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._log = logging.FileHandler(self.folder / LOG, encoding="utf-8")
        self._log.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        PACKAGE_LOG.addHandler(self._log)
        PACKAGE_LOG.addHandler(self._warnings)
        self._write("running")

    def _complete(self, _: Engine) -> None:
        self._end("finished")

    def _fail(self, error: BaseException) -> None:
        if self._begun is not None:
            self._end(
                "interrupted" if was_stopped(error) else "failed", " ".join(f"{type(error).__name__}: {error}".split())
            )

    def _end(self, status: str, error: str | None = None) -> None:
        content = self._write(status, error)
        table = final_table(content, read_epochs(self.folder))
        logger.info("%s after %s%s", status, duration(content["seconds"]), f"\n{table}" if table else "")
        PACKAGE_LOG.removeHandler(self._warnings)
        if self._log is not None:
            PACKAGE_LOG.removeHandler(self._log)
            self._log.close()
        self._begun = None

    def _write(self, status: str, error: str | None = None) -> dict[str, Any]:
        content = {
            **self.facts,
            "status": status,
            "error": error,
            "started": self._begun.isoformat(timespec="seconds") if self._begun else None,
            "seconds": round(time.monotonic() - self._started, 1),
            **self.results(),
            "warnings": self._warnings.lines,
            "versions": versions(),
            "files": sorted(path.name for path in self.folder.iterdir() if not path.name.startswith(".")),
        }
        with atomic_write(self.folder / REPORT, "w", encoding="utf-8") as file:
            file.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        return content


class _Warnings(logging.Handler):
    """Keeps the lines of warnings and errors."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of what it computes with."""
    own = {"python": platform.python_version(), "ultrarefiner_monai": ultrarefiner_monai.__version__}
    return own | {name: version(name) for name in PACKAGES}


def final_table(report: Mapping[str, Any], epochs: Mapping[int, Mapping[str, Any]]) -> str:
    """Validation metrics of a training's best and last epoch, a line each; empty where there are none."""
    best = (report.get("best") or {}).get("epoch", 0)
    until = max(best, report.get("epochs", {}).get("done", 0))  # the file may hold later epochs of an earlier run
    validated = [epoch for epoch, numbers in epochs.items() if epoch <= until and "val_coarse_dice" in numbers]
    if best not in validated:
        return ""
    names = [f"{stage}_{name}" for stage in ("coarse", "refined", "delta") for name in SHOWN]
    shown = [name for name in names if f"val_{name}" in epochs[best]]
    widths = [max(len(name), 7) for name in shown]
    lines = ["epoch       " + " ".join(f"{name:>{width}}" for name, width in zip(shown, widths, strict=True))]
    for title, epoch in (("best", best), ("last", max(validated))):
        values = (_number(epochs[epoch].get(f"val_{name}"), width) for name, width in zip(shown, widths, strict=True))
        lines.append(f"{title} {epoch:>5}  " + " ".join(values))
    return "\n".join(lines)


def _number(value: float | None, width: int) -> str:
    return f"{'undefined' if value is None else format(value, '.4f'):>{width}}"
