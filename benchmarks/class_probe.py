"""How well classes can be told from a model's image embeddings, and from the outline of the true lesion, by logistic regression.

    OMP_NUM_THREADS=1 python benchmarks/class_probe.py MODEL RELEASE [--fold 0] [--l2 0.1]

MODEL is a trained AutoMedSAM that tells two classes apart. Its embeddings' means over the true lesion and over the image are what
its class head sees; the outline gives size, aspect, solidity, eccentricity, compactness, extent and direction. Both are fitted on
the fold's training images and scored on its validation images: an upper line for the class head, since the truth is given.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from skimage.measure import label, regionprops
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.nn import functional as F

from ultrarefiner_monai.bundle.preflight.data import read_manifest
from ultrarefiner_monai.data.images import read_grey, read_mask
from ultrarefiner_monai.data.manifests import masks_of
from ultrarefiner_monai.models import build_network, load_model, read_card
from ultrarefiner_monai.networks.letterbox import letterbox


def main() -> None:
    """Print the areas under the ROC curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("release", type=Path)
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--l2", type=float, default=0.1)
    asked = parser.parse_args()
    network = build_network(read_card(asked.model)).eval()
    load_model(network, asked.model)
    manifest = read_manifest("BUSBRA", None, asked.fold)
    features: dict[str, list[Tensor]] = {"embedding": [], "outline": []}
    malignant = []
    for split in ("train", "val"):
        items = [one for one in manifest.split(split, asked.fold) if (asked.release / one["image"]).is_file()]
        embedded, outlines = [], []
        for item in items:
            size = (item["width"], item["height"])
            truth = read_mask([asked.release / mask for mask in masks_of(item)], size=size)
            grey = torch.from_numpy(read_grey(asked.release / item["image"]))[None]
            embedded.append(pooled(network, grey, torch.from_numpy(truth.astype(np.float32))[None]))
            outlines.append(outline(truth))
        features["embedding"].append(torch.stack(embedded))
        features["outline"].append(torch.tensor(outlines, dtype=torch.float32))
        malignant.append(torch.tensor([item["class"] == "malignant" for item in items]))
    for name, (train, held_out) in features.items():
        model = make_pipeline(StandardScaler(), LogisticRegression(C=1 / (2 * asked.l2 * len(train)), max_iter=1000))
        model.fit(train, malignant[0])
        pairs = zip(malignant, (train, held_out), strict=True)
        areas = [roc_auc_score(which, model.decision_function(values)) for which, values in pairs]
        print(
            f"{name}: AUC {areas[0]:.3f} of {len(train)} training images, {areas[1]:.3f} of {len(held_out)} validation images"
        )


@torch.no_grad()
def pooled(network: torch.nn.Module, grey: Tensor, truth: Tensor) -> Tensor:
    """Means (2 C,) of an image's embedding over the lesion and over the image; `grey` and `truth` are (1, H, W)."""
    side = network.sam.image_size
    embedding = network.embed(letterbox(grey, side)[None])[0]
    cells = F.adaptive_avg_pool2d(letterbox(truth, side), embedding.shape[1:])
    inside = (embedding * cells).sum((1, 2)) / cells.sum().clamp(min=1e-3)
    return torch.cat([inside, embedding.mean((1, 2))])


def outline(truth: np.ndarray) -> list[float]:
    """Seven numbers of the largest part of a mask (H, W)."""
    part = max(regionprops(label(truth)), key=lambda one: one.area)
    top, left, bottom, right = part.bbox
    return [
        float(np.log(part.area)),
        (bottom - top) / (right - left),
        part.solidity,
        part.eccentricity,
        part.perimeter**2 / part.area,
        part.extent,
        float(np.cos(2 * part.orientation) * part.eccentricity),
    ]


if __name__ == "__main__":
    main()
