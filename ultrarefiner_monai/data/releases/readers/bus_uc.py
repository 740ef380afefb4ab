"""BUS-UC (Iqbal and Sharif, Mendeley Data 2023): `Benign/images/001.png` with `Benign/masks/001.png`, and `Malignant/...`.

The release is also seen unsorted, as `All/images` and `All/masks`.
Where all three folders exist the class folders are read and `All`, which repeats them, is left alone.
"""

from pathlib import Path, PurePosixPath

from ultrarefiner_monai.data.releases.readers import Info, paired
from ultrarefiner_monai.data.releases.records import Source

INFO = {
    "BUS_UC": Info(
        description="Breast ultrasound images of ultrasoundcases.info, benign and malignant, without patients",
        reference="10.17632/3ksd7w7jkx.1",
        licence="CC BY 4.0 as Mendeley Data states; cite Iqbal and Sharif 2024, 10.1016/j.engappai.2023.107292",
        complete=(811,),
    )
}
CLASSES = {"Benign": "benign", "Malignant": "malignant"}
LAYOUTS = (
    ("Benign/images", "Benign/masks", "Malignant/images", "Malignant/masks"),
    ("All/images", "All/masks"),
)


def identify(image: str) -> str:
    """Id of an image: its stem, after the class where a class folder holds it ("benign 001"), since numbers repeat."""
    path = PurePosixPath(image)
    label = CLASSES.get(path.parts[0])
    return f"{label} {path.stem}" if label else path.stem


def scan(root: Path) -> list[Source]:
    """List the images under `root`, with their class if the release is sorted by class."""
    folders = [folder for folder in CLASSES if (root / folder / "images").is_dir()] or ["All"]
    return [
        Source(identify(image), image, masks, CLASSES.get(folder, "unknown"))
        for folder in folders
        for image, masks in paired(root, f"{folder}/images", f"{folder}/masks")
    ]


def unread(root: Path) -> tuple[str, ...]:
    """`All`, where the class folders hold its images."""
    return ("All",) if any((root / folder / "images").is_dir() for folder in CLASSES) else ()
