"""How well classes can be told from a model's image embeddings, and from the outline of the true lesion, by logistic regression.

    OMP_NUM_THREADS=1 python benchmarks/class_probe.py MODEL RELEASE [--fold 0] [--l2 0.1]

MODEL is a trained AutoMedSAM that tells two classes apart. Its embeddings' means over the true lesion and over the image are what
its class head would see of it; over the lesion that it finds itself what its head does see. The outline gives size, aspect,
solidity, eccentricity, compactness, extent and direction. Each is fitted on the fold's training images and scored on its
validation images: with the truth given an upper line for the class head.
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
    features: dict[str, list[Tensor]] = {
        "embedding, true lesion": [],
        "embedding, found lesion": [],
        "true outline": [],
    }
    malignant = []
    for split in ("train", "val"):
        items = [one for one in manifest.split(split, asked.fold) if (asked.release / one["image"]).is_file()]
        embedded, found, outlines = [], [], []
        for item in items:
            size = (item["width"], item["height"])
            truth = read_mask([asked.release / mask for mask in masks_of(item)], size=size)
            grey = torch.from_numpy(read_grey(asked.release / item["image"]))[None]
            image = letterbox(grey, network.sam.image_size)[None]
            square = letterbox(torch.from_numpy(truth.astype(np.float32))[None], network.sam.image_size)
            embedded.append(pooled(network, image, square))
            found.append(pooled(network, image))
            outlines.append(outline(truth))
        outlined = torch.tensor(outlines, dtype=torch.float32)
        for name, values in zip(features, (torch.stack(embedded), torch.stack(found), outlined), strict=True):
            features[name].append(values)
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
def pooled(network: torch.nn.Module, image: Tensor, lesion: Tensor | None = None) -> Tensor:
    """Means (2 C,) of an image's embedding over the lesion (1, S, S), by default that which is found, and over the image.

    Args:
        network: a trained AutoMedSAM.
        image: (1, 1, S, S).
        lesion: its mask.
    """
    embedding = network.embed(image)
    if lesion is None:
        lesion = network(image, embedding, return_parts=True).lesion[0].sigmoid()
    cells, embedding = F.adaptive_avg_pool2d(lesion, embedding.shape[2:]), embedding[0]
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
