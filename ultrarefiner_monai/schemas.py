"""What files of data may hold: JSON Schemas in the words of our messages, and the texts that are data in no file.

Each kind of file has one schema, beside the code that reads it; `PUBLISHED` lists them. They use the small part of JSON
Schema (2020-12) that `problems` knows; the `description` of each says in words what is expected.
`python -m ultrarefiner_monai.schemas docs/reference` writes them for other programs.
"""

import math
import re
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from ultrarefiner_monai.errors import CodeError

Schema = Mapping[str, Any]

PUBLISHED = {  # file in docs/reference -> the schema, or a function that gives it
    "manifest": "ultrarefiner_monai.data.manifests.validate:json_schema",
    "predictions": "ultrarefiner_monai.data.predictions.index:INDEX",
    "inventory": "ultrarefiner_monai.data.releases.inventory:ROW",
    "model": "ultrarefiner_monai.models.card_schema:json_schema",
    "run": "ultrarefiner_monai.handlers.earlier_run:RUN",
    "settings": "ultrarefiner_monai.handlers.earlier_run:BEGUN_WITH",
    "finished": "ultrarefiner_monai.handlers.earlier_run:FINISHED",
    "system": "ultrarefiner_monai.cross_validation.tasks:OF_SYSTEM",
    "excluded": "ultrarefiner_monai.bundle.preflight.data:LEFT_OUT",
    "mlflow_run": "ultrarefiner_monai.tracking.mlflow_run:RECORDED",
}
# MONAI's parser (monai.bundle, 1.6) runs a text that begins with "$", puts something else in place of one that begins with
# "@" or "%", and resolves relative references ("@#", the same as "@::") anywhere in a text.
CODE = re.compile(r"^[$@%]|[@%]::")
NO_TEXT = re.compile("[\ud800-\udfff]")  # half of a surrogate pair
CODE_KEYS = frozenset({"_target_", "_disabled_", "_requires_", "_desc_", "_mode_"})  # of its components
MAX_DEPTH = 32  # the deepest of our files, a configuration, has nine levels
WHOLE = 2**63  # beyond it other programs read other numbers
LETTERS = 60  # of a value that a message shows
TYPES: dict[str, Any] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}
CHECKS: dict[str, Any] = {  # the keywords that look at a value itself; those of another type pass
    "type": lambda value, name: TYPES[name](value),
    "const": lambda value, one: type(value) is type(one) and value == one,
    "enum": lambda value, known: any(type(value) is type(one) and value == one for one in known),
    "anyOf": lambda value, several: any(fits(value, one) for one in several),
    "pattern": lambda value, pattern: not isinstance(value, str) or re.search(pattern, value) is not None,
    "maxLength": lambda value, most: not isinstance(value, str) or len(value) <= most,
    "minItems": lambda value, least: not isinstance(value, list) or len(value) >= least,
    "maxItems": lambda value, most: not isinstance(value, list) or len(value) <= most,
    "minimum": lambda value, least: not TYPES["number"](value) or value >= least,
    "maximum": lambda value, most: not TYPES["number"](value) or value <= most,
    "exclusiveMinimum": lambda value, least: not TYPES["number"](value) or value > least,
    "exclusiveMaximum": lambda value, most: not TYPES["number"](value) or value < most,
}


def of(words: str, **keywords: Any) -> dict[str, Any]:
    """A schema whose messages say "expected `words`"; `keywords` are JSON Schema's."""
    return {"description": words, **keywords}


def list_of(part: Schema, **keywords: Any) -> dict[str, Any]:
    """Schema of a list."""
    return of("a list", type="array", items=part, **keywords)


def object_of(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None, **keywords: Any) -> dict:
    """Schema of an object; other keys than these may hold anything, unless `additionalProperties` says more."""
    properties = {**required, **(optional or {})}
    return of("an object", type="object", required=list(required), properties=properties, **keywords)


def or_null(schema: Schema) -> dict[str, Any]:
    """The schema, or null."""
    return of(f"{schema['description']} or null", anyOf=[schema, {"type": "null"}])


