"""BUS-BRA (Gómez-Flores et al. 2024): `Images/bus_0001-l.png` with `Masks/mask_0001-l.png`, and tables.

`bus_data.csv` gives patient (`Case`) and class; its Width and Height are wrong for four images and are not used.
`5-fold-cv.csv` holds the published partition (`kFold`, from 1).
"""

import csv
from pathlib import Path, PurePosixPath

from ..errors import DataError
from ..records import Source
from . import Info, list_images

INFO = {
    "BUSBRA": Info(
        description="Breast ultrasound images of 1064 women with biopsy-proven lesions (INCA, Rio de Janeiro)",
        reference="10.5281/zenodo.8231412",
        licence="permissive, see LICENSE.txt of the release; cite Gómez-Flores et al., Medical Physics 2024, 51:3110",
    )
}
LAYOUTS = (("Images", "Masks", "bus_data.csv"),)


def identify(image: str) -> str:
    """Id of an image: its stem, such as "bus_0001-l"."""
    return PurePosixPath(image).stem


def scan(root: Path) -> list[Source]:
    """List the images under `root`; patients, classes and official folds come from the release's tables."""
    cases = _table(root / "bus_data.csv")
    folds = _table(root / "5-fold-cv.csv") if (root / "5-fold-cv.csv").is_file() else {}
    masks = {path.stem: f"Masks/{path.name}" for path in list_images(root / "Masks")}
    images = list_images(root / "Images")
    unknown = [path.stem for path in images if path.stem not in cases]
    if unknown:
        raise DataError(f"{root / 'bus_data.csv'}: no row for {', '.join(unknown[:8])}; restore the complete table")
    return [
        Source(
            id=path.stem,
            image=f"Images/{path.name}",
            masks=tuple(masks[stem] for stem in (path.stem.replace("bus_", "mask_", 1),) if stem in masks),
            label=cases[path.stem]["Pathology"].strip().lower(),
            patient=cases[path.stem]["Case"].strip(),
            official=folds.get(path.stem, {}).get("kFold", "").strip(),
        )
        for path in images
    ]


def _table(path: Path) -> dict[str, dict[str, str]]:
    """Rows of one of the release's CSV files by image id."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    needed = {"ID", "Case", "Pathology"} if path.name == "bus_data.csv" else {"ID", "kFold"}
    if rows and not needed <= rows[0].keys():
        raise DataError(f"{path}: expected columns {', '.join(sorted(needed))}, found {', '.join(rows[0])}")
    return {row["ID"]: row for row in rows}
