"""Data sets: images, releases, manifests, integrity, predictions. Importing this loads neither torch nor MONAI."""

from ultrarefiner_monai.data.datasets import DATASETS
from ultrarefiner_monai.data.manifests import Manifest, available, load_manifest, shipped_manifest
from ultrarefiner_monai.data.releases import resolve
from ultrarefiner_monai.errors import DataError

__all__ = ["DATASETS", "DataError", "Manifest", "available", "load_manifest", "resolve", "shipped_manifest"]
