"""Parity, size and latency of exported files beside the network they come from, on real images.

    OMP_NUM_THREADS=1 python benchmarks/export.py IMAGES MODEL=EXPORTED...

IMAGES is a folder of PNG files, MODEL a `model.pt` of phase 1 or 3, EXPORTED the folder that `export torchscript` and
`export onnx` wrote for it. Writes export.json beside this file. Wall time counts whatever else the machine does; the
process's own CPU time, with one thread, does not.
"""

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from torch import Tensor

from ultrarefiner_monai.data.images import read_grey
from ultrarefiner_monai.deploy.export.formats import Runner, largest_differences, load_onnx, load_torchscript, parts_of
from ultrarefiner_monai.models.segmenter import load_segmenter
from ultrarefiner_monai.networks.export_parts import Part
from ultrarefiner_monai.networks.letterbox import letterbox

COUNT = 6  # images, evenly spaced over the folder; a multiple of the batches that are compared
WARM_UP, RUNS = 3, 9  # TorchScript compiles in its first two calls
LOADERS = {".ts": load_torchscript, ".onnx": load_onnx}


def images(folder: Path, size: int) -> Tensor:
    paths = sorted(folder.glob("*.png"))
    chosen = paths[:: len(paths) // COUNT][:COUNT]
    return torch.stack([letterbox(torch.from_numpy(read_grey(path))[None], size) for path in chosen])


@torch.no_grad()
def inputs_of(parts: dict[str, Part], images: Tensor) -> dict[str, tuple[Tensor, ...]]:
    """What each part takes for the images; the decoder the coarse maps that the whole network finds in them."""
    inputs: dict[str, tuple[Tensor, ...]] = dict.fromkeys(parts, (images,))
    if "decoder" in parts:
        coarse = torch.cat([parts["model"].network(image[None])[:, :1].sigmoid() for image in images])
        inputs["decoder"] = (coarse, torch.cat([parts["encoder"].network(image[None]) for image in images]))
    return inputs


@torch.no_grad()
def latency(run: Runner, inputs: tuple[Tensor, ...]) -> dict[str, Any]:
    """Milliseconds of one image, medians and every run."""
    wall, cpu = [], []
    for i in range(WARM_UP + RUNS):
        one = tuple(value[i % COUNT][None] for value in inputs)
        started, worked = time.perf_counter(), time.process_time()
        run(*one)
        wall.append(round(1000 * (time.perf_counter() - started), 2))
        cpu.append(round(1000 * (time.process_time() - worked), 2))
    measured = {"wall_ms": wall[WARM_UP:], "cpu_ms": cpu[WARM_UP:]}
    return {f"median_{name}": statistics.median(values) for name, values in measured.items()} | measured


def of_model(folder: Path, model: Path, exported: Path) -> list[dict[str, Any]]:
    """Rows of one model: each part, eager and in each format."""
    segmenter = load_segmenter(model, amp=False, device="cpu")
    parts = parts_of(segmenter)
    inputs = inputs_of(parts, images(folder, segmenter.size))
    rows = []
    for name, part in parts.items():
        about = {"phase": segmenter.stage.name, "part": name, "image_size": segmenter.size}
        rows.append(about | {"format": "eager"} | latency(part.network, inputs[name]))
        for suffix, load in LOADERS.items():
            path = exported / f"{name}{suffix}"
            run = load(path)
            facts = {"format": suffix[1:], "bytes": path.stat().st_size}
            facts["largest_difference"] = largest_differences(part, run, inputs[name])
            rows.append(about | facts | latency(run, inputs[name]))
    return rows


def main(folder: str, *models: str) -> None:
    torch.set_num_threads(1)
    pairs = [model.split("=") for model in models]
    rows = [row for model, exported in pairs for row in of_model(Path(folder), Path(model), Path(exported))]
    versions = {"torch": torch.__version__, "onnxruntime": onnxruntime.__version__}
    result = {"pictures": COUNT, "threads": 1, **versions, "rows": rows}
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