TEXT = of("text", type="string")
TEXTS = of("a list of texts", type="array", items=TEXT)
COUNT = of("a whole number of at least 0", type="integer", minimum=0, maximum=WHOLE)
PIXELS = of("a whole number above 0", type="integer", exclusiveMinimum=0, maximum=10**6)
NUMBER = of("a number", type="number")
TRUTH = of("true or false", type="boolean")
SHA256 = of("64 hexadecimal digits", type="string", pattern="^[0-9a-f]{64}$")
NAME = of("a name of letters, digits, '_', '-' and '.'", type="string", pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$")
# `data.releases.roots.unsafe`: not absolute, no "..", backslash or control character.
PATH = of(
    "a path inside the folder, with '/'",
    type="string",
    maxLength=1000,
    pattern=r"^(?!/|.:|(.*/)?\.\.(/|$))[^\\\u0000-\u001f\u007f]+$",
)
PLAIN = of("text, a number, true, false or null", anyOf=[TEXT, NUMBER, TRUTH, {"type": "null"}])
VALUE = of("a plain value or a list of such", anyOf=[*PLAIN["anyOf"], list_of(PLAIN)])


def problems(value: Any, schema: Schema, where: str = "") -> Iterator[str]:
    """What is wrong with a value, a line each: the field, what was expected, what was found."""
    if not all(check(value, schema[keyword]) for keyword, check in CHECKS.items() if keyword in schema):
        prefix = f"{where}: " if where else ""
        yield f"{prefix}expected {schema.get('description', 'another value')}, found {brief(value)}"
        return
    if isinstance(value, dict):
        yield from (f"{inside(where, key)}: missing" for key in schema.get("required", ()) if key not in value)
        known, others = schema.get("properties", {}), schema.get("additionalProperties")
        parts = ((inside(where, key), part, known.get(key, others)) for key, part in value.items())
    elif isinstance(value, list):
        parts = ((f"{where}[{position}]", part, schema.get("items")) for position, part in enumerate(value))
    else:
        return
    for name, part, inner in parts:
        if inner:
            yield from problems(part, inner, name)


def fits(value: Any, schema: Schema) -> bool:
    """Whether a value has no problem."""
    return next(problems(value, schema), None) is None


def brief(value: Any, letters: int = LETTERS) -> str:
    """A value as a message shows it, in one line of at most so many letters."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    text = repr(value[: letters + 1] if isinstance(value, str) else value)
    return text if len(text) <= letters else f"{text[:letters]}…"


def is_code(text: str) -> bool:
    """Whether MONAI's parser would run a text, or put something else in its place."""
    return CODE.search(text.replace("#", "::")) is not None  # as the parser does first


def fault_in(value: Any, code: bool = False, depth: int = 0) -> tuple[str, str] | None:
    """Where plain values, at any depth, hold what no data of ours do, and what it is; None where they are sound.

    Args:
        value: as JSON gives it.
        code: whether it is a configuration or a file of others: texts and keys that MONAI would run may stand in it, and NaN.
        depth: levels above.
    """
    match value:
        case str():
            if NO_TEXT.search(value):
                return "", f"half of a surrogate pair in {brief(value)}"
            return ("", f"{brief(value)} would run as code") if not code and is_code(value) else None
        case dict() | list() if depth == MAX_DEPTH:
            return "", f"more than {MAX_DEPTH} levels"
        case dict():
            for key, part in value.items():
                if not code and key in CODE_KEYS:
                    return "", f"key {key!r} would run as code"
                if found := fault_in(key, code) or fault_in(part, code, depth + 1):
                    return inside("", key) + dotted(found[0]), found[1]
        case list():
            for position, part in enumerate(value):
                if found := fault_in(part, code, depth + 1):
                    return f"[{position}]{dotted(found[0])}", found[1]
        case float() if not code and not math.isfinite(value):
            return "", "a number that is not finite"
        case int() if abs(value) > WHOLE:
            return "", "a whole number of more than 64 bits"
    return None


def as_data(value: Any, name: str) -> Any:
    """A value on its way into a configuration: itself, where the configuration's reader will take it for data.

    Args:
        value: plain, nested or not.
        name: what an error calls it.

    Raises:
        CodeError: it would run, or be taken for a reference.
    """
    if found := fault_in(value):
        raise CodeError(
            f"{name}{dotted(found[0]) if name else found[0]}: {found[1]}; expected data, rename or remove it"
        )
    return value


def without_code(document: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a configuration that are data."""
    return {key: value for key, value in document.items() if fault_in({key: value}) is None}


def published(name: str) -> dict[str, Any]:
    """The schema of a kind of file, as docs/reference has it."""
    module, _, found = PUBLISHED[name].partition(":")
    schema = getattr(import_module(module), found)
    about = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return {**about, "title": f"{name}.json of ultrarefiner_monai", **(schema() if callable(schema) else schema)}


def inside(where: str, key: str) -> str:
    """A field's name in a message: the key, in one short line, below `where`."""
    return where + (dotted if where else str)(brief(key)[1:-1])


def dotted(field: str) -> str:
    """A field's name as it follows another's."""
    return field if not field or field.startswith("[") else f".{field}"


def _write(folder: Path) -> None:
    from ultrarefiner_monai.files import write_json  # it needs this module

    for name in PUBLISHED:
        write_json(folder / f"{name}.schema.json", published(name))


if __name__ == "__main__":
    _write(Path(sys.argv[1]))
