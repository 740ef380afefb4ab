"""How many planted crops, zooms, rotations and mirror images are found by content, and what else is taken for a copy.

    OMP_NUM_THREADS=1 python benchmarks/copies.py SAMPLES [LIMIT]

SAMPLES holds parts of BUSI, BUS-BRA and BUS-UCLM (and BUSI_copies); LIMIT takes the first images alone. Every second
image gets one copy, in turn of each kind of `planted.GEOMETRY`. First the images are searched alone, with time and peak memory,
then together with all copies. Writes copies.md and copies.json beside this file. "Different" are images of two patients or
of two data sets; BUSI tells no patients, so pairs within it are listed to be looked at.
"""

import json
import resource
import sys
import time
from collections.abc import Mapping, Sequence
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
from ultrarefiner_monai.parallel import in_parallel

NAME = "BUSI+BUSBRA+BUS_UCLM"
WORKERS = 2
EVERY = 2  # images of which one gets a copy: the search grows with the square of their number
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


def recall(
    matches: Sequence[Match], kinds: Mapping[int, str], different: np.ndarray
) -> tuple[list[dict[str, Any]], list[list[int]]]:
    """A row a kind of copy, and the pairs of different images among all those found.

    `kinds` tells what became of an image by its number; the copies follow the images, in order.
    """
    number = [*range(len(different)), *kinds]  # of the image that each one is, or is a copy of
    found: dict[int, float] = {}
    false = []
    for match in matches:
        first, second = number[match.first], number[match.second]
        if first == second:
            found[first] = match.alignment.correlation
        elif different[first, second]:
            false.append([first, second])
    rows = []
    for kind in GEOMETRY:
        of_kind = [index for index, other in kinds.items() if other == kind]
        values = [found[index] for index in of_kind if index in found]
        lowest = round(min(values), 2) if values else None
        rows.append({"kind": kind, "copies": len(of_kind), "found": len(values), "lowest": lowest})
    return rows, false


def page(report: dict[str, Any]) -> str:
    """The results for people."""
    false = sum(pair["different"] for pair in report["pairs"])
    lines = [
        f"# Copies found by content: {report['images']} real images and {report['copies']} planted copies",
        "",
        "`OMP_NUM_THREADS=1 python benchmarks/copies.py SAMPLES`; two threads on two cores that others used, too.",
        "",
        f"The {report['images']} images alone: described in {report['describe_s']:.0f} s ({report['describe_cpu_s']:.0f} s of"
        f" processor time), searched in {report['search_s']:.0f} s ({report['search_cpu_s']:.0f} s), peak memory"
        f" {report['peak_mib']:.0f} MiB. {len(report['pairs'])} pairs from correlation {MIN_CORRELATION}, {false} of them of"
        " different patients or data sets."
        f" With the copies: {report['false']} such pairs among {report['all_pairs']} found.",
        "",
        "| copy | planted | found | recall | lowest correlation |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in report["kinds"]:
        share = 100 * row["found"] / row["copies"] if row["copies"] else 0
        lines.append(f"| {row['kind']} | {row['copies']} | {row['found']} | {share:.0f} % | {row['lowest']} |")
    lines += ["", f"Known pairs of `{KNOWN}`:", ""]
    lines += [f"- {p['first']} and {p['second']}: {p['correlation']:.2f}, {p['transform']}" for p in report["known"]]
    lines += ["", "Pairs among the samples, the least alike first:", ""]
    lines += [f"- {p['first']} and {p['second']}: {p['correlation']:.2f}, {p['transform']}" for p in report["pairs"]]
    return "\n".join(lines) + "\n"


def main(samples: str, limit: str = "") -> None:
    """Measure, and write both files."""
    records = read_release(NAME, samples, skip_bad=True).records[: int(limit) if limit else None]
    root, different = find_root(NAME, samples), known_different(records)
    files = [resolve(root, record.source.image) for record in records]
    names = [record.source.id for record in records]
    clock = [(time.monotonic(), time.process_time())]
    originals = in_parallel(features_of, files, WORKERS, "describing images")
    clock.append((time.monotonic(), time.process_time()))
    alone = search(originals, WORKERS)
    clock.append((time.monotonic(), time.process_time()))
    (describe_s, describe_cpu_s), (search_s, search_cpu_s) = np.diff(clock, axis=0).round(1).tolist()
    report: dict[str, Any] = {
        "images": len(files),
        "describe_s": describe_s,
        "describe_cpu_s": describe_cpu_s,
        "search_s": search_s,
        "search_cpu_s": search_cpu_s,
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "pairs": told(alone, names, different),
    }
    print(json.dumps(report), flush=True)
    kinds = dict(zip(range(0, len(files), EVERY), cycle(GEOMETRY), strict=False))
    copies = in_parallel(copy_of, [(files[index], kind) for index, kind in kinds.items()], WORKERS, "describing copies")
    matches = search([*originals, *copies], WORKERS)
    report["kinds"], false = recall(matches, kinds, different)
    report |= {"copies": len(copies), "false": len(false), "false_pairs": false, "all_pairs": len(matches)}
    few = read_release("BUSI", Path(samples) / KNOWN).records
    there = find_root("BUSI", Path(samples) / KNOWN)
    known = search_files([resolve(there, record.source.image) for record in few], WORKERS)
    report["known"] = told(known, [record.source.id for record in few], np.zeros((len(few), len(few)), bool))
    out = Path(__file__)
    out.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    out.with_suffix(".md").write_text(page(report), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
