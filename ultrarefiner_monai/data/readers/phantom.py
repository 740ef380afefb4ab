"""The synthetic phantom of `data.phantom`: `images/p0001_1.png`, `masks/p0001_1.png`, `cases.csv`."""

import csv
from pathlib import Path, PurePosixPath

from ..errors import DataError
from ..records import Source
from . import Info

INFO = {
    "PHANTOM": Info(
        description="Synthetic B-mode-like pictures with lesions, for demos and tests only; not a medical result",
        reference="ultrarefiner_monai.data.phantom",
        licence="Apache-2.0",
    )
}
LAYOUTS = (("images", "masks", "cases.csv"),)


def identify(image: str) -> str:
    """Id of an image: its stem, such as "p0001_1" (patient and view)."""
    return PurePosixPath(image).stem


def scan(root: Path) -> list[Source]:
    """List the images of `cases.csv` under `root`."""
    table = root / "cases.csv"
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    needed = {"image", "mask", "patient", "class"}
    if rows and not needed <= rows[0].keys():
        raise DataError(
            f"{table}: expected columns {', '.join(sorted(needed))}, found {', '.join(rows[0])}; write it again"
        )
    return [
        Source(identify(row["image"]), row["image"], (row["mask"],), row["class"], patient=row["patient"])
        for row in rows
    ]
