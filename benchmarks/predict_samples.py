"""Predictions on every file of the samples, as stored and rewritten with alpha, as a palette and with one bit a pixel.

    OMP_NUM_THREADS=1 python benchmarks/predict_samples.py SAMPLES MODEL WORK

SAMPLES is a folder of releases (a pattern takes their masks as well), MODEL a `model.pt`, WORK an empty folder for the
rewritten files and the masks. Writes predict_samples.json beside this file: files, modes, faults and seconds of each set, and
how many masks equal those of the files as stored. An alpha channel, and a palette of an image without colour, must change
nothing; one bit a pixel may.
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from ultrarefiner_monai.deploy.predict.outputs import Outputs
from ultrarefiner_monai.deploy.predict.prediction import predict

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}


def with_alpha(image: Image.Image) -> Image.Image:
    """The image with an alpha channel that grows from left to right."""
    coloured = image.convert("RGB")
    ramp = np.linspace(0, 255, image.width).astype(np.uint8)
    coloured.putalpha(Image.fromarray(np.broadcast_to(ramp, (image.height, image.width)).copy()))
    return coloured


def as_palette(image: Image.Image) -> Image.Image:
    """The image as a palette: its grey levels in mixed-up order, or 256 colours of its own where it has any colour."""
    colours = image.convert("RGB")
    red, green, blue = (np.asarray(channel) for channel in colours.split())
    if np.any((red != green) | (red != blue)):
        return colours.convert("P", palette=Image.Palette.ADAPTIVE)
    levels = np.random.default_rng(0).permutation(256).astype(np.uint8)
    mixed = Image.fromarray(np.argsort(levels).astype(np.uint8)[red])
    mixed.putpalette(np.repeat(levels, 3).tobytes())
    return mixed


def one_bit(image: Image.Image) -> Image.Image:
    """The image in black and white, dithered."""
    return image.convert("L").convert("1")


SETS: dict[str, Callable[[Image.Image], Image.Image] | None] = {
    "as stored": None,
    "alpha": with_alpha,
    "palette": as_palette,
    "one bit": one_bit,
}


def rewrite(files: list[Path], samples: Path, folder: Path, change: Callable[[Image.Image], Image.Image]) -> None:
    """Write each file, changed, as PNG under its old name."""
    for path in files:
        target = (folder / path.relative_to(samples)).with_suffix(".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            change(image).save(target)


def measured(source: Path, model: Path, out: Path) -> dict[str, object]:
    """Predict all pictures below a folder, masks among them; what came out."""
    started = time.perf_counter()
    summary = predict(str(source / "**" / "*.*"), str(model), Outputs(out))
    seconds = time.perf_counter() - started
    modes = Counter(Image.open(path).mode for path in source.rglob("*") if path.suffix.lower() in SUFFIXES)
    sizes = sum(Image.open(out / str(row["mask"])).size == Image.open(str(row["file"])).size for row in summary.rows)
    return {
        "files": modes.total(),
        "modes": dict(modes),
        "masks_of_the_files_size": sizes,
        "faults": [str(failure) for failure in summary.failures],
        "seconds": round(seconds, 1),
    }


def equal_masks(one: Path, other: Path) -> int:
    """How many masks of the same name hold the same pixels."""
    names = [path.relative_to(one) for path in one.rglob("*.png")]
    return sum(np.array_equal(Image.open(one / name), Image.open(other / name)) for name in names)


def main(samples: Path, model: Path, work: Path) -> None:
    files = sorted(path for path in samples.rglob("*") if path.suffix.lower() in SUFFIXES)
    results: dict[str, dict[str, object]] = {}
    for name, change in SETS.items():
        source = samples if change is None else work / "pictures" / name
        if change is not None:
            rewrite(files, samples, source, change)
        results[name] = measured(source, model, work / "out" / name)
        if change is not None:
            equal = equal_masks(work / "out" / "as stored" / "masks", work / "out" / name / "masks")
            results[name]["masks_equal_to_those_as_stored"] = equal
        print(name, results[name], flush=True)
    Path(__file__).with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:4]))
