"""Images without a lesion among the training images."""

import hashlib
import logging

from ultrarefiner_monai.data.manifests.items import Item
from ultrarefiner_monai.data.manifests.manifest import Manifest

logger = logging.getLogger(__name__)


def choose_normals(manifest: Manifest, fold: int, lesions: int, share: float) -> list[Item]:
    """Normals that make up `share` of the training images of `fold`, beside `lesions` images with a lesion.

    They are those whose ids have the lowest hash with the manifest's seed: the same ones in every run on the manifest,
    whatever its order, and still nearly the same when some are absent. Where there are too few, all are taken and a warning
    says so.

    Args:
        manifest: the data set.
        fold: validation fold of the model, whose normals are left out.
        lesions: number of the other training images.
        share: from 0 to below 1.

    Returns:
        The items, sorted by id.
    """
    wanted = round(lesions * share / (1 - share))
    found = manifest.split("train_normal", fold)
    if wanted > len(found):
        message = "%s: normal_share %s of fold %d asks for %d normals, %d are there and taken"
        logger.warning(message, manifest.name, share, fold, wanted, len(found))
    chosen = sorted(found, key=lambda item: _draw(manifest.seed, item["id"]))[:wanted]
    return sorted(chosen, key=lambda item: item["id"])


def _draw(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed} {name}".encode()).hexdigest()
