"""BUSI (Al-Dhabyani et al. 2020): `benign/benign (1).png` with `benign (1)_mask.png`, `benign (1)_mask_1.png`, ...

The class is the folder. No patient is told, and the same woman often occurs several times, so groups come from
near-duplicates and from the table of known copies alone. Seventeen images have several masks, whose union is the lesion.
"""

import re
from pathlib import Path, PurePosixPath

from ultrarefiner_monai.data.releases.readers import Info, list_images
from ultrarefiner_monai.data.releases.records import Source

INFO = {
    "BUSI": Info(
        description="Breast ultrasound images of 600 women, benign, malignant and normal (Baheya Hospital, Cairo)",
        reference="10.1016/j.dib.2019.104863",
        licence="not stated in the release; cite Al-Dhabyani et al., Data in Brief 2020, 28:104863",
        complete=(780,),
    )
}
COPIES = {"BUSI": "busi_copies.csv"}  # frames in a wide view and in a crop, and neighbouring frames; each looked at
CLASSES = ("benign", "malignant", "normal")
LAYOUTS = (("benign", "malignant"),)  # a partial release may lack the normal images

_MASK = re.compile(r"(?P<image>.+)_mask(?:_(?P<number>\d+))?")


def identify(image: str) -> str:
    """Id of an image: its stem, such as "benign (1)", which names the class and is unique in the release."""
    return PurePosixPath(image).stem


def scan(root: Path) -> list[Source]:
    """List the images of the class folders under `root` with their masks in numerical order."""
    return [source for label in CLASSES if (root / label).is_dir() for source in _scan_class(root / label)]


def _scan_class(folder: Path) -> list[Source]:
    masks: dict[str, list[tuple[int, str]]] = {}
    images = []
    for path in list_images(folder):
        if match := _MASK.fullmatch(path.stem):
            masks.setdefault(match["image"], []).append((int(match["number"] or 0), f"{folder.name}/{path.name}"))
        else:
            images.append(path)
    return [
        Source(
            id=path.stem,
            image=f"{folder.name}/{path.name}",
            masks=tuple(mask for _, mask in sorted(masks.get(path.stem, []))),
            label=folder.name,
        )
        for path in images
    ]
