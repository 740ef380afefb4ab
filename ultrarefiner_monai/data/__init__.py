"""Data sets: images, releases, manifests, integrity, predictions. Importing this loads neither torch nor MONAI."""

from ultrarefiner_monai.lazy import lazily

__getattr__ = lazily(
    __name__,
    {
        "DATASETS": "datasets",
        "Manifest": "manifests.manifest",
        "available": "manifests.manifest",
        "load_manifest": "manifests.manifest",
        "resolve": "releases.roots",
        "shipped_manifest": "manifests.manifest",
    },
)
