"""The folders of a checkout that travel with the package: inside a wheel, and manifests inside an exported bundle.

`setup.py` runs this file by itself: it imports nothing of the package.
"""

import shutil
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
FOLDERS = ("bundles", "data_manifests", "docs/examples")
RESULTS = ("models", "runs")  # what trainings leave in the bundles of a checkout


def shipped(name: str) -> Path:
    """Folder `name` of the installed package, or of the checkout where the package runs from one."""
    inside = PACKAGE / "_shipped" / name
    return inside if inside.is_dir() else PACKAGE.parent / name


def copy_shipped(target: Path) -> None:
    """Copy `FOLDERS` into the folder `target`, without results of trainings."""
    for name in FOLDERS:
        shutil.copytree(shipped(name), target / name, ignore=shutil.ignore_patterns(*RESULTS), dirs_exist_ok=True)
