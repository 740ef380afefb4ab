"""The keys of a configuration: mistyped ones are refused, which MONAI would ignore, and values are read as they are meant."""

import difflib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from monai.bundle import ConfigParser

from ultrarefiner_monai.networks.fusion import FusionMode

WORDS = {"true": True, "false": False}
CHOICES = {
    "fusion": get_args(FusionMode),
    "weighting": ("learned", "fixed"),
    "split": ("train", "val", "test", "normal", "external"),
}
NUMBERS: tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...] = (
    (
        ("epochs", "batch_size", "val_interval", "panel_interval"),
        lambda n: isinstance(n, int) and n > 0,
        "a whole number above 0",
    ),
    (("real_ratio",), lambda n: 0 <= n <= 1, "a share from 0 to 1"),
    (("normal_share",), lambda n: 0 <= n < 1, "a share from 0 to below 1"),
    (
        ("change_penalty", "prompt_gradient_scale", "lora_rank", "workers", "coarse_rate", "refiner_rate"),
        lambda n: n >= 0,
        "a number, 0 or more",
    ),
)


def check_keys() -> None:
    """Compare the top-level keys of the running configuration with those that its files define, and check their values.

    Meant as the first step of a bundle's `initialize`; the running parser is found on the call stack, since MONAI gives
    expressions no name for it. `--resume true` arrives as text, which would make `--resume false` true: where the bundle
    holds a truth value, the words become one.

    Raises:
        SystemExit: one line on every key that is unknown (with the nearest known one) or has a value it cannot have.
    """
    parser = running_parser()
    known = known_keys(Path(parser.get_parsed_content("bundle_root")) / "configs", _files_of(parser))
    complaints = [_unknown(key, known) for key in parser.get() if key not in known]
    complaints += [line for key in known if key in parser.get() and (line := _complaint(key, parser[key], known))]
    if complaints:
        raise SystemExit("; ".join(complaints))
    for key, default in known.items():
        if isinstance(default, bool) and key in parser.get():
            _read_truth_value(parser, key)


def known_keys(configs: Path, names: tuple[str, ...]) -> dict[str, Any]:
    """Top-level keys with their values of the files `names` in the folder `configs`, and MONAI's `_meta_`."""
    keys: dict[str, Any] = {"_meta_": {}}
    for name in names:
        if (configs / f"{name}.json").is_file():
            keys = ConfigParser.load_config_file(configs / f"{name}.json") | keys
    return keys


def running_parser() -> ConfigParser:
    """The parser whose expression is being evaluated, found on the call stack."""
    frame = inspect.currentframe()
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, ConfigParser):
            return owner
        frame = frame.f_back
    raise RuntimeError("only meaningful inside an expression of a configuration")


def _files_of(parser: ConfigParser) -> tuple[str, ...]:
    """Which of the bundle's files the running configuration was put together from."""
    if "train" not in parser.get():
        return ("inference",)
    return ("train", "multi_gpu_train", "evaluate") if parser["mode"] == "evaluate" else ("train", "multi_gpu_train")


def _unknown(key: str, known: dict[str, Any]) -> str:
    nearest = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.5)
    hint = f"did you mean '{nearest[0]}'?" if nearest else "docs/reference/keys.md lists the keys"
    return f"unknown configuration key '{key}': {hint}"


def _complaint(key: str, value: Any, known: dict[str, Any]) -> str | None:
    """What is wrong with a known key's value, or None."""
    if isinstance(known[key], dict) and not isinstance(value, dict | str):
        return f"{key}: a component of this configuration, found {value!r}"
    if isinstance(known[key], dict) and isinstance(value, str) and not value.startswith(("$", "@", "%")):
        other = f"; did you mean '{key}_name'?" if f"{key}_name" in known else ""
        return f"{key}: a component of this configuration, found '{value}'{other}"
    if known[key] is None and isinstance(value, dict | list):
        return f"{key}: expected one value, found {value}"
    if isinstance(known[key], bool) and str(value).lower() not in WORDS:
        return f"{key}: expected true or false, found '{value}'"
    if key in CHOICES and value not in CHOICES[key]:
        return f"{key}: expected one of {', '.join(CHOICES[key])}, found '{value}'"
    for keys, allowed, expected in NUMBERS:
        if key in keys and not (isinstance(value, int | float) and allowed(value)):
            return f"{key}: expected {expected}, found '{value}'"
    return None


def _read_truth_value(parser: ConfigParser, key: str) -> None:
    value = WORDS[str(parser[key]).lower()]
    parser.config[key] = value  # type: ignore[index]  # parser[key] = value would forget what is resolved already
    parser.ref_resolver.items[key].update_config(value)
