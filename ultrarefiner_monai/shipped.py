"""The folders of a checkout that travel with the package: inside a wheel, and inside an exported bundle."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
FOLDERS = ("bundles", "data_manifests", "docs/examples")  # that setup.py copies into a wheel


def shipped(name: str) -> Path:
    """Folder `name` of the installed package, or of the checkout where the package runs from one."""
    inside = PACKAGE / "_shipped" / name
    return inside if inside.is_dir() else PACKAGE.parent / name
