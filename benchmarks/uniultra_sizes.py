"""Size and speed of UniUltra's teachers and students: parameters, MB, CPU-milliseconds an image, on one thread.

Weights are random: neither size nor speed depends on them. Prints a Markdown table.

    python benchmarks/uniultra_sizes.py [--image_size 256] [--repeats 5] [VARIANT ...]
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import nn

from ultrarefiner_monai.networks.prompts.lesions import lesion_prompts
from ultrarefiner_monai.networks.uniultra import UniUltra, build_prompted

VARIANTS = ("lite_medsam", "lite_mini", "base_plus", "mini")


def parameters(module: nn.Module) -> int:
    """Number of a module's parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def milliseconds(call: Callable[[], object], repeats: int) -> float:
    """Least CPU time of a call, after one to warm up."""
    times = []
    for _ in range(repeats + 1):
        start = time.process_time()
        call()
        times.append(1000 * (time.process_time() - start))
    return min(times[1:])


@torch.inference_mode()
def row(variant: str, image_size: int, repeats: int) -> str:
    """A line of the table: one image, one box."""
    network = UniUltra(build_prompted(variant, image_size), used_only=False).eval()
    image = torch.rand(1, 1, image_size, image_size)
    mask = torch.zeros_like(image)
    mask[..., image_size // 4 : image_size // 2, image_size // 4 : image_size // 2] = 1
    prompts, features = lesion_prompts(mask), network.features(image)
    encoder, whole = parameters(network.sam.image_encoder), parameters(network)
    times = (
        milliseconds(lambda: network.features(image), repeats),
        milliseconds(lambda: network.ask(features, prompts), repeats),
    )
    return f"| {variant} | {encoder:,} | {whole:,} | {4 * whole / 1e6:.1f} | {times[0]:.0f} | {times[1]:.0f} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variants", nargs="*", default=VARIANTS)
    parser.add_argument("--image_size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(f"One image of {asked.image_size} px, one box, one thread, float32; MB of float32 weights.\n")
    print("| variant | encoder | whole | MB | encoder, CPU-ms | decoder, CPU-ms |")
    print("| --- | --- | --- | --- | --- | --- |")
    for variant in asked.variants:
        print(row(variant, asked.image_size, asked.repeats), flush=True)


if __name__ == "__main__":
    main()
