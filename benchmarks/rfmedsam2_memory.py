"""Made volumes on which memory must help: two alike bodies a slice, and in every third slice no box of the wanted one.

    OMP_NUM_THREADS=1 python benchmarks/rfmedsam2_memory.py OUT.json [--window 6] [--seed 0] [--epochs 20] [--resume]

In such a slice the U-Net is said to have found nothing, so that step 1 has no mask; step 2 is asked without a box, in the light
of the slices before, and has to tell the wanted body from the other. LiteMedSAM and RFMedSAM 2's memory, all slices of a volume
at once, the other boxes true. The image encoder has no adapters, so that each slice is embedded once. `--window 0` trains the
same network without a look back, which leaves these slices as they are. OUT.json holds the settings and, of volumes that were
not trained on, the mean Dice of both steps over the slices with a box and over those without, and what a mask of both bodies
would have there; OUT.pt the network after each epoch, from which `--resume` goes on.
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
Scene = tuple[
    Tensor, Tensor, Tensor
]  # embeddings (T, 256, S / 4, S / 4), masks (T, 1, S, S) of the wanted body and of both


def volume(random: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Slices (T, 1, S, S) in [0, 1] with two ellipsoids that drift, masks (T, 1, S, S) of the wanted one and of both."""
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
    image, one, both = (
        torch.from_numpy(each.astype(np.float32))[:, None] for each in (image.clip(0, 1), wanted, wanted | other)
    )
    return image, one, both


def boxes_of(mask: Tensor) -> Tensor:
    """True boxes (T, 1, 4), NaN in the slices that lack them."""
    return hard_boxes(mask > 0).masked_fill(LACKS[:, None, None], torch.nan)


def make_network(window: int) -> RfMedSam2:
    """LiteMedSAM with its memory; the U-Net stands there for its shape."""
    sam = build_prompted("lite_medsam", SIDE, str(lite_medsam_weights()))
    unet = FrameUnet("2d", "8+16+32", SIDE)
    return RfMedSam2(unet, sam, adapters=LEARNS, prompt_grad=False, window=window, box_jitter=0, missing="keep_unet")


def ask(network: RfMedSam2, scene: Scene) -> Steps:
    """Masks of a volume's slices by their embeddings."""
    features, mask, _ = scene
    nothing = torch.full_like(mask, -10.0)
    places = remembered(SLICES, torch.zeros(SLICES), torch.arange(SLICES), network.window, mask.device)
    return Steps({"unet": nothing, **network.refine(features, nothing, places, boxes_of(mask))})


def dice(found: Tensor, truth: Tensor) -> Tensor:
    """Dice (T,) of masks (T, 1, S, S) of 0 and 1."""
    found, truth = found.flatten(1), truth.flatten(1)
    return 2 * (found * truth).sum(1) / (found + truth).sum(1)


@torch.no_grad()
def score(network: RfMedSam2, scenes: list[Scene]) -> dict[str, float]:
    """Mean Dice of step 1 and 2 over slices with and without a box, and of a mask of both bodies over the latter."""
    network.eval()
    of_slices: dict[str, list[Tensor]] = {}
    for scene in scenes:
        found, (_, wanted, both) = ask(network, scene), scene
        for name in ("step1", "step2"):
            each = dice((found.masks[name] > 0).float(), wanted)
            parts = {name: each, f"{name}_with_box": each[~LACKS], f"{name}_without_box": each[LACKS]}
            for key, values in (parts | {"both_without_box": dice(both, wanted)[LACKS]}).items():
                of_slices.setdefault(key, []).append(values)
    return {name: float(torch.cat(values).mean()) for name, values in of_slices.items()}


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
        scenes = [(network.encode(image), *masks) for image, *masks in volumes]
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
