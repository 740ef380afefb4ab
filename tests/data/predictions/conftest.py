"""Fixtures of the tests of predictions."""

from pathlib import Path

import pytest
from made_predictions import HASH, item

from ultrarefiner_monai.data.manifests.manifest import Manifest


@pytest.fixture
def manifest() -> Manifest:
    training = [item(number, number % 2) for number in range(6)]
    testing = [item(number, None) for number in (10, 11)]
    return Manifest("BUSBRA", 2, 42, HASH, training, testing, [], [], Path("BUSBRA.json"), {})
