"""The keys of a configuration: mistyped ones are refused, which MONAI would ignore, and truth values are read as such."""

import difflib
import inspect
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

WORDS = {"true": True, "false": False}


def check_keys(root: str) -> None:
    """Compare the top-level keys of the running configuration with those that the bundle's files define.

    Meant as the first step of a bundle's ``initialize``; the running parser is found on the call stack, since MONAI gives
    expressions no name for it. ``--resume true`` arrives as text, which would make ``--resume false`` true: where the bundle
    holds a truth value, the words become one.

    Args:
        root: the bundle's folder.

    Raises:
        SystemExit: a key is unknown (one line with the nearest known key), or a truth value is neither true nor false.
    """
    parser = running_parser()
    known = known_keys(Path(root) / "configs")
    unknown = [key for key in parser.get() if key not in known]
    if unknown:
        raise SystemExit("; ".join(_complaint(key, known) for key in unknown))
    for key, default in known.items():
        if isinstance(default, bool) and key in parser.get():
            _read_truth_value(parser, key)


def known_keys(configs: Path) -> dict[str, Any]:
    """Top-level keys of all configuration files in the folder ``configs`` with their values, and MONAI's ``_meta_``."""
    keys: dict[str, Any] = {"_meta_": None}
    for path in sorted(configs.glob("*.json")):
        if path.name != "metadata.json":
            keys |= ConfigParser.load_config_file(path)
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


def _read_truth_value(parser: ConfigParser, key: str) -> None:
    value = WORDS.get(str(parser[key]).lower())
    if value is None:
        raise SystemExit(f"{key}: expected true or false, found '{parser[key]}'")
    parser.config[key] = value  # type: ignore[index]  # parser[key] = value would forget what is resolved already
    parser.ref_resolver.items[key].update_config(value)


def _complaint(key: str, known: dict[str, Any]) -> str:
    nearest = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.5)
    hint = f"did you mean '{nearest[0]}'?" if nearest else "the bundle's README lists the keys"
    return f"unknown configuration key '{key}': {hint}"
