"""The synthetic phantom of `data.phantom`: `images/p0001_1.png`, `masks/p0001_1.png`, `cases.csv`."""

from pathlib import Path, PurePosixPath

from ultrarefiner_monai.data.releases.readers import Info
from ultrarefiner_monai.data.releases.readers.tables import read_table
from ultrarefiner_monai.data.releases.records import Source
from ultrarefiner_monai.data.releases.roots import within

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
    classes = ("benign", "malignant", "normal")
    rows = read_table(within(root, root / "cases.csv"), "image", {"mask": (), "patient": (), "class": classes})
    return [
        Source(identify(image), image, (row["mask"],), row["class"], patient=row["patient"])
        for image, row in rows.items()
    ]
