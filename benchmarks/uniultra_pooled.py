"""One model for several data sets, or one for each: UniUltra trained on all together and on each alone, each scored on all.

    ultrarefiner manifests build BUSI+BUSBRA+BUS_UCLM --root RELEASES --out MANIFESTS
    OMP_NUM_THREADS=1 python benchmarks/uniultra_pooled.py MANIFESTS/BUSI+BUSBRA+BUS_UCLM.json RELEASES OUT [VARIANT ...]
        [--fold 0] [--image_size 128] [--images 1500]

LiteMedSAM; RELEASES has a folder of each data set's name. Each training sees about as many images, those of the smaller sets
more often, and keeps its last weights: the one of all sets draws from each equally often. Validation images alone are scored,
asked about with moved boxes of the truth, beside the ellipse line. OUT/pooled.csv has a row a training and data set.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from ultrarefiner_monai.cross_validation.tasks import run_bundle
from ultrarefiner_monai.data.datasets import parts_of
from ultrarefiner_monai.data.manifests import load_manifest
from ultrarefiner_monai.files import write_atomically
from ultrarefiner_monai.metrics.scores_file import read_rows
from ultrarefiner_monai.texts import csv_text

POOLED, SOURCE = "pooled", "truth_box_10"
COLUMNS = ("mask_dice", "mask_hd95", "ellipse")


def releases_of(names: list[str], parts: list[str], root: Path, folder: Path) -> Path:
    """A folder with the releases of `names`, and those of the other `parts` without their images."""
    for name in parts:
        own = folder / name
        if name in names and not own.exists():
            folder.mkdir(parents=True, exist_ok=True)
            own.symlink_to(root / name)
        elif name not in names:
            for place in (root / name).iterdir():
                if place.is_dir():
                    (own / place.name).mkdir(parents=True, exist_ok=True)
                elif not (own / place.name).exists():
                    own.mkdir(parents=True, exist_ok=True)
                    (own / place.name).symlink_to(place)
    return folder


def main() -> None:
    """Train what is asked for, and write the table of all that are done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("releases", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("variants", nargs="*")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--image_size", type=int, default=128)
    parser.add_argument("--images", type=int, default=1500, help="that a training sees")
    asked = parser.parse_args()
    out, root, manifest = asked.out.resolve(), asked.releases.resolve(), load_manifest(asked.manifest.resolve())
    parts = parts_of(manifest.name)
    counts = {name: sum(item["dataset"] == name for item in manifest.split("train", asked.fold)) for name in parts}
    trainings = {POOLED: parts} | {name: [name] for name in parts}
    for variant in asked.variants or trainings:
        names = trainings[variant]
        if (out / variant / f"val_{SOURCE}" / "per_image.csv").is_file():
            continue
        epochs = max(1, round(asked.images / (max(counts[name] for name in names) * len(names))))
        keys = {
            **{"dataset": manifest.name, "manifest": str(manifest.path), "fold": asked.fold, "allow_missing": True},
            **{"variant": "lite_medsam", "image_size": asked.image_size, "batch_size": 4, "balance": "dataset"},
            **{"epochs": epochs, "val_interval": epochs, "log_model": False, "output_dir": str(out / variant)},
            "tracking_uri": f"sqlite:///{out / variant}.db",
        }
        own = releases_of(names, parts, root, out / "releases" / variant)
        run_bundle("uniultra", "train", **keys, data_root=str(own), resume=(out / variant).is_dir())
        whole = {"data_root": str(root), "prompt_source": SOURCE, "split": "val", "overwrite": True}
        run_bundle("uniultra", "train", "evaluate", **{**keys, **whole})
    rows = []
    for variant in trainings:
        if not (scores := out / variant / f"val_{SOURCE}" / "per_image.csv").is_file():
            continue
        found = read_rows(scores)
        told = json.loads((out / variant / "run.json").read_text())
        for name in parts:
            of_set = [row for row in found if row["id"].startswith(f"{name}/")]
            means = {column: float(np.nanmean([row[column] for row in of_set])) for column in COLUMNS}
            rows.append(
                {"trained_on": variant, "epochs": told["epochs"]["done"], "scored_on": name, "images": len(of_set)}
                | means
            )
    write_atomically(out / "pooled.csv", csv_text(rows, list(rows[0])).encode())


if __name__ == "__main__":
    main()
