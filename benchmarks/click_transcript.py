"""Dice after 0, 1, 2, 3 and 5 clicks: what a client of an exported MONAI Label app gets who corrects a mask click by click.

    ultrarefiner export monailabel runs/phase3/fold0/model.pt --out apps
    OMP_NUM_THREADS=1 python benchmarks/click_transcript.py apps/monaibundle/model/phase3 BUSBRA data/BUSBRA clicks.csv

The next click goes to the deepest point of the largest wrong region (8 neighbours): `foreground` where lesion is missed,
`background` where there is none. Each request has all clicks so far, with `--keep` the mask so far as `label`, too. Requests pass
the app's own transforms, without the web server. A model that finds nothing by itself has a blank mask before the first click.

CSV: a row an image and number of clicks, with the click that was the last (x, y in pixels of the file, 1 lesion, 0 background).
"""

import argparse
import csv
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import label

from ultrarefiner_monai.bundle.preflight.data import read_manifest
from ultrarefiner_monai.data.images import read_mask
from ultrarefiner_monai.data.manifests import masks_of
from ultrarefiner_monai.deploy.monailabel.parts import (
    MODEL,
    AdjustedInferer,
    MaskForClientd,
    classes_of,
    preprocessing,
    stage_of,
)
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.models import load_segmenter
from ultrarefiner_monai.networks.prompts.components import EIGHT, component_points

COUNTS = (0, 1, 2, 3, 5)
NAMES = ("background", "foreground")


def next_click(mask: np.ndarray, truth: np.ndarray) -> tuple[int, int, int] | None:
    """x, y and label of the next click on `mask` (H, W) whose lesion is `truth`; None where nothing is wrong."""
    parts, count = label(mask != truth, EIGHT)
    if not count:
        return None
    largest = parts == 1 + np.bincount(parts.ravel())[1:].argmax()
    x, y = component_points(largest, 1)[0][0].astype(int).tolist()
    return x, y, int(truth[y, x])


def dice(mask: np.ndarray, truth: np.ndarray) -> float:
    """Dice of two masks, 1 if both are blank."""
    total = int(mask.sum()) + int(truth.sum())
    return 2 * int((mask & truth).sum()) / total if total else 1.0


class App:
    """The transforms that a server of the exported bundle calls for a request."""

    def __init__(self, bundle: Path) -> None:
        self.network = load_segmenter(bundle / MODEL, device="cpu").network
        self.before = preprocessing(bundle).transforms
        self.inferer = AdjustedInferer(bundle, {})
        self.after = MaskForClientd("pred", stage_of(bundle).outputs, classes_of(bundle))

    def __call__(self, request: dict) -> np.ndarray:
        """The mask (H, W) bool that answers a request."""
        item = request
        for transform in self.before:
            item = transform(item)
        with torch.no_grad():
            item["pred"] = self.inferer(item["image"][None], self.network)[0]
        return self.after(item)["pred"].T.astype(bool)


def transcript(app: App, image: Path, truth: np.ndarray, keep: bool) -> Iterator[tuple[int, tuple, float]]:
    """Number of clicks, the last one, and Dice then, up to the most of `COUNTS`."""
    request: dict = {"image": str(image)}
    try:
        mask = app(request)
    except DataError:  # it is asked about lesions and has no model that finds them
        mask = np.zeros_like(truth)
    yield 0, ("", "", ""), dice(mask, truth)
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        for number in range(1, max(COUNTS) + 1):
            if (click := next_click(mask, truth)) is None:
                yield number, ("", "", ""), 1.0
                continue
            if keep and mask.any():
                Image.fromarray(mask.astype(np.uint8)).save(file.name)
                request["label"] = file.name
            request.setdefault(NAMES[click[2]], []).append(click[:2])
            mask = app(request)
            yield number, click, dice(mask, truth)


def main() -> None:
    """Write the rows, and print the mean by the number of clicks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="folder of a model in an exported app")
    parser.add_argument("dataset", help="name of a manifest")
    parser.add_argument("release", type=Path, help="folder of the data set")
    parser.add_argument("out", type=Path, help="CSV to write")
    parser.add_argument("--fold", type=int, default=0, help="whose validation images are clicked on")
    parser.add_argument("--count", type=int, default=40, help="images at most, spread over the fold")
    parser.add_argument("--keep", action="store_true", help="send the mask so far as `label`")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    listed = read_manifest(asked.dataset, None, asked.fold).split("val", asked.fold)
    items = [item for item in listed if (asked.release / item["image"]).is_file()]
    items = items[:: max(1, len(items) // asked.count)][: asked.count]
    app, scores = App(asked.bundle), {count: [] for count in range(max(COUNTS) + 1)}
    with asked.out.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["model", "sent", "id", "clicks", "x", "y", "label", "dice"])
        for item in items:
            grid = (item["width"], item["height"])
            truth = read_mask([asked.release / name for name in masks_of(item)], size=grid)
            for number, click, score in transcript(app, asked.release / item["image"], truth, asked.keep):
                scores[number].append(score)
                sent = "clicks and mask" if asked.keep else "clicks"
                writer.writerow([asked.bundle.name, sent, item["id"], number, *click, f"{score:.4f}"])
    print(f"{len(items)} images, mean Dice", *(f"{count}: {np.mean(scores[count]):.3f}" for count in COUNTS))


if __name__ == "__main__":
    main()
