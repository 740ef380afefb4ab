"""Time and peak memory of building and verifying the manifests of BUSI, BUS-BRA and BUS-UCLM, 3 338 images.

    python benchmarks/manifests.py SAMPLES WORK

SAMPLES holds parts of the three releases, each anywhere below it. They are completed in WORK to the number of images of the
releases: what is absent is a present image of the same class with one pixel changed, under the absent file's name. Times
are those of real images then, the near-duplicates found are not. Prints a table in Markdown.
"""

import os
import shutil
import subprocess
import sys
import time
from itertools import cycle
from pathlib import Path

import numpy as np
from PIL import Image

from ultrarefiner_monai.data.manifests.items import Item, item_files
from ultrarefiner_monai.data.manifests.manifest import available, load_manifest, shipped_manifest
from ultrarefiner_monai.data.releases.readers import find_root
from ultrarefiner_monai.data.releases.roots import resolve

NAMES = ("BUSI", "BUSBRA", "BUS_UCLM")
TABLES = ("*.csv", "*.txt")


def complete(name: str, samples: Path, target: Path) -> None:
    """Write a release of full size from a part of it."""
    manifest = load_manifest(shipped_manifest(name))
    source = find_root(name, samples)
    present = {item["id"]: item for item in available(manifest, source)[0].items()}
    stand_ins = {label: cycle(items) for label, items in _by_class(present).items()}
    for pattern in TABLES:
        for table in Path(str(source)).glob(pattern):
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(table, target)
    for number, item in enumerate(manifest.items()):
        if item["id"] in present:
            _copy(item, item, source, target, changed=None)
        else:
            _copy(next(stand_ins[item["class"]]), item, source, target, changed=number)


def _by_class(items: dict[str, Item]) -> dict[str, list[Item]]:
    found: dict[str, list[Item]] = {}
    for item in items.values():
        found.setdefault(item["class"], []).append(item)
    return found


def _copy(stand_in: Item, item: Item, source: Path, target: Path, changed: int | None) -> None:
    """Copy an image and its masks; `changed` tells apart the copies of one image."""
    originals = item_files(stand_in)
    for position, path in enumerate(item_files(item)):
        original, copy = resolve(source, originals[min(position, len(originals) - 1)]), target / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        if changed is None or position:
            shutil.copy(original, copy)
            continue
        with Image.open(original) as image:
            pixels = np.array(image)
        pixels[changed // 256 % len(pixels), changed % pixels.shape[1]] ^= 255
        Image.fromarray(pixels).save(copy)


def timed(*words: str, cache: Path) -> tuple[float, float]:
    """Seconds and peak memory (MiB) of a command that keeps its cache below `cache`."""
    program = "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL); " + (
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(done.returncode)"
    )
    started = time.monotonic()
    environment = os.environ | {"XDG_CACHE_HOME": str(cache)}
    command = [sys.executable, "-c", program, *words]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return time.monotonic() - started, int(done.stdout) / 1024


def main(samples: str, work: str) -> None:
    """Complete the releases where that was not done yet, then time the commands."""
    root = Path(work)
    for name in NAMES:
        if not (root / name).is_dir():
            complete(name, Path(samples), root / name)
    print("| command | workers | seconds | peak memory (MiB) |\n| --- | --- | --- | --- |")
    ultrarefiner = (sys.executable, "-m", "ultrarefiner_monai", "manifests")
    build = (*ultrarefiner, "build", "BUSI+BUSBRA+BUS_UCLM", "--root", work, "--out", f"{work}/manifests")
    shutil.rmtree(root / "cache", ignore_errors=True)
    runs = [
        ("build, no cache", 1, (*build, "--cache", "False", "--workers", "1")),
        ("build, no cache", 2, (*build, "--workers", "2")),
        ("build, second time", 2, (*build, "--workers", "2")),
    ]
    manifest = f"{work}/manifests/BUSI+BUSBRA+BUS_UCLM.json"
    runs += [
        ("verify", workers, (*ultrarefiner, "verify", manifest, "--root", work, "--workers", str(workers)))
        for workers in (1, 2)
    ]
    for label, workers, words in runs:
        seconds, memory = timed(*words, cache=root / "cache")
        print(f"| {label} | {workers} | {seconds:.1f} | {memory:.0f} |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
