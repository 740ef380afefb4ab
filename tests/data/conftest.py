"""Fixtures shared by the data tests."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ultrarefiner_monai.data.releases.readers import find_root, reader
from ultrarefiner_monai.data.releases.records import Source

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))  # planted.py, which tests and a benchmark share


@pytest.fixture(scope="module")
def sample(request: pytest.FixtureRequest, shared_data: Path) -> Path:
    """Release folder of the real sample of the data set that a module calls its `NAME`."""
    return Path(str(find_root(request.module.NAME, shared_data)))


@pytest.fixture(scope="module")
def sources(request: pytest.FixtureRequest, sample: Path) -> dict[str, Source]:
    """What the sample lists, by id."""
    return {source.id: source for source in reader(request.module.NAME).scan(sample)}


@pytest.fixture
def bus_release(tmp_path: Path) -> Path:
    """Release in the layout of BUS: 12 pictures of smoothed noise, each with a square lesion, some one-bit masks."""
    root = tmp_path / "BUS"
    for folder in ("original", "GT"):
        (root / folder).mkdir(parents=True)
    generator = np.random.default_rng(0)
    for number in range(1, 13):
        noise = generator.integers(0, 256, (12, 16), dtype=np.uint8)
        mask = np.zeros((60, 80), dtype=np.uint8)
        mask[10 : 15 + number, 20 : 25 + number] = 255
        Image.fromarray(noise).resize((80, 60), Image.Resampling.BICUBIC).save(root / f"original/{number:06}.png")
        Image.fromarray(mask).convert("1" if number > 8 else "L").save(root / f"GT/{number:06}.png")
    return root
