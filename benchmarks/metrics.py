"""How long the metrics of 1 000 images of 500 x 500 pixels take; writes metrics.json beside this file.

    OMP_NUM_THREADS=1 python benchmarks/metrics.py

One process, one thread. CPU time (user + system) is what to compare: other programs on the machine do not count in it.
The masks are ellipses with a wavy outline, of the sizes that breast lesions have in public data sets (2 to 30 % of the
image), and the prediction a shifted and swollen copy; one image in ten has no lesion. "score_image" is what a
validation does for an image: two stages, their masks and their calibration.
"""

import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.special import expit

from ultrarefiner_monai.metrics import segmentation_metrics
from ultrarefiner_monai.metrics.scores import calibrate_image, score_image

IMAGES, SIZE = 1000, 500


def distance_map(rng: np.random.Generator, centre: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Roughly the signed distance in pixels (positive inside) to a wavy ellipse."""
    y, x = np.ogrid[:SIZE, :SIZE]
    dy, dx = (y - centre[0]) / radii[0], (x - centre[1]) / radii[1]
    wave = 0.08 * np.sin(rng.integers(3, 9) * np.arctan2(dy, dx) + rng.uniform(0, 6))
    return (1 + wave - np.hypot(dy, dx)) * radii.mean()


def case(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities (2, H, W) and truth (1, H, W)."""
    rng = np.random.default_rng(seed)
    radii, centre = np.sqrt(rng.uniform(0.02, 0.3) / np.pi) * SIZE * rng.uniform(0.7, 1.4, 2), rng.uniform(150, 350, 2)
    truth = distance_map(rng, centre, radii) > 0
    moved = [distance_map(rng, centre + rng.normal(0, 8, 2), radii * rng.normal(1, 0.08, 2)) for _ in range(2)]
    prob = expit(np.stack(moved) / 4).astype(np.float32)
    return torch.from_numpy(prob), torch.from_numpy(truth & (seed % 10 != 0))[None]


def seconds(work: Callable[[torch.Tensor, torch.Tensor], object]) -> dict[str, float]:
    """CPU and wall-clock seconds of `work` over all images; making them does not count."""
    cpu = wall = 0.0
    for seed in range(IMAGES):
        pair = case(seed)
        start = time.process_time(), time.perf_counter()
        work(*pair)
        cpu += time.process_time() - start[0]
        wall += time.perf_counter() - start[1]
    return {"cpu_seconds": round(cpu, 2), "wall_seconds": round(wall, 2)}


def main() -> None:
    torch.set_num_threads(1)
    one_mask = seconds(lambda prob, truth: segmentation_metrics(prob[None, :1] >= 0.5, truth[None]))
    validation = seconds(
        lambda prob, truth: (score_image(prob, truth, ("coarse", "refined"), ""), calibrate_image(prob, truth))
    )
    result = {
        "images": IMAGES,
        "size": [SIZE, SIZE],
        "segmentation_metrics": one_mask,
        "score_image and calibrate_image, two stages": validation,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
