"""What AutoMedSAM's class prompts look like: validation images of a fold, the first of each class by name.

    OMP_NUM_THREADS=2 python benchmarks/automedsam_figure.py STUDY RELEASE FIGURE.png [--fold 3] [--count 2]

STUDY is the folder of a cross-validation that tells classes apart. A row an image: the image with the truth, and for each class
the length of its dense prompt (one scale for all) and its probability with its mask.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ultrarefiner_monai.bundle.preflight.data import read_manifest
from ultrarefiner_monai.colours import LAST, TRUTH
from ultrarefiner_monai.data.images import read_grey, read_mask
from ultrarefiner_monai.data.manifests import masks_of
from ultrarefiner_monai.masks import THRESHOLD
from ultrarefiner_monai.models import build_network, load_model, read_card
from ultrarefiner_monai.networks.letterbox import letterbox

INCHES, DPI = 2.2, 110


def main() -> None:
    """Draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("study", "release", "figure"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--fold", type=int, default=3)
    parser.add_argument("--count", type=int, default=2, help="images of each class")
    asked = parser.parse_args()
    model = asked.study / "automedsam" / f"fold{asked.fold}" / "model.pt"
    network = build_network(read_card(model)).eval()
    load_model(network, model)
    there = [
        item
        for item in read_manifest("BUSBRA", None, asked.fold).split("val", asked.fold)
        if (asked.release / item["image"]).is_file()
    ]
    items = [item for label in network.classes for item in [i for i in there if i["class"] == label][: asked.count]]
    side = network.sam.image_size
    drawn = []
    for item in items:
        grid = (item["width"], item["height"])
        image = letterbox(torch.from_numpy(read_grey(asked.release / item["image"]))[None], side)
        truth = read_mask([asked.release / name for name in masks_of(item)], size=grid).astype(np.float32)
        with torch.no_grad():
            parts = network(image[None], return_parts=True)
        drawn.append(
            {
                "title": f"{item['id']}, {item['class']}",
                "image": image[0].numpy(),
                "truth": letterbox(torch.from_numpy(truth)[None], side)[0].numpy(),
                "norms": parts.dense[0].norm(dim=1).numpy(),
                "planes": parts.with_background[0].softmax(0)[1:].numpy(),
                "told": parts.class_probability[0].numpy(),
            }
        )
    figure = Figure(
        figsize=(INCHES * (1 + 2 * len(network.classes)), INCHES * len(drawn) + 0.3), dpi=DPI, layout="constrained"
    )
    axes = figure.subplots(len(drawn), 1 + 2 * len(network.classes), squeeze=False)
    lengths = np.stack([row["norms"] for row in drawn])
    for cells, row in zip(axes, drawn, strict=True):
        cells[0].imshow(row["image"], cmap="gray", vmin=0, vmax=1)
        cells[0].contour(row["truth"], [0.5], colors=TRUTH, linewidths=1)
        cells[0].set_title(row["title"], fontsize=6)
        for number, label in enumerate(network.classes):
            prompt, mask = cells[1 + number], cells[1 + len(network.classes) + number]
            prompt.imshow(row["norms"][number], cmap="viridis", vmin=lengths.min(), vmax=lengths.max())
            prompt.set_title(f"prompt: {label}", fontsize=6)
            mask.imshow(row["planes"][number], cmap="gray", vmin=0, vmax=1)
            if (row["planes"][number] >= THRESHOLD).any():
                mask.contour(row["planes"][number], [THRESHOLD], colors=LAST, linewidths=1)
            mask.set_title(f"{label}: {row['told'][number]:.2f}", fontsize=6)
        for cell in cells:
            cell.axis("off")
    FigureCanvasAgg(figure).print_png(asked.figure)


if __name__ == "__main__":
    main()
