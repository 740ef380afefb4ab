"""What became of a run, in one JSON file for programs, a log file and a last table for people."""

import logging
import platform
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

import ultrarefiner_monai
from ultrarefiner_monai.devices import is_main
from ultrarefiner_monai.files import json_or_empty, write_json
from ultrarefiner_monai.handlers.earlier_run import REPORT
from ultrarefiner_monai.handlers.failure import on_failure, was_stopped
from ultrarefiner_monai.handlers.progress import duration
from ultrarefiner_monai.metrics.classes import RATES
from ultrarefiner_monai.metrics.scores import SHORT, outputs_of
from ultrarefiner_monai.tracking.metrics_file import read_epochs

logger = logging.getLogger(__name__)

LOG = "run.log"
PACKAGES = ("torch", "monai", "pytorch-ignite", "mlflow", "numpy")
PACKAGE_LOG = logging.getLogger("ultrarefiner_monai")


class RunReport:
    """Writes `run.json` and `run.log` into the folder of a run and logs a last table of its best and last epoch.

    `run.json` says "running" from the start, so that a run which was killed does not leave the report of an earlier one.
    It ends as "finished", "interrupted" (by a signal) or "failed" (with the error). `run.log` has every line that the
    package logs, whatever is on the terminal; a resumed training adds to it. Rank 0 only.

    Args:
        output_dir: folder of the run.
        facts: what is known before, such as stage, data set and fold.
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
            engine.add_event_handler(Events.COMPLETED, lambda _: self._end("finished"))
            on_failure(engine, self._fail)

    def _begin(self, engine: Engine) -> None:
        self._begun, self._started = datetime.now(UTC), time.monotonic()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._log = _LogFile(self.folder / LOG, encoding="utf-8")
        self._log.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        PACKAGE_LOG.addHandler(self._log)
        PACKAGE_LOG.addHandler(self._warnings)
        self._write("running")

    def _fail(self, error: BaseException) -> None:
        if self._begun is not None:
            self._end("interrupted" if was_stopped(error) else "failed", _reason(error))

    def _end(self, status: str, error: str | None = None) -> None:
        try:
            content = self._write(status, error)
            table = final_table(content, read_epochs(self.folder))
            logger.info("\n".join(filter(None, (f"{status} after {duration(content['seconds'])}", table))))
        finally:
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
            "versions": {
                "python": platform.python_version(),
                "ultrarefiner_monai": ultrarefiner_monai.__version__,
                **{name: version(name) for name in PACKAGES},
            },
            "files": sorted(path.name for path in self.folder.iterdir() if not path.name.startswith(".")),
        }
        write_json(self.folder / REPORT, content, indent=2)
        return content


def report_for_another(folder: Path, error: BaseException) -> None:
    """Say in the report of a process that is gone that its run has failed."""
    content = json_or_empty(folder / REPORT, dict)
    if content.get("status") == "running":
        write_json(folder / REPORT, {**content, "status": "failed", "error": _reason(error)}, indent=2)


def _reason(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


class _LogFile(logging.FileHandler):
    """A log file that goes without the lines which a full disk refuses: the terminal has them, and no training ends for them."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Leave a line out; any other error is shown as logging does."""
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)

    def close(self) -> None:
        """Close the file, with what the disk takes."""
        with suppress(OSError):
            super().close()


class _Warnings(logging.Handler):
    """Keeps the lines of warnings and errors."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def final_table(report: Mapping[str, Any], epochs: Mapping[int, Mapping[str, Any]]) -> str:
    """Validation metrics of a training's best and last epoch, a line each; empty where there are none."""
    best = (report.get("best") or {}).get("epoch", 0)
    until = max(best, report.get("epochs", {}).get("done", 0))  # the file may hold later epochs of an earlier run
    outputs = outputs_of(name.removeprefix("val_") for name in epochs.get(best, ()) if name.startswith("val_"))
    if not outputs:
        return ""
    validated = [epoch for epoch, numbers in epochs.items() if epoch <= until and f"val_{outputs[0]}_dice" in numbers]
    names = [f"{output}_{name}" for output in (*outputs, "delta") for name in SHORT] + ["n_dice", "n_hd95"]
    names += [f"{outputs[-1]}_{rate}" for rate in RATES]
    shown = [name for name in names if f"val_{name}" in epochs[best]]
    widths = [max(len(name), 7) for name in shown]
    lines = ["epoch       " + " ".join(f"{name:>{width}}" for name, width in zip(shown, widths, strict=True))]
    for title, epoch in (("best", best), ("last", max(validated))):
        values = (epochs[epoch].get(f"val_{name}") for name in shown)
        texts = (
            "undefined" if value is None else f"{value:.0f}" if name.startswith("n_") else f"{value:.4f}"
            for name, value in zip(shown, values, strict=True)
        )
        cells = (f"{text:>{width}}" for text, width in zip(texts, widths, strict=True))
        lines.append(f"{title} {epoch:>5}  " + " ".join(cells))
    return "\n".join(lines)
