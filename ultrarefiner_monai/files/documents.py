"""JSON in and out, within limits."""

import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from ultrarefiner_monai.errors import SHOWN_PROBLEMS, CodeError, DataError, one_line, shown
from ultrarefiner_monai.files.reading import regular
from ultrarefiner_monai.files.writing import write_atomically
from ultrarefiner_monai.schemas import Schema, brief, fault_in, problems

Plain = TypeVar("Plain", dict, list)
KINDS: dict[type, str] = {dict: "object", list: "list"}
# The manifest of 100 000 images (600 bytes and 15 values each); what is within them is read in two seconds and 512 MiB.
MAX_BYTES, MAX_VALUES = 64 * 2**20, 1_500_000
OTHERS = 4  # times as much of the files of others: the outlines of a large data set in COCO's form


def json_text(content: Any, indent: int = 1) -> str:
    """Plain values as strict JSON; numbers that are not finite become null.

    Halves of surrogate pairs, which UTF-8 does not have, are written as JSON's escapes and read back as they were.
    """
    text = json.dumps(finite(content), indent=indent, ensure_ascii=False, allow_nan=False)
    return text.encode(errors="backslashreplace").decode() + "\n"


def write_json(path: str | Path, content: Any, indent: int = 1) -> None:
    """Write plain values with `json_text` and `write_atomically`."""
    write_atomically(path, json_text(content, indent).encode())


def read_json(
    path: str | Path, kind: type[Plain], advice: str, schema: Schema | None = None, code: bool = False
) -> Plain:
    """The content of a JSON file.

    Args:
        path: the file.
        kind: what it must hold: dict or list.
        advice: the next step, for the error.
        schema: what its parts must be.
        code: whether texts that MONAI would run, and NaN, may stand in it, as in its configurations and in the files of others,
            of which only named parts are taken.

    Raises:
        DataError: it is absent, unreadable, no JSON, of another kind, or does not fit the schema.
        CodeError: it holds code and must not.
    """
    try:
        content = parse_json(bytes_of(Path(path)), code)
    except CodeError as error:
        raise CodeError(f"{path}: {error}; {advice}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({one_line(error)}); {advice}") from None
    if not isinstance(content, kind):
        raise DataError(f"{path}: expected a JSON {KINDS[kind]}, found {type(content).__name__}; {advice}")
    if schema is not None and (wrong := list(problems(content, schema))):
        raise DataError(f"{path}: {shown(wrong, SHOWN_PROBLEMS, '; ')}; {advice}")
    return content


def json_or_empty(path: str | Path, kind: type[Plain], schema: Schema | None = None, code: bool = False) -> Plain:
    """The content of a JSON file, an empty dict or list where it is absent, unreadable or does not fit; see `read_json`.

    Raises:
        CodeError: it holds code and must not.
    """
    try:
        return read_json(path, kind, "", schema, code)
    except CodeError:
        raise
    except DataError:
        return kind()


def parse_json(content: bytes, code: bool = False) -> Any:
    """JSON in UTF-8 as plain values, within limits that keep what it costs small.

    Raises:
        ValueError: no JSON, too large, too deep, a key twice, numbers that are not finite, or texts that are none.
        CodeError: as `read_json`.
    """
    share = OTHERS if code else 1
    if len(content) > share * MAX_BYTES:
        raise ValueError(f"more than {share * MAX_BYTES // 2**20} MiB")
    if sum(map(content.count, (b",", b"[", b"{"))) > share * MAX_VALUES:
        raise ValueError(f"more than {share * MAX_VALUES:,} values")
    value = json.loads(
        content.decode("utf-8"), parse_constant=float if code else _no_number, object_pairs_hook=_without_doubles
    )
    if found := fault_in(value, code):
        where = f"{found[0]}: " if found[0] else ""
        raise (CodeError if found[1].endswith("as code") else ValueError)(f"{where}{found[1]}")
    return value


def bytes_of(path: Path) -> bytes:
    """The bytes of a file, one more than there may be at most; OSError where it is none, or is not there."""
    with regular(path).open("rb") as file:
        return file.read(OTHERS * MAX_BYTES + 1)


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        doubled = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"key {brief(doubled)} stands there twice")
    return found


def finite(value: Any, instead: Any = None) -> Any:
    """A copy of plain values, nested or not, with `instead` for numbers that are not finite, which JSON does not have."""
    if isinstance(value, Mapping):
        return {key: finite(part, instead) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part, instead) for part in value]
    return instead if isinstance(value, float) and not math.isfinite(value) else value
