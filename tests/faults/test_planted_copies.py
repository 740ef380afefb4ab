"""Copies planted across folds and data sets are found and kept together, and different pictures are not taken for such."""

from pathlib import Path

import numpy as np
import pytest
from made_speckle import speckled
from PIL import Image

from ultrarefiner_monai.data.manifests.build import build_document, write_manifest
from ultrarefiner_monai.data.manifests.items import side_of
from ultrarefiner_monai.data.manifests.manifest import load_manifest
from ultrarefiner_monai.data.manifests.splits import Options
from ultrarefiner_monai.data.releases.release import read_release

pytestmark = pytest.mark.fault(14)
ORIGINALS = 30
KINDS = ("mirrored left-right", "moved by one pixel", "JPEG quality 75", "calipers and text")


@pytest.fixture
def releases(tmp_path, monkeypatch):
    """BUS holds originals and copies, UDIAT other copies of the same originals; what is a copy of what, by id."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    from planted import CHANGES

    of: dict[str, int] = {}
    for dataset in ("BUS", "UDIAT"):
        for folder in ("original", "GT"):
            (tmp_path / dataset / folder).mkdir(parents=True)
    for number in range(ORIGINALS):
        original = speckled(number, 240, 200)
        first, second = (CHANGES[KINDS[(number + step) % len(KINDS)]] for step in (0, 1))
        for dataset, picture, name in (
            ("BUS", original, number),
            ("BUS", first(original), 1000 + number),
            ("UDIAT", second(original), number),
        ):
            mask = Image.new("L", picture.size)
            mask.paste(255, (60, 60, 120 + number, 110))
            picture.save(tmp_path / dataset / f"original/{name:06}.png")
            mask.save(tmp_path / dataset / f"GT/{name:06}.png")
            of[f"{dataset}/{name:06}"] = number
    return tmp_path, of


def test_copies_are_found_and_stay_together(releases):
    root, of = releases
    release = read_release("BUS+UDIAT", str(root))
    found = {frozenset(pair.ids) for pair in release.pairs if getattr(pair, "confirmed", True)}
    planted = {frozenset((a, b)) for a in of for b in of if a < b and of[a] == of[b]}
    assert len(found & planted) >= 0.95 * len(planted) and len(found - planted) < 0.01 * max(1, len(found))
    assert sum(len({one.split("/")[0] for one in pair}) == 2 for pair in found & planted) > ORIGINALS

    write_manifest(build_document(release, Options(folds=5)), root / "m.json")
    sides = {item["id"]: side_of(item) for item in load_manifest(root / "m.json").items()}
    apart = [pair for pair in found if len({sides[name] for name in pair}) > 1]
    assert not apart and len(set(sides.values())) == 6
    assert np.mean([len({sides[one] for one in pair}) > 1 for pair in planted]) <= 0.05
