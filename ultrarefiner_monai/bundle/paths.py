"""Where a bundle, its code and its manifests are, from whatever directory a run is started."""

from pathlib import Path

from ultrarefiner_monai.bundle.config_keys import configuration_folder
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.shipped import BUNDLES, PACKAGE, shipped


def bundle_root(name: str) -> str:
    """Folder of the bundle `name` ("phase1", "phase2", "phase3").

    The bundle of the running configuration's files comes first, so that an exported copy of a bundle works where it is; then
    the bundle that the package is part of, then the bundle that comes with the package.

    Raises:
        SystemExit: neither is a bundle; says where it was looked for.
    """
    running = configuration_folder()
    for candidate in [*([running.parent] if running else ()), PACKAGE.parent, BUNDLES / name]:
        if (candidate / "configs" / "metadata.json").is_file():
            return str(candidate)
    raise SystemExit(
        f"bundle {name}: no folder with configs/ at {BUNDLES / name}; run from a checkout or name a bundle_root"
    )


def check_code(bundle: str) -> None:
    """Refuse to run a bundle that has a copy of this package with other code than its own.

    Raises:
        DataError: the process had imported another copy before the bundle's configuration was read.
    """
    own = Path(bundle, PACKAGE.name).resolve()
    files = () if own == PACKAGE else own.rglob("*.py")
    for file in files:
        used = PACKAGE / file.relative_to(own)
        if not used.is_file() or used.read_bytes() != file.read_bytes():
            raise DataError(
                f"{bundle}: this process has imported another {PACKAGE.name}, of {PACKAGE.parent}, whose "
                f"{used.relative_to(PACKAGE)} is not the bundle's; run the bundle in a process that begins with it"
            )


def manifests_of(bundle: str) -> Path:
    """Folder of the manifests that come with a bundle: its own where it was exported, else the package's."""
    own = Path(bundle, PACKAGE.name, "_shipped", "data_manifests")
    return own if own.is_dir() else shipped("data_manifests")
