"""Trained models from Python: `from ultrarefiner_monai import load`, `model = load("model.pt")`, `mask = model(image)`."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from ultrarefiner_monai.data.decoding import white_of
from ultrarefiner_monai.data.images import to_grey
from ultrarefiner_monai.deploy.images.find import open_image_file
from ultrarefiner_monai.deploy.images.volume import VolumeFile
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.masks import THRESHOLD, check_threshold, without_islands
from ultrarefiner_monai.models.ensemble import Consensus, Ensemble, Models

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as of the images that a training reads
EXPECTED = "expected (H, W), or colours (H, W, 3) or (H, W, 4), of a tensor also (1, H, W), (3, H, W) or (4, H, W)"
CHANNELS = (1, 3, 4)


class Result(NamedTuple):
    """What a model says of an image of H x W pixels, or of all D frames of a file: then each array is (D, H, W).

    `mask` (H, W) bool; `probability` (H, W) float32 of a lesion; `deviation` (H, W) float32 between the models of an ensemble,
    0 of one; `quality`, the IoU with the truth that the network predicts for its own mask, NaN where it predicts none;
    `classes`, the probability (H, W) of each class by name.
    """

    mask: np.ndarray
    probability: np.ndarray
    deviation: np.ndarray
    quality: float | np.ndarray
    classes: Mapping[str, np.ndarray] = MappingProxyType({})


class Model:
    """One trained model, or an ensemble, that takes images as Python has them.

    An image is a file (PNG, JPEG, BMP, TIFF, DICOM, NIfTI), a PIL image, or an array or tensor: (H, W), or with colours, which
    become luma, alpha dropped. 8 bits have their white at 255; whole numbers of more bits at the largest of the fewest bits,
    8, 12 or 16, that hold them; fractions at 1. That is how files are read, too.
    """

    def __init__(self, ensemble: Ensemble) -> None:
        self.ensemble = ensemble

    def __call__(self, image: Any, threshold: float = THRESHOLD) -> Any:
        """The mask of an image, bool (H, W), or of each of a list of images, at its own size.

        Raises:
            DataError: it is no image, or has values that are undefined or out of range.
        """
        if isinstance(image, list):
            return [self.predict(each, threshold).mask for each in image]
        return self.predict(image, threshold).mask

    def predict(self, image: Any, threshold: float = THRESHOLD, spacing: tuple[float, float] | None = None) -> Result:
        """The mask of an image and all that it is made from.

        Args:
            image: see the class.
            threshold: probability from which a pixel is lesion.
            spacing: size (y, x) of its pixels in mm, which a model that was trained with a `spacing` has to know; None: as the
                file says.

        Raises:
            DataError: as of a call, or that size is missing.
        """
        threshold = check_threshold(threshold)
        if not isinstance(image, str | PathLike):
            return _result(self.ensemble(grey_of(image), pixel=spacing), threshold, self.ensemble.islands)
        source = open_image_file(Path(image))
        if volume := isinstance(source, VolumeFile):
            source.clip = self.ensemble.clip
        frames, pixel = source.frames(), spacing or source.spacing
        alone = (self.ensemble(grey, pixel=pixel) for grey in frames)
        found = self.ensemble.predict_volume(frames, pixel) if volume else alone
        islands = 0 if volume else self.ensemble.islands
        results = [_result(consensus, threshold, islands) for consensus in found]
        return results[0] if source.count == 1 else _stacked(results)


def load(models: Models, coarse: Models | None = None, device: str | None = None, amp: bool = True) -> Model:
    """A trained model that is called with an image.

    Args:
        models: a `model.pt`, the folder of a training, of a stage's folds (`fold*`, which become an ensemble) or of an exported
            bundle, or several of these.
        coarse: for a stage that refines another one's map, or is asked about lesions: the model whose map that is.
        device: such as "cuda:1"; None is the first CUDA device, or the CPU.
        amp: bf16 autocast, as the bundles have by default.

    Raises:
        DataError: weights are missing, damaged, of different stages, or lack a coarse model.

    Example:
        >>> model = load("model.pt")
        >>> image = np.zeros((48, 64), np.uint8)
        >>> mask = model(image)
        >>> mask.shape, mask.dtype
        ((48, 64), dtype('bool'))
        >>> model.predict(image, threshold=0.4).probability.shape
        (48, 64)
    """
    return Model(Ensemble(models, coarse, amp, device))


def grey_of(image: Any) -> np.ndarray:
    """Grey values (H, W) float32 in [0, 1] of a PIL image, an array or a tensor, see `Model`.

    Raises:
        DataError: another type or shape, no pixels, or values that are undefined or out of range.
    """
    if isinstance(image, Image.Image):
        return to_grey(ImageOps.exif_transpose(image))
    if isinstance(image, Tensor):
        image = image.detach().cpu()
        if image.ndim == 3 and image.shape[0] in CHANNELS:
            image = image.movedim(0, 2)
        image = (image.float() if image.is_floating_point() else image).numpy()
    if not isinstance(image, np.ndarray):
        raise DataError(
            f"image: expected a path, a PIL image, a NumPy array or a tensor, found {type(image).__name__}; turn it into one"
        )
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in CHANNELS) or not image.size:
        raise DataError(f"image: {EXPECTED}; found {image.shape}: turn its axes, or name one frame")
    if image.dtype.kind not in "uif":
        raise DataError(f"image: expected whole numbers or fractions, found {image.dtype}; convert it")
    if not np.isfinite(image).all():
        raise DataError("image: holds NaN or infinite values, expected finite ones; replace them")
    planes = image[..., :3] if image.ndim == 3 else image[..., None]
    try:
        white = 255 if image.dtype == np.uint8 else white_of(planes)
    except DataError as error:
        raise DataError(f"image: {error}") from None
    weights = LUMA if planes.shape[2] == len(LUMA) else (1.0,)
    return (planes.astype(np.float64) @ weights / white).astype(np.float32)


def _result(found: Consensus, threshold: float, islands: float) -> Result:
    return Result(without_islands(found.probability, islands, threshold) >= threshold, *found)


def _stacked(results: list[Result]) -> Result:
    """Those of all frames of a file as one."""
    classes = {name: np.stack([each.classes[name] for each in results]) for name in results[0].classes}
    mask, probability, deviation, quality = (np.stack(part) for part in list(zip(*results, strict=True))[:4])
    return Result(mask, probability, deviation, quality, classes)
