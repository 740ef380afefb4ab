"""How many planted crops, zooms, rotations and mirror images are found by content, and what else is taken for a copy.

    OMP_NUM_THREADS=1 python benchmarks/copies.py SAMPLES [PART ...]

SAMPLES holds parts of BUSI, BUS-BRA and BUS-UCLM, and BUSI_copies. The parts: `alone` searches all images, with time and
peak memory; `planted` searches every second image together with a copy of it, in turn of each kind of
`planted.GEOMETRY`; `known` looks for the known pairs. Each writes its part of copies.json beside this file, and copies.md
shows them. "Different" are images of two patients or of two data sets; BUSI tells no patients, so all pairs are listed.
"""

import resource
import sys
import time
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from near_duplicates import known_different
from planted import GEOMETRY

from ultrarefiner_monai.data.images import open_image, to_grey
from ultrarefiner_monai.data.releases.copies.features import Features, describe, features_of, working_pixels
from ultrarefiner_monai.data.releases.copies.search import MIN_CORRELATION, Match, search, search_files
from ultrarefiner_monai.data.releases.readers import find_root
from ultrarefiner_monai.data.releases.release import read_release
from ultrarefiner_monai.data.releases.roots import resolve
from ultrarefiner_monai.files import json_or_empty, write_json
from ultrarefiner_monai.parallel import in_parallel

NAME = "BUSI+BUSBRA+BUS_UCLM"
WORKERS = 2
EVERY = 2  # images of which one gets a copy
KNOWN = "BUSI_copies"


def copy_of(task: tuple[Path, str]) -> Features:
    """Key points of the copy of a file, of the kind that is named."""
    file, kind = task
    with open_image(file) as image:
        return describe(working_pixels(to_grey(GEOMETRY[kind](image.convert("L")))))


def told(matches: Sequence[Match], names: Sequence[str], different: np.ndarray) -> list[dict[str, Any]]:
    """Pairs among the samples themselves, the least alike first."""
    pairs = [
        {
            "first": names[match.first],
            "second": names[match.second],
            "correlation": round(match.alignment.correlation, 3),
            "transform": str(match.alignment),
            "different": bool(different[match.first, match.second]),
        }
        for match in matches
    ]
    return sorted(pairs, key=lambda pair: pair["correlation"])


def alone(names: Sequence[str], files: Sequence[Path], different: np.ndarray) -> dict[str, Any]:
    """All images: pairs, seconds on the clock and of the processor, MiB."""
    clock = [(time.monotonic(), time.process_time())]
    features = in_parallel(features_of, files, WORKERS, "describing images")
    clock.append((time.monotonic(), time.process_time()))
    matches = search(features, WORKERS)
    clock.append((time.monotonic(), time.process_time()))
    (describe_s, describe_cpu_s), (search_s, search_cpu_s) = np.diff(clock, axis=0).round(1).tolist()
    return {
        "images": len(files),
        "describe_s": describe_s,
        "describe_cpu_s": describe_cpu_s,
        "search_s": search_s,
        "search_cpu_s": search_cpu_s,
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "pairs": told(matches, names, different),
    }


def planted(names: Sequence[str], files: Sequence[Path], different: np.ndarray) -> dict[str, Any]:
    """Every second image and its copy: a row a kind of copy, and the pairs of different images among all found."""
    chosen = range(0, len(files), EVERY)
    kinds = [kind for kind, _ in zip(cycle(GEOMETRY), chosen, strict=False)]
    images = in_parallel(features_of, [files[index] for index in chosen], WORKERS, "describing images")
    tasks = [(files[index], kind) for index, kind in zip(chosen, kinds, strict=True)]
    copies = in_parallel(copy_of, tasks, WORKERS, "describing copies")
    found: dict[int, float] = {}
    matches, false = search([*images, *copies], WORKERS), []
    for match in matches:
        first, second = match.first % len(kinds), match.second % len(kinds)
        if first == second:
            found[first] = match.alignment.correlation
        elif different[chosen[first], chosen[second]]:
            false.append([names[chosen[first]], names[chosen[second]]])
    rows = []
    for kind in GEOMETRY:
        of_kind = [index for index, other in enumerate(kinds) if other == kind]
        values = [found[index] for index in of_kind if index in found]
        lowest = round(min(values), 2) if values else None
        rows.append({"kind": kind, "copies": len(of_kind), "found": len(values), "lowest": lowest})
    return {"images": len(kinds), "kinds": rows, "all_pairs": len(matches), "false": false}


def page(report: dict[str, Any]) -> str:
    """The results for people."""
    lines = ["# Copies found by content", "", "`OMP_NUM_THREADS=1 python benchmarks/copies.py SAMPLES`; two threads."]
    if own := report.get("alone"):
        false = sum(pair["different"] for pair in own["pairs"])
        lines += [
            "",
            f"{own['images']} real images: described in {own['describe_s']:.0f} s ({own['describe_cpu_s']:.0f} s of processor"
            f" time), searched in {own['search_s']:.0f} s ({own['search_cpu_s']:.0f} s), peak memory {own['peak_mib']} MiB."
            f" {len(own['pairs'])} pairs from correlation {MIN_CORRELATION}, {false} of them of different patients or data sets.",
        ]
    if made := report.get("planted"):
        lines += [
            "",
            f"{made['images']} real images, each with a planted copy: {len(made['false'])} pairs of different patients or data"
            f" sets among the {made['all_pairs']} found.",
            "",
            "| copy | planted | found | recall | lowest correlation |",
            "| --- | --- | --- | --- | --- |",
        ]
        for row in made["kinds"]:
            share = 100 * row["found"] / row["copies"]
            lines.append(f"| {row['kind']} | {row['copies']} | {row['found']} | {share:.0f} % | {row['lowest']} |")
    for title, pairs in (
        (f"Known pairs (`{KNOWN}`)", report.get("known", [])),
        ("Pairs among the real images, the least alike first", (own or {}).get("pairs", [])),
    ):
        lines += ["", f"{title}:", ""]
        lines += [f"- {p['first']} and {p['second']}: {p['correlation']:.2f}, {p['transform']}" for p in pairs]
    return "\n".join(lines) + "\n"


def main(samples: str, *parts: str) -> None:
    """Measure the parts, all by default, and write both files."""
    results = Path(__file__).with_suffix(".json")
    for part in parts or ("alone", "planted", "known"):
        name, folder = ("BUSI", Path(samples) / KNOWN) if part == "known" else (NAME, Path(samples))
        records, root = read_release(name, folder, skip_bad=True).records, find_root(name, folder)
        files = [resolve(root, record.source.image) for record in records]
        names, different = [record.source.id for record in records], known_different(records)
        if part == "known":
            measured: Any = told(search_files(files, WORKERS), names, different)
        else:
            measured = {"alone": alone, "planted": planted}[part](names, files, different)
        report = {**json_or_empty(results, dict), part: measured}
        write_json(results, report)
        results.with_suffix(".md").write_text(page(report), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
