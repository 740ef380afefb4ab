"""BUS-UCLM (Vallez et al. 2025): `images/ALWI_000.png` with `masks/ALWI_000.png` (colours), `INFO.csv`.

The patient is the first part of the name. Masks are black with green (benign) or red (malignant) lesions. Thirteen
`HESN_*` images are smaller than their masks and are stretched onto them. Frames with colour Doppler are images like
any other.
"""

from pathlib import Path, PurePosixPath

from ultrarefiner_monai.data.releases.readers import Info, paired
from ultrarefiner_monai.data.releases.readers.tables import check_complete, read_table
from ultrarefiner_monai.data.releases.records import Source
from ultrarefiner_monai.data.releases.roots import within

OFFICIAL_TEST = frozenset({"COPE", "ANFO", "ELCO", "CRCI", "FLKA"})  # the authors' published test patients
INFO = {
    "BUS_UCLM": Info(
        description="Breast ultrasound images of 38 patient codes, benign, malignant and normal (Ciudad Real)",
        reference="10.1038/s41597-025-04562-3",
        licence="stated as both CC BY 4.0 and CC BY-NC 4.0 by its authors: treat as non-commercial",
        same_patient={"CHVI": "CHCO"},  # four identical images under two codes
        stretched=True,
        official_test=OFFICIAL_TEST,
        complete=(683,),
    )
}
LAYOUTS = (("images", "masks", "INFO.csv"),)


def identify(image: str) -> str:
    """Id of an image: its stem, such as "ALWI_000"."""
    return PurePosixPath(image).stem


def scan(root: Path) -> list[Source]:
    """List the images under `root`; the class is the label of INFO.csv, which names image files.

    Raises `DataError` where the table is bad or lacks an image.
    """
    pairs = paired(root, "images", "masks")
    table = within(root, root / "INFO.csv")
    rows = read_table(table, "Image", {"Label": ("benign", "malignant", "normal")}, separator=";")
    labels = {identify(image): row["Label"] for image, row in rows.items()}
    check_complete(table, labels, [identify(image) for image, _ in pairs])
    return [
        Source(
            id=identify(image),
            image=image,
            masks=masks,
            label=labels[identify(image)],
            patient=identify(image).split("_")[0],
        )
        for image, masks in pairs
    ]
