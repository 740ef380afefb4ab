"""Where a bundle, its project and its results are, from whatever directory a run is started."""

import sys
from pathlib import Path

from ultrarefiner_monai.shipped import PACKAGE, shipped

BUNDLES = shipped("bundles")


def bundle_root(name: str) -> str:
    """Folder of the bundle `name` ("phase1", "phase2", "phase3").

    The folder of the configuration on the command line comes first, so that an exported copy of a bundle works where it is;
    then the bundle that the package is part of, then the bundle that comes with the package.

    Raises:
        SystemExit: neither is a bundle; says where it was looked for.
    """
    candidates = [path.resolve().parent.parent for path in _config_files_on_command_line()]
    exported = [PACKAGE.parent] if (PACKAGE.parent / "configs" / "metadata.json").is_file() else []
    for candidate in [*candidates, *exported, BUNDLES / name]:
        if (candidate / "configs").is_dir():
            return str(candidate)
    raise SystemExit(
        f"bundle {name}: no folder with configs/ at {BUNDLES / name}; run from a checkout or name a bundle_root"
    )


def _config_files_on_command_line() -> list[Path]:
    """Existing files named by `--config_file` (one path, or MONAI's list notation)."""
    values = []
    for position, argument in enumerate(sys.argv):
        if argument == "--config_file" and position + 1 < len(sys.argv):
            values.append(sys.argv[position + 1])
        elif argument.startswith("--config_file="):
            values.append(argument.split("=", 1)[1])
    names = [part.strip(" '\"") for value in values for part in value.strip("[]").split(",")]
    return [Path(name) for name in names if Path(name).is_file()]


def project_root(bundle: str) -> Path:
    """Folder that holds `bundles/`, `data/`, `runs/` and the MLflow store; for a bundle that stands alone, itself."""
    folder = results_root(bundle)
    return folder.parent.parent if folder.parent.name == "bundles" else folder


def results_root(bundle: str) -> Path:
    """Folder in which a bundle keeps its `models`: the bundle itself.

    For a bundle of an installed package it is `bundles/<name>` in the working directory: nothing is written into the package.
    """
    folder = Path(bundle)
    return Path.cwd() / "bundles" / folder.name if PACKAGE in folder.parents else folder
