"""The folders of a checkout that travel with the package, inside a wheel or an exported bundle, and where results go.

`setup.py` runs this file by itself: it imports nothing of the package.
"""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
FOLDERS = ("bundles", "data_manifests", "docs/examples")
RESULTS = ("models", "runs")  # what trainings leave in the bundles of a checkout


def shipped(name: str) -> Path:
    """Folder `name` of the installed package, or of the checkout where the package runs from one."""
    inside = PACKAGE / "_shipped" / name
    return inside if inside.is_dir() else PACKAGE.parent / name


BUNDLES = shipped("bundles")


def project_root(bundle: str | None = None) -> Path:
    """Folder that holds `bundles/`, `data/`, `runs/` and the MLflow store; for a bundle that stands alone, itself.

    Args:
        bundle: folder of one of its bundles; None is one that comes with the package.
    """
    folder = results_root(bundle or str(BUNDLES / "phase1"))
    return folder.parent.parent if folder.parent.name == "bundles" else folder


def results_root(bundle: str) -> Path:
    """Folder in which a bundle keeps its `models`: the bundle itself.

    For a bundle of an installed package it is `bundles/<name>` in the working directory: nothing is written into the package.
    """
    folder = Path(bundle)
    return Path.cwd() / "bundles" / folder.name if PACKAGE in folder.parents else folder


def copy_shipped(target: Path) -> None:
    """Copy `FOLDERS` into the folder `target`, without results of trainings."""
    for name in FOLDERS:
        copy_folder(shipped(name), target / name, RESULTS)


def copy_folder(source: Path, target: Path, without: Iterable[str] = ()) -> None:
    """Copy a folder but for the folders of those names; `shutil.copytree` would hide what the operating system says."""
    for place, folders, files in os.walk(source):
        folders[:] = sorted(set(folders).difference(without))
        folder = target / Path(place).relative_to(source)
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copyfile(Path(place, file), folder / file)
