"""BUS-BRA (Gómez-Flores et al. 2024): `Images/bus_0001-l.png` with `Masks/mask_0001-l.png`, and tables.

`bus_data.csv` gives patient (`Case`) and class; its Width and Height are wrong for four images and are not used.
`5-fold-cv.csv` holds the published partition (`kFold`, from 1), in which no patient is in two folds. Its columns
`valid_1` to `valid_5` choose inner validation images (NaN in the fold itself) and do split patients: not used.
"""

from pathlib import Path, PurePosixPath

from ultrarefiner_monai.data.releases.readers import Info, paired
from ultrarefiner_monai.data.releases.readers.tables import Row, check_complete, read_table
from ultrarefiner_monai.data.releases.records import Source
from ultrarefiner_monai.data.releases.roots import within

INFO = {
    "BUSBRA": Info(
        description="Breast ultrasound images of 1064 women with biopsy-proven lesions (INCA, Rio de Janeiro)",
        reference="10.5281/zenodo.8231412",
        licence="permissive, see LICENSE.txt of the release; cite Gómez-Flores et al., Medical Physics 2024, 51:3110",
        complete=(1875,),
    )
}
LAYOUTS = (("Images", "Masks", "bus_data.csv"),)


def identify(image: str) -> str:
    """Id of an image: its stem, such as "bus_0001-l"."""
    return PurePosixPath(image).stem


def scan(root: Path) -> list[Source]:
    """List the images under `root`; patients, classes and official folds come from the release's tables.

    The folds are "" where `5-fold-cv.csv` is absent. Raises `DataError` where a table is bad or lacks an image.
    """
    pairs = paired(root, "Images", "Masks", lambda stem: stem.replace("bus_", "mask_", 1))
    ids = [identify(image) for image, _ in pairs]
    table, folds_table = (within(root, root / name) for name in ("bus_data.csv", "5-fold-cv.csv"))
    cases = read_table(table, "ID", {"Case": (), "Pathology": ("benign", "malignant")})
    check_complete(table, cases, ids)
    folds: dict[str, Row] = {}
    if folds_table.exists():
        folds = read_table(folds_table, "ID", {"kFold": ("1", "2", "3", "4", "5")})
        check_complete(folds_table, folds, ids)
    return [
        Source(
            id=id,
            image=image,
            masks=masks,
            label=cases[id]["Pathology"],
            patient=cases[id]["Case"],
            official=folds.get(id, {}).get("kFold", ""),
        )
        for id, (image, masks) in zip(ids, pairs, strict=True)
    ]
