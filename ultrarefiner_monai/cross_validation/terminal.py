"""What a cross-validation shows: a line as a task begins and ends, each warning once, and a table of 80 columns at the end.

Everything else that its trainings log is in the `run.log` of each.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ultrarefiner_monai.cross_validation.scores import TEST
from ultrarefiner_monai.metrics.scores import outputs_of

OWN = __package__
# Loggers with handlers of their own: one says that it applies no logging.conf, one that it checks an example.
LOUD = {"monai.bundle.workflows": logging.ERROR, "mlflow.pyfunc": logging.WARNING}
MEAN, DEVIATION = "mean", "sd"  # lines over folds


def log_to_terminal() -> None:
    """Log to standard error what a person who waits wants to know."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    handler.addFilter(_Wanted())
    logging.basicConfig(handlers=[handler])
    logging.getLogger("ultrarefiner_monai").setLevel(logging.INFO)
    for name, level in LOUD.items():
        logging.getLogger(name).setLevel(level)


class _Wanted(logging.Filter):
    """Lines of the cross-validation, and warnings of anybody, each once: every training of it would repeat them."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is shown."""
        if record.levelno < logging.WARNING:
            return record.name.startswith(OWN)
        text = record.getMessage()
        is_new = text not in self._seen
        self._seen.add(text)
        return is_new


def short_table(lines: Sequence[Mapping[str, Any]]) -> str:
    """The lines of `scores.summary` that matter most, at most 80 columns wide: means over folds, and the test images.

    Dice of each output, of several also the change from the first to the last, HD95 of the last, and how often classes are right.
    """
    outputs = list(dict.fromkeys(name for line in lines for name in outputs_of(line)))
    last = outputs[-1]
    columns = {f"{output}_dice": output for output in outputs} | {"delta_dice": "change", f"{last}_hd95": "HD95"}
    columns |= {f"{last}_accuracy": "accuracy", f"{last}_auc": "AUC"}
    columns = {name: title for name, title in columns.items() if any(name in line for line in lines)}
    over_folds = {line["phase"] for line in lines if line["fold"] == MEAN}
    table = [f"{'Dice of':<10} {'':<6} images" + "".join(f" {title:>8}" for title in columns.values())]
    for line in lines:
        if line["fold"] in (MEAN, TEST) or (line["phase"] not in over_folds and line["fold"] != DEVIATION):
            place = f"fold {line['fold']}" if isinstance(line["fold"], int) else line["fold"]
            cells = "".join(f" {_number(line, name):>8}" for name in columns)
            table.append(f"{line['phase']:<10} {place:<6} {line['images']:>6}{cells}")
    return "\n".join(table)


def _number(line: Mapping[str, Any], name: str) -> str:
    if name not in line:
        return ""
    if math.isnan(line[name]):
        return "–"
    return f"{line[name]:.1f}" if name.endswith("hd95") else f"{line[name]:{'+' if name == 'delta_dice' else ''}.4f}"
