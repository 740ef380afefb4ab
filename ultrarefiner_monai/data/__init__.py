"""Datasets: readers, integrity, near-duplicates, folds and manifests. Importing this loads neither torch nor MONAI."""

from .errors import DataError
from .manifest import DATASETS, Manifest, available, load_manifest, resolve, shipped_manifest

__all__ = ["DATASETS", "DataError", "Manifest", "available", "load_manifest", "resolve", "shipped_manifest"]
