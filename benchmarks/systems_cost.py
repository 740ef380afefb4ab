"""Parameters of trained models and CPU-seconds of a prediction, on one thread in float32, as a Markdown table.

    OMP_NUM_THREADS=1 python benchmarks/systems_cost.py MODEL [MODEL ...] [--repeats 5]

The image is made, 400 x 500 pixels; a model that is asked about lesions is asked with one box. The least of the repeats counts.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from ultrarefiner_monai.models import load_segmenter
from ultrarefiner_monai.networks.prompts.lesions import LesionPrompts

SHAPE = (400, 500)
BOX = (150.0, 120.0, 300.0, 260.0)  # x1, y1, x2, y2


def row(path: Path, repeats: int) -> str:
    """A model's line of the table."""
    segmenter = load_segmenter(path, amp=False, device="cpu")
    image = np.random.default_rng(0).random(SHAPE, dtype=np.float32)
    prompts = LesionPrompts(torch.zeros(1, dtype=torch.long), torch.tensor([BOX])) if segmenter.stage.prompted else None
    seconds = []
    for _ in range(1 + repeats):
        start = time.process_time()
        segmenter.predict(image, prompts=prompts)
        seconds.append(time.process_time() - start)
    parameters = sum(parameter.numel() for parameter in segmenter.network.parameters())
    return f"| {segmenter.system.title}, {segmenter.stage.name} | {segmenter.size} | {parameters:,} | {min(seconds[1:]):.2f} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print("| model | px | parameters | CPU-s a prediction |\n| --- | --- | --- | --- |")
    for path in asked.models:
        print(row(path, asked.repeats), flush=True)


if __name__ == "__main__":
    main()
