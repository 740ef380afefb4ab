"""Configuration keys as a user types them."""

from collections.abc import Mapping


def options(keys: Mapping[str, object]) -> list[str]:
    """Words of a command line: `--key value` for each."""
    return [word for key, value in keys.items() for word in (f"--{key}", str(value))]
