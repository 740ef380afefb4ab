"""Models of the published sizes with random weights, for `export.py`: how large and how fast they are needs no training.

    python benchmarks/published_sizes.py FOLDER

Writes FOLDER/phase1/model.pt, TransUNet R50-ViT-B/16 on 224 x 224 pixels, and FOLDER/phase3/model.pt, the same and SAM ViT-B on
256 x 256, with their cards.
"""

import sys
from pathlib import Path

import torch

from ultrarefiner_monai.models import build_network, save_model
from ultrarefiner_monai.networks import Fusion, PromptGenerator

ABOUT = {"dataset": "PHANTOM", "fold": 0, "manifest_sha256": "0" * 64, "epoch": 0, "version": "0", "metric": {}}
COARSE = {"variant": "r50_vit_b16", "size": 224}
PROMPTS = {f"prompt_{name}": value for name, value in PromptGenerator().settings.items()}
FUSION = {f"fusion_{name}": value for name, value in Fusion().settings.items()}
REFINER = {"variant": "vit_b", "sam_variant": "vit_b", "image_size": 256, "lora_rank": 0, **PROMPTS, **FUSION}
PARTS = {
    "phase1": {"image_size": 224, "network": {"coarse": COARSE}},
    "phase3": {"image_size": 256, "network": {"coarse": COARSE, "refiner": REFINER}},
}


def main(folder: Path) -> None:
    for phase, parts in PARTS.items():
        torch.manual_seed(0)
        card = {"system": "ultrarefiner", "stage": phase, **ABOUT, **parts}
        save_model(build_network(card), folder / phase / "model.pt", card)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
