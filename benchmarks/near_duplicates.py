"""How many planted copies of real images are found as near-duplicates, and how many different images are taken for such.

    OMP_NUM_THREADS=1 python benchmarks/near_duplicates.py ROOT [NAME]

ROOT holds the releases (or part of them) of the data set NAME, by default BUSI+BUSBRA+BUS_UCLM. Writes
near_duplicates.csv (a row a kind of copy) and near_duplicates.json beside this file. "Known different" are images of
different patients or data sets; BUSI tells no patients, so pairs within it do not count.
"""

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from planted import CHANGES, Change

from ultrarefiner_monai.data.images import open_image
from ultrarefiner_monai.data.releases.copies.near_duplicates import MIN_CORRELATION, correlation
from ultrarefiner_monai.data.releases.copies.perceptual_hashes import (
    HASH_BITS,
    MAX_DISTANCE,
    MIRRORS,
    hash_bits,
    mirrors,
)
from ultrarefiner_monai.data.releases.image_facts import phash16, thumbnail
from ultrarefiner_monai.data.releases.readers import find_root
from ultrarefiner_monai.data.releases.records import Record
from ultrarefiner_monai.data.releases.release import read_release
from ultrarefiner_monai.data.releases.roots import Root, resolve
from ultrarefiner_monai.parallel import in_parallel

HARD = 90  # pairs of known different images up to this distance are compared by their pixels, too
RANDOM = 20_000  # and so many of the others
COUNTS = ("copies", "found_hash", "found_hash_and_pixels", "different_pairs", "false_hash", "false_hash_and_pixels")


@dataclass(frozen=True)
class Images:
    """Hash bits (n, 256) and thumbnails of n images."""

    bits: np.ndarray
    thumbnails: list[bytes]


def planted(records: Sequence[Record], root: Root, change: Change) -> Images:
    def one(record: Record) -> tuple[str, bytes]:
        with open_image(resolve(root, record.source.image)) as image:
            copy = change(image.convert("L"))
        return phash16(copy), thumbnail(copy)

    hashes, thumbnails = zip(*in_parallel(one, records), strict=True)
    return Images(hash_bits(hashes), list(thumbnails))


def distances(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smallest distance (n, m) over the four mirrors, and which mirror (n, m)."""
    signs, others = (1 - 2 * bits.astype(np.float32) for bits in (first, second))
    flips = 1 - 2 * mirrors().astype(np.float32)
    every = np.stack([(HASH_BITS - (signs * flip) @ others.T) / 2 for flip in flips])
    return every.min(axis=0), every.argmin(axis=0)


def correlations(first: Images, second: Images, pairs: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """Correlation of each pair (k, 2) of images, mirrored as the matrix `mirror` says."""
    names = list(MIRRORS)
    values = [correlation(first.thumbnails[i], second.thumbnails[j], names[mirror[i, j]]) for i, j in pairs]
    return np.array(values)


def known_different(records: Sequence[Record]) -> np.ndarray:
    """Bool (n, n): images of different data sets, or of two patients of one."""
    datasets = np.array([record.source.dataset for record in records])
    patients = np.array([record.source.patient for record in records])
    told = patients != ""
    other_patient = (patients[:, None] != patients) & told[:, None] & told
    return (datasets[:, None] != datasets) | other_patient


def of_kind(kind: str, originals: Images, copies: Images, different: np.ndarray) -> dict[str, Any]:
    """Row of the table: what is found of the copies, and which other images they are taken for."""
    distance, mirror = distances(originals.bits, copies.bits)
    own = np.repeat(np.arange(len(different)), 2).reshape(-1, 2)
    found, alike = np.diag(distance) <= MAX_DISTANCE, correlations(originals, copies, own, mirror)
    false = np.argwhere(different & (distance <= MAX_DISTANCE))
    return {
        "kind": kind,
        "copies": len(found),
        "found_hash": int(found.sum()),
        "found_hash_and_pixels": int((found & (alike >= MIN_CORRELATION)).sum()),
        "largest_distance": int(np.diag(distance).max()),
        "smallest_correlation": round(float(alike.min()), 3),
        "different_pairs": int(different.sum()),
        "smallest_distance_of_different": int(distance[different].min()),
        "false_hash": len(false),
        "false_hash_and_pixels": int((correlations(originals, copies, false, mirror) >= MIN_CORRELATION).sum()),
    }


def of_pixels_alone(originals: Images, different: np.ndarray) -> dict[str, Any]:
    """How the second check would do without the hash: on known different images that the hash finds alike, and on any."""
    distance, mirror = distances(originals.bits, originals.bits)
    upper = np.triu(different, 1)
    hard = np.argwhere(upper & (distance > MAX_DISTANCE) & (distance <= HARD))
    easy = np.random.default_rng(0).permutation(np.argwhere(upper & (distance > HARD)))[:RANDOM]
    summary: dict[str, Any] = {}
    for name, pairs in ((f"distance {MAX_DISTANCE + 1} to {HARD}", hard), (f"distance above {HARD}", easy)):
        values = correlations(originals, originals, pairs, mirror)
        largest = round(float(values.max()), 3)
        summary[name] = {"pairs": len(pairs), "false": int((values >= MIN_CORRELATION).sum()), "largest": largest}
    return summary


def main(root: str, name: str = "BUSI+BUSBRA+BUS_UCLM") -> None:
    records, where = read_release(name, root, skip_bad=True).records, find_root(name, root)
    different = known_different(records)
    make = partial(planted, records, where)
    originals = make(lambda image: image)
    rows = [of_kind(kind, originals, make(change), different) for kind, change in CHANGES.items()]
    table = Path(__file__).with_suffix(".csv")
    with table.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    summary = {
        "data": name,
        "images": len(records),
        "max_distance": MAX_DISTANCE,
        "min_correlation": MIN_CORRELATION,
        "total": {key: sum(row[key] for row in rows) for key in COUNTS},
        "originals": of_kind("unchanged", originals, originals, different),
        "pixels_alone": of_pixels_alone(originals, different),
    }
    table.with_suffix(".json").write_text(json.dumps(summary, indent=2) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
