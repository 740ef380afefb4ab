"""Fixtures shared by the data tests."""

import random
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ultrarefiner_monai.data.releases.readers import find_root, reader
from ultrarefiner_monai.data.releases.records import Record, Source

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))  # planted.py, which tests and a benchmark share


@pytest.fixture(scope="module")
def sample(request: pytest.FixtureRequest, shared_data: Path) -> Path:
    """Release folder of the real sample of the data set that a module calls its `NAME`."""
    return Path(str(find_root(request.module.NAME, shared_data)))


@pytest.fixture(scope="module")
def sources(request: pytest.FixtureRequest, sample: Path) -> dict[str, Source]:
    """What the sample lists, by id."""
    return {source.id: source for source in reader(request.module.NAME).scan(sample)}


@pytest.fixture(scope="session")
def make_record() -> Callable[..., Record]:
    """Factory of records of images that do not exist; a hash drawn at random unless one is given."""

    def make(name: str, label: str = "benign", patient: str = "", phash: str | None = None, **facts) -> Record:
        masks = facts.pop("masks", (f"masks/{name}.png",))
        digits = f"{random.Random(name).getrandbits(256):064x}"
        defaults = {
            "size": (100, 80),
            "mask_sizes": ((100, 80),) * len(masks),
            "lesion_pixels": 0 if label == "normal" else 500,
            "sha256": digits,
            "mask_sha256": (digits,) * len(masks),
        }
        source = Source(name, f"images/{name}.png", masks, label, patient, facts.pop("official", ""))
        return Record(source=source, phash16=phash or digits, **{**defaults, **facts})

    return make


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
