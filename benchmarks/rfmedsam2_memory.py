"""Made volumes on which memory must help: two alike bodies a slice, and in every third slice no box of the wanted one.

    OMP_NUM_THREADS=1 python benchmarks/rfmedsam2_memory.py OUT.json [--window 6] [--seed 0] [--epochs 20] [--resume]

Without its box a slice alone does not tell which body is meant; the slices before it do. LiteMedSAM and RFMedSAM 2's memory,
all slices of a volume at once, the boxes true, a U-Net that nobody asks (`prompt_grad` and `missing` say so). The image encoder
has no adapters, so that each slice is embedded once. `--window 0` trains the same network without a look back. OUT.json holds
the settings and, of volumes that were not trained on, the mean Dice of both steps over the slices with a box and over those
without; OUT.pt the network after each epoch, from which `--resume` goes on.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from ultrarefiner_monai.files import write_json
from ultrarefiner_monai.losses import StepsLoss
from ultrarefiner_monai.networks import lite_medsam_weights
from ultrarefiner_monai.networks.rfmedsam2 import FrameUnet, RfMedSam2, Steps
from ultrarefiner_monai.networks.rfmedsam2.boxes import hard_boxes
from ultrarefiner_monai.networks.rfmedsam2.memory import remembered
from ultrarefiner_monai.networks.sam2.students import build_prompted

SIDE, SLICES = 64, 9  # pixels, slices a volume
LACKS = torch.arange(SLICES) % 3 == 2
TRAINED, SCORED = 32, 16  # volumes
RATE = 1e-3
LEARNS = "memory_attention+decoder+upscaling+memory_encoder"  # places of adapters, all behind the embedding
Scene = tuple[Tensor, Tensor]  # embeddings (T, 256, S / 4, S / 4) of a volume's slices, the wanted mask (T, 1, S, S)


def volume(random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Slices (T, 1, S, S) in [0, 1] with two ellipsoids that drift, and the mask (T, 1, S, S) of one of them."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    image = 0.35 + 0.1 * gaussian_filter(random.standard_normal((SLICES, SIDE, SIDE)), (0, 1, 1)) / 0.28
    left = random.permutation([0.28, 0.72]) * SIDE  # the wanted body is on either side
    bodies = []
    for x in left:
        centre = np.array([random.uniform(0.3, 0.7) * SIDE, x])
        drift, radii = random.uniform(-1, 1, 2), random.uniform(6, 11, 2)
        middle = random.uniform(3, 5)
        for number in range(SLICES):
            y, x = centre + drift * (number - middle)
            shrunk = radii * np.sqrt(1 - ((number - middle) / 8) ** 2)
            bodies.append(((rows - y) / shrunk[0]) ** 2 + ((columns - x) / shrunk[1]) ** 2 <= 1)
    wanted, other = np.array(bodies).reshape(2, SLICES, SIDE, SIDE)
    image += 0.3 * gaussian_filter((wanted | other).astype(float), (0, 1, 1))
    as_frames = (torch.from_numpy(each.astype(np.float32))[:, None] for each in (image.clip(0, 1), wanted))
    return tuple(as_frames)


def boxes_of(mask: Tensor) -> Tensor:
    """True boxes (T, 1, 4), NaN in the slices that lack them."""
    return hard_boxes(mask > 0).masked_fill(LACKS[:, None, None], torch.nan)


def make_network(window: int) -> RfMedSam2:
    """LiteMedSAM with its memory; the U-Net stands there for its shape."""
    sam = build_prompted("lite_medsam", SIDE, str(lite_medsam_weights()))
    unet = FrameUnet("2d", "8+16+32", SIDE)
    return RfMedSam2(unet, sam, adapters=LEARNS, prompt_grad=False, window=window, box_jitter=0, missing="ask")


def ask(network: RfMedSam2, scene: Scene) -> Steps:
    """Masks of a volume's slices by their embeddings."""
    features, mask = scene
    nothing = torch.zeros_like(mask)
    places = remembered(SLICES, torch.zeros(SLICES), torch.arange(SLICES), network.window, mask.device)
    return Steps({"unet": nothing, **network.refine(features, nothing, places, boxes_of(mask))})


@torch.no_grad()
def score(network: RfMedSam2, scenes: list[Scene]) -> dict[str, float]:
    """Mean Dice of step 1 and 2 over slices with and without a box."""
    network.eval()
    dice: dict[str, list[Tensor]] = {}
    for scene in scenes:
        found, mask = ask(network, scene), scene[1]
        for name in ("step1", "step2"):
            thresholded = (found.masks[name] > 0).flatten(1).float()
            truth = mask.flatten(1)
            of_slices = 2 * (thresholded * truth).sum(1) / (thresholded + truth).sum(1)
            dice.setdefault(f"{name}_with_box", []).append(of_slices[~LACKS])
            dice.setdefault(f"{name}_without_box", []).append(of_slices[LACKS])
            dice.setdefault(name, []).append(of_slices)
    return {name: float(torch.cat(values).mean()) for name, values in dice.items()}


def main() -> None:
    """Train, and write the scores after each epoch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--window", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--resume", action="store_true")
    asked = parser.parse_args()
    random = np.random.default_rng(asked.seed)
    torch.manual_seed(asked.seed)
    network, loss = make_network(asked.window), StepsLoss((0, 1, 1))
    volumes = [volume(random) for _ in range(TRAINED + SCORED)]
    with torch.no_grad():
        scenes = [(network.encode(image), mask) for image, mask in volumes]
    optimizer = torch.optim.AdamW([*network.adapters.parameters(), *network.body.parameters()], lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, asked.epochs * TRAINED)
    parts = {"network": network, "optimizer": optimizer, "schedule": schedule}
    rows: list[dict[str, float]] = []
    state = asked.out.with_suffix(".pt")
    if asked.resume:
        saved = torch.load(state, weights_only=True)
        rows = saved.pop("rows")
        for name, part in parts.items():
            part.load_state_dict(saved[name])
    for epoch in range(len(rows), asked.epochs):
        network.train()
        start = time.process_time()
        for number in np.random.default_rng([asked.seed, epoch]).permutation(TRAINED):
            optimizer.zero_grad()
            loss(ask(network, scenes[number]), scenes[number][1]).backward()
            optimizer.step()
            schedule.step()
        seconds = time.process_time() - start
        rows.append({"epoch": epoch + 1, **score(network, scenes[TRAINED:]), "cpu_seconds": seconds})
        torch.save({name: part.state_dict() for name, part in parts.items()} | {"rows": rows}, state)
        write_json(asked.out, {"window": asked.window, "seed": asked.seed, "epochs": asked.epochs, "scores": rows})
        print(rows[-1], flush=True)


if __name__ == "__main__":
    main()
