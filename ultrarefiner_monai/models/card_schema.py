"""What a model's card may hold: types and ranges, of the network's settings by the keys that a user would set them with."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ultrarefiner_monai.errors import DataError, raise_problems
from ultrarefiner_monai.schemas import (
    COUNT,
    NUMBER,
    SHA256,
    TEXT,
    TEXTS,
    VALUE,
    list_of,
    object_of,
    of,
    or_null,
    problems,
)
from ultrarefiner_monai.systems import Stage, System, all_stages, find_stage
from ultrarefiner_monai.systems.keys import keys_by_name

NEEDED = ("system", "stage", "image_size", "network")
LARGEST = 4096  # of a setting that no key stands for: channels, layers, sides; the largest network's have 1280
SIDE = of(f"a whole number above 0 and at most {LARGEST}", type="integer", exclusiveMinimum=0, maximum=LARGEST)
SETTING = of(
    f"text, true, false, null, a number within {LARGEST}, or a list of such",
    anyOf=[
        {"type": "number", "minimum": -LARGEST, "maximum": LARGEST},
        {"type": "string", "maxLength": 100},
        {"type": "boolean"},
        {"type": "null"},
        {"type": "array", "maxItems": 100, "items": {"type": "number", "minimum": -LARGEST, "maximum": LARGEST}},
    ],
)
SCORES = object_of({}, additionalProperties=or_null(NUMBER))
VALUES = object_of({}, additionalProperties=VALUE)
TABLE = object_of({"images": or_null(COUNT), "means": SCORES}, {"n": SCORES})
RELEASE = object_of(dict.fromkeys(("name", "description", "reference", "licence"), TEXT))
FIELDS = {
    "system": TEXT,
    "stage": TEXT,
    "phase": TEXT,
    "version": TEXT,
    "dataset": TEXT,
    "fold": or_null(COUNT),
    "manifest_sha256": or_null(SHA256),
    "teacher_sha256": SHA256,
    "outputs": TEXTS,
    "labels": TEXT,
    "prompts": TEXT,
    "image_size": or_null(SIDE),
    "network": of("an object", type="object"),
    "sequence": object_of({"of": TEXT, "frames": SIDE}),
    "islands": of("a number from 0 to 1", type="number", minimum=0, maximum=1),
    "clip": of("two numbers", type="array", items=NUMBER, minItems=2, maxItems=2),
    "epoch": or_null(of("a whole number", type="integer")),
    "metric": or_null(SCORES),
    "sha256": SHA256,
    "continued_on": TEXT,
    "started_from": TEXT,
    # `COMPLETE`: what an export adds
    "prediction": VALUES,
    "data": list_of(RELEASE),
    "training": VALUES,
    "metrics": object_of({}, additionalProperties=TABLE),
    "licences": object_of({"code": TEXT, "initial weights": TEXTS}),
    "intended_use": TEXT,
    "limits": TEXTS,
}
COMPLETE = ("prediction", "data", "training", "metrics", "licences", "intended_use", "limits")


def check_card(path: Path, card: Mapping[str, Any]) -> None:
    """Refuse a card of which a field has another type or range than it can have; missing ones are passed over.

    Raises:
        DataError: all that is wrong, in one line.
    """
    wrong = list(problems(dict(card), object_of({}, FIELDS)))
    if not wrong and "stage" in card and "network" in card:
        with suppress(DataError):  # who builds the network says that a stage is unknown
            wrong = list(problems(card["network"], network_schema(*find_stage(card["stage"])), "network"))
    raise_problems(str(path), wrong)


def network_schema(system: System, stage: Stage) -> dict[str, Any]:
    """What a card says of a stage's network: its settings as their keys have them, and what else its system describes."""
    keys = keys_by_name(system, stage.name)
    tree: dict[str, Any] = {}
    for name, path in stage.settings.items():
        *parts, leaf = path.split(".")
        place = tree
        for part in parts:
            place = place.setdefault(part, {})
        schema = keys[name].schema if name in keys else SETTING
        place[leaf] = or_null(schema) if name in keys and keys[name].may_lack else schema
    return _nested(tree)


def _nested(tree: Mapping[str, Any]) -> dict[str, Any]:
    known = {name: part if "description" in part else _nested(part) for name, part in tree.items()}
    deeper = object_of({}, additionalProperties=SETTING)
    other = of("a setting or an object of settings", anyOf=[*SETTING["anyOf"], deeper])
    return object_of({}, known, additionalProperties=other)


def json_schema() -> dict[str, Any]:
    """The card of a trained model; `network` by its stage."""
    rules = [
        {
            "if": {"properties": {"stage": {"const": name}}, "required": ["stage"]},
            "then": {"properties": {"network": network_schema(system, system.stage(name))}},
        }
        for name, system in all_stages().items()
    ]
    card = object_of({name: FIELDS[name] for name in NEEDED}, FIELDS)
    return {"title": "Card of a model of ultrarefiner_monai", **card, "allOf": rules}
