"""BUS-UCLM (Vallez et al. 2025): `images/ALWI_000.png` with `masks/ALWI_000.png` (colours), `INFO.csv`.

The patient is the first part of the name. Masks are black with green (benign) or red (malignant) lesions. Thirteen
`HESN_*` images are smaller than their masks and are stretched onto them.
"""

import csv
from pathlib import Path, PurePosixPath

from ..errors import DataError
from ..records import Source
from . import Info, paired

OFFICIAL_TEST = frozenset({"COPE", "ANFO", "ELCO", "CRCI", "FLKA"})  # the authors' published test patients
INFO = {
    "BUS_UCLM": Info(
        description="Breast ultrasound images of 38 patient codes, benign, malignant and normal (Ciudad Real)",
        reference="10.1038/s41597-025-04562-3",
        licence="stated as both CC BY 4.0 and CC BY-NC 4.0 by its authors: treat as non-commercial",
        same_patient={"CHVI": "CHCO"},  # four identical images under two codes
        stretched=True,
        official_test=OFFICIAL_TEST,
    )
}
LAYOUTS = (("images", "masks", "INFO.csv"),)


def identify(image: str) -> str:
    """Id of an image: its stem, such as "ALWI_000"."""
    return PurePosixPath(image).stem


def scan(root: Path) -> list[Source]:
    """List the images under `root`; the class is INFO.csv's label ("unknown" for an image it does not list)."""
    labels = _labels(root / "INFO.csv")
    return [
        Source(
            id=identify(image),
            image=image,
            masks=masks,
            label=labels.get(PurePosixPath(image).name, "unknown"),
            patient=identify(image).split("_")[0],
        )
        for image, masks in paired(root, "images", "masks")
    ]


def _labels(path: Path) -> dict[str, str]:
    """Class of each image file; the table is separated by `;` and starts with a byte-order mark."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    if rows and not {"Image", "Label"} <= rows[0].keys():
        raise DataError(f"{path}: expected columns Image and Label separated by ';', found {', '.join(rows[0])}")
    return {row["Image"].strip(): row["Label"].strip().lower() for row in rows}
