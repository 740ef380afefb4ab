"""What leaving out the parts of a mask that little speaks for costs and saves, by the share that is asked of them.

    python benchmarks/islands.py RELEASE OUT.csv NAME=FOLDER [NAME=FOLDER ...]

Each FOLDER holds maps of a fold's validation images, or of the test images (`predictions.json` and what it lists). OUT.csv gets a
line a FOLDER and share of `masks.without_islands`: means of Dice and HD95, findings that are no lesion, and lesions found.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ultrarefiner_monai.bundle.preflight.data import read_manifest
from ultrarefiner_monai.data.manifests import masks_of
from ultrarefiner_monai.data.pixels import lesion_pixels
from ultrarefiner_monai.data.predictions.index import PredictionIndex
from ultrarefiner_monai.data.predictions.maps import read_map
from ultrarefiner_monai.files import write_atomically
from ultrarefiner_monai.masks import without_islands
from ultrarefiner_monai.metrics.scores import score_image
from ultrarefiner_monai.texts import csv_text

SHARES = (0.0, 0.02, 0.05, 0.1, 0.2, 1.0)


def main() -> None:
    """Write and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("release", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("maps", nargs="+", metavar="NAME=FOLDER")
    asked = parser.parse_args()
    lines = []
    for text in asked.maps:
        name, _, folder = text.partition("=")
        for line in table(asked.release, Path(folder)):
            lines.append({"maps": name, **line})
            print(lines[-1], flush=True)
    write_atomically(asked.out, csv_text(lines, list(lines[0])).encode())


def table(release: Path, folder: Path) -> Iterator[dict[str, Any]]:
    """A line a share."""
    index = PredictionIndex.load(folder)
    files = {entry["id"]: folder / entry["file"] for entry in index.items}
    fold = 0 if index.fold is None else index.fold
    items = [item for item in read_manifest("BUSBRA", None, fold).split(index.split, fold) if item["id"] in files]
    rows: dict[float, list[dict[str, Any]]] = {share: [] for share in SHARES}
    for item in items:
        probability = read_map(files[item["id"]])
        truth = torch.from_numpy(lesion_pixels([release / mask for mask in masks_of(item)], item))[None]
        for share, found in rows.items():
            mask = torch.from_numpy(without_islands(probability, share))[None]
            found.append(score_image(mask, truth, ["mask"], item["id"]))
    for share, found in rows.items():
        means = {name: float(np.nanmean([row[f"mask_{name}"] for row in found])) for name in ("dice", "hd95")}
        sums = {name: sum(row[f"mask_{name}"] for row in found) for name in ("false_lesions", "lesions_found")}
        about = {"split": index.split, "fold": index.fold, "images": len(found), "share": share}
        yield about | means | sums | {"lesions": sum(row["lesions"] for row in found)}


if __name__ == "__main__":
    main()
