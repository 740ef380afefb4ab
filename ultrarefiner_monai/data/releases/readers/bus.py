"""BUS: `original/000001.png` with `GT/000001.png`, no classes, no patients.

In print "BUS" names both UDIAT's dataset B (163 images) and BUSIS (562 images). The reader takes what the folder holds;
`UDIAT` is accepted as a name of its own, so that one can be the unseen set of the other.
"""

from pathlib import Path, PurePosixPath

from ultrarefiner_monai.data.releases.readers import Info, paired
from ultrarefiner_monai.data.releases.records import Source

INFO = {
    "BUS": Info(
        description="Breast ultrasound images, without class or patient (163: UDIAT dataset B; 562: BUSIS)",
        reference="10.1109/JBHI.2017.2731873 (163 images) or 10.3390/healthcare10040729 (562 images)",
        licence="163 images: research use under an agreement with the authors; 562: from the authors, on their terms",
        complete=(163, 562),
    ),
    "UDIAT": Info(
        description="Breast ultrasound images of the UDIAT Diagnostic Centre, Sabadell (dataset B of Yap et al.)",
        reference="10.1109/JBHI.2017.2731873",
        licence="research use under an agreement with the authors",
        complete=(163,),
    ),
}
LAYOUTS = (("original", "GT"),)


def identify(image: str) -> str:
    """Id of an image: its stem, such as "000001"."""
    return PurePosixPath(image).stem


def scan(root: Path) -> list[Source]:
    """List the images of `original` under `root` with the masks of the same name in `GT`."""
    return [Source(identify(image), image, masks, "unknown") for image, masks in paired(root, "original", "GT")]
