"""Smallest releases in the layout of each dataset, for tests of readers: one lesion image, or names without content."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

Save = Callable[[Image.Image, Path], None]

# Image and mask of a release by their paths without suffix, what else its root must hold, and the image's id.
ONE = {
    "BUSI": ("benign/benign (1)", "benign/benign (1)_mask", {"malignant/": ""}, "benign (1)"),
    "BUSBRA": (
        "Images/bus_0001-l",
        "Masks/mask_0001-l",
        {"bus_data.csv": "ID,Case,Pathology\nbus_0001-l,1,benign\n"},
        "bus_0001-l",
    ),
    "BUS": ("original/000001", "GT/000001", {}, "000001"),
    "UDIAT": ("original/000001", "GT/000001", {}, "000001"),
    "BUS_UC": (
        "Benign/images/001",
        "Benign/masks/001",
        {"Malignant/images/": "", "Malignant/masks/": ""},
        "benign 001",
    ),
    "BUS_UCLM": (
        "images/ALWI_000",
        "masks/ALWI_000",
        {"INFO.csv": "\ufeffImage;Label\nALWI_000.png;Benign\n"},
        "ALWI_000",
    ),
}


def touch(root: Path, *names: str) -> Path:
    """Make empty files, and folders where a name ends with `/`."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            (root / name).mkdir(exist_ok=True)
        else:
            (root / name).touch()
    return root


def picture() -> Image.Image:
    """Grey picture 30 wide and 20 high, of no symmetry."""
    y, x = np.mgrid[:20, :30]
    return Image.fromarray((x * 7 + y * y // 4 + (x * y) % 13).clip(0, 255).astype(np.uint8))


def mask() -> Image.Image:
    """Mask of `picture` with a lesion of 4 x 6 = 24 pixels, 0 and 255."""
    planes = np.zeros((20, 30), dtype=np.uint8)
    planes[3:7, 10:16] = 255
    return Image.fromarray(planes)


def make_one(
    name: str, root: Path, image: Image.Image | None = None, label: Image.Image | None = None, suffix: str = ".png"
) -> Path:
    """Write the release of `name` with one image and its mask; returns the release folder."""
    image_path, mask_path, others, _ = ONE[name]
    for other, text in others.items():
        touch(root, other)
        if text:
            (root / other).write_text(text, encoding="utf-8")
    for path, content in ((image_path, image or picture()), (mask_path, label or mask())):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        content.save(root / f"{path}{suffix}")
    return root
