"""Manifests: which images a data set has, with patients, groups, folds and hashes; read, built, compared, described."""

from ultrarefiner_monai.data.manifests.items import Item, masks_of
from ultrarefiner_monai.data.manifests.manifest import Manifest, available, load_manifest, shipped_manifest

__all__ = ["Item", "Manifest", "available", "load_manifest", "masks_of", "shipped_manifest"]
