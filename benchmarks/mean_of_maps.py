"""What the mean of several models' probability maps is worth, image by image, beside each of them.

    python benchmarks/mean_of_maps.py RELEASE OUT.csv NAME=FOLDER NAME=FOLDER [...] [--fold 0]

Each FOLDER holds maps of the validation images of one fold (`predictions.json` and what it lists). OUT.csv gets a line an image
that all have, with `<name>_dice` and `<name>_hd95` of each and of `mean`; `benchmarks/systems.py` makes the table of it.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from ultrarefiner_monai.bundle.preflight.data import read_manifest
from ultrarefiner_monai.data.manifests import masks_of
from ultrarefiner_monai.data.pixels import lesion_pixels
from ultrarefiner_monai.data.predictions.index import PredictionIndex
from ultrarefiner_monai.data.predictions.maps import read_map
from ultrarefiner_monai.files import write_atomically
from ultrarefiner_monai.metrics.scores import score_image
from ultrarefiner_monai.texts import csv_text


def main() -> None:
    """Write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("release", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("maps", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--fold", type=int, default=0)
    asked = parser.parse_args()
    folders = {name: Path(folder) for name, _, folder in (text.partition("=") for text in asked.maps)}
    files = {
        name: {entry["id"]: folder / entry["file"] for entry in PredictionIndex.load(folder).items}
        for name, folder in folders.items()
    }
    rows = []
    for item in read_manifest("BUSBRA", None, asked.fold).split("val", asked.fold):
        if all(item["id"] in known for known in files.values()):
            maps = np.stack([read_map(known[item["id"]]) for known in files.values()])
            truth = lesion_pixels([asked.release / mask for mask in masks_of(item)], item)
            every = torch.from_numpy(np.concatenate([maps, maps.mean(0, keepdims=True)]))
            names = [*files, "mean"]
            scores = score_image(every, torch.from_numpy(truth)[None], names, item["id"])
            about = {"image": item["image"], **{key: item[key] for key in ("patient", "class", "fold")}}
            kept = {f"{name}_{score}": scores[f"{name}_{score}"] for name in names for score in ("dice", "hd95")}
            rows.append(about | kept)
    write_atomically(asked.out, csv_text(rows, list(rows[0])).encode())
    for name in names:
        print(f"{name}: Dice {np.mean([row[f'{name}_dice'] for row in rows]):.4f} of {len(rows)} images")


if __name__ == "__main__":
    main()
