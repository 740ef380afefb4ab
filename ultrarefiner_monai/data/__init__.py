"""Datasets: readers, integrity, near-duplicates, folds and manifests. Importing this loads neither torch nor MONAI."""

from .errors import DataError
from .manifest import Manifest, available, load_manifest, shipped_manifest
from .names import DATASETS
from .roots import resolve

__all__ = ["DATASETS", "DataError", "Manifest", "available", "load_manifest", "resolve", "shipped_manifest"]
