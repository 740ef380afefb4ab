"""What the documentation says of the configurations."""

import json
import re

import pytest

from ultrarefiner_monai.bundle.paths import BUNDLES

KEYS = (BUNDLES.parent / "docs" / "reference" / "keys.md").read_text(encoding="utf-8")
ROWS = [line.split("|")[1:3] for line in KEYS.splitlines() if line.startswith("| `")]
INTERNAL = {"imports", "bundle_root", "mode"}


def settings(phase: str, name: str) -> set[str]:
    """Keys above the plan of a configuration, which a user may set."""
    config = json.loads((BUNDLES / phase / "configs" / f"{name}.json").read_text(encoding="utf-8"))
    return set(list(config)[: list(config).index("plan")]) - INTERNAL


@pytest.mark.parametrize("phase", ["phase1", "phase2", "phase3"])
def test_every_key_a_user_may_set_is_explained_for_its_phases(phase):
    explained = {key for keys, phases in ROWS if phase[-1] in phases for key in re.findall(r"`(\w+)`", keys)}
    refused = {"images"} if phase == "phase2" else set()  # with a line of its own
    assert explained == (settings(phase, "train") | settings(phase, "inference")) - {"dataset_name"} - refused
    assert "`dataset_name`" in KEYS
