"""What the documentation says of the configurations."""

import json

import pytest

from ultrarefiner_monai.bundle.paths import BUNDLES

KEYS = (BUNDLES.parent / "docs" / "reference" / "keys.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["train", "inference"])
@pytest.mark.parametrize("phase", ["phase1", "phase2", "phase3"])
def test_every_key_a_user_may_set_is_explained(phase, name):
    config = json.loads((BUNDLES / phase / "configs" / f"{name}.json").read_text(encoding="utf-8"))
    settings = list(config)[: list(config).index("plan")]
    unexplained = [key for key in settings if f"`{key}`" not in KEYS and key not in ("imports", "bundle_root", "mode")]
    assert unexplained == []
