"""One key of a configuration: what its value may be, and how a value that a user has typed is read."""

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.schemas import of
from ultrarefiner_monai.systems.classes import LESION, told_apart

Kind = Literal["whole number", "number", "truth value", "text", "path", "file", "choice", "device", "classes"]
WORDS = {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}  # in any case
EXPECTED = {
    "truth value": "true or false",
    "text": "text",
    "file": "an existing file",
    "device": "cpu, cuda or cuda:N",
    "classes": f"{LESION}, or two or more names such as benign+malignant",
}
JSON_TYPES = {"whole number": "integer", "number": "number", "truth value": "boolean"}  # the others are texts
SHOWN = 200  # letters of a value that is none
BOUNDS: dict[str, tuple[Callable[[float, float], bool], str, str]] = {  # check, words, keyword of JSON Schema
    "above": (operator.gt, "above", "exclusiveMinimum"),
    "least": (operator.ge, "of at least", "minimum"),
    "below": (operator.lt, "below", "exclusiveMaximum"),
    "most": (operator.le, "at most", "maximum"),
}


@dataclass(frozen=True)
class Key:
    """A key at the top of a configuration that holds one value.

    Its default is what the configuration says; where that is null, null is a value too.

    Args:
        name: as in `--name`.
        kind: of the value; a "file" is there already, a "path" need not be.
        meaning: for people, in Markdown.
        stages: those in whose configurations it means this; empty for all.
        choices: the words that a "choice" may be, or a "file" in place of a file.
        above, least, below, most: bounds of a number.
        may_lack: whether it is null in the card of a network to which it means nothing.
    """

    name: str
    kind: Kind
    meaning: str
    stages: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    above: float | None = None
    least: float | None = None
    below: float | None = None
    most: float | None = None
    may_lack: bool = False

    @property
    def bounds(self) -> dict[str, float]:
        """The bounds that it has."""
        return {name: bound for name in BOUNDS if (bound := getattr(self, name)) is not None}

    @property
    def schema(self) -> dict[str, Any]:
        """The values that it can have, as a file has them."""
        if self.kind == "choice":
            return of(self.expected, enum=list(self.choices))
        bounds = {BOUNDS[name][2]: bound for name, bound in self.bounds.items()}
        return of(self.expected, type=JSON_TYPES.get(self.kind, "string"), **bounds)

    @property
    def expected(self) -> str:
        """What a value must be, such as "a whole number above 0"."""
        if self.kind == "choice":
            return f"one of {', '.join(self.choices)}"
        bounds = " and ".join(f"{BOUNDS[name][1]} {bound}" for name, bound in self.bounds.items())
        words = f"{EXPECTED.get(self.kind, f'a {self.kind}')} {bounds}".rstrip()
        return " or ".join([words, *self.choices])

    def read(self, value: Any) -> Any:
        """The value as it is meant: the text "false" of a truth value is False, "3" of a number is 3.

        A whole number has no decimal point (1.0 is none), and a truth value is no number.

        Raises:
            DataError: it is none that the key can have.
        """
        try:
            found = self._read(value)
            if all(BOUNDS[name][0](found, bound) for name, bound in self.bounds.items()):
                return found
        except (ValueError, OverflowError):
            pass
        raise DataError(f"{self.name}: expected {self.expected}, found {value!r:.{SHOWN}}")

    def _read(self, value: Any) -> Any:
        match self.kind, value:
            case _, str() if value in self.choices:
                return value
            case "truth value", bool() | str() if str(value).lower() in WORDS:
                return WORDS[str(value).lower()]
            case "whole number", int() | str() if not isinstance(value, bool):
                return int(value)
            case "number", int() | float() | str() if not isinstance(value, bool) and math.isfinite(float(value)):
                return float(value) if isinstance(value, str) else value
            case "text" | "path", str() | Path() if str(value).strip():
                return str(value)
            case "file", str() | Path() if Path(value).is_file():
                return str(value)
            case "device", _ if re.fullmatch(r"cpu|cuda(:\d+)?", str(value)):
                return value
            case "classes", str() if told_apart(value) or value == LESION:
                return value
        raise ValueError
