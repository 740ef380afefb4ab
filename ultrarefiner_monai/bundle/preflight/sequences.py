"""Frames that belong together: the `sequence` and `position` of a plan's items, and the one spacing of their pixels."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ultrarefiner_monai.data.manifests.items import Item, is_volume
from ultrarefiner_monai.data.manifests.manifest import Manifest
from ultrarefiner_monai.errors import DataError, shown
from ultrarefiner_monai.systems.sequence_keys import IN_SEQUENCE, PATIENT, SEQUENCE_OF, SPACING, VOLUME

SHOWN = 3  # images that an error names


def check_sequences(own: Mapping[str, Any], manifest: Manifest, normal_share: float) -> None:
    """Refuse sequences that the data set does not have, before anything is written.

    Args:
        own: the stage's keys; those without a key `sequence` are passed over.
        manifest: the data set.
        normal_share: share of normals that is asked for among the training images.

    Raises:
        DataError: patients of a data set that tells none, slices of one that has none, or a share of normals beside sequences.
    """
    kind = own.get(SEQUENCE_OF)
    if kind == PATIENT and not any(map(_has_patient, manifest.items())):
        raise DataError(
            f"sequence {PATIENT}: {manifest.name} tells no patients; use --sequence None, or another data set"
        )
    if kind == VOLUME and not all(map(is_volume, manifest.training)):
        raise DataError(
            f"sequence {VOLUME}: {manifest.name} holds pictures, no slices; use --sequence None or {PATIENT}"
        )
    if kind == PATIENT and normal_share:
        raise DataError(
            f"normal_share {normal_share} with sequence {PATIENT}: normals are frames of their patients; use "
            f"--normals {IN_SEQUENCE}"
        )


def check_spacing(own: Mapping[str, Any], image_size: int, manifest: Manifest | None) -> None:
    """Refuse a spacing that the network cannot see its images at, before anything is written.

    Args:
        own: the stage's keys; those without a key `spacing` are passed over.
        image_size: side of the network's input in pixels.
        manifest: the data set; None of pictures that are predicted by themselves, which do not tell the size of their pixels.

    Raises:
        DataError: the size of an image's pixels is not known, or one is larger than the network's input.
    """
    spacing = own.get(SPACING.name)
    if spacing is None:
        return
    if manifest is None:
        raise DataError(
            f"spacing {spacing:g}: pictures of --images do not tell the size of their pixels; 'ultrarefiner predict' takes "
            "volumes and DICOM files, which do"
        )
    items = manifest.items()
    if unknown := [item["id"] for item in items if "spacing" not in item]:
        raise DataError(
            f"spacing {spacing:g}: {manifest.name} does not tell the size of the pixels of {shown(unknown, SHOWN)}; use "
            "--spacing None, or volumes"
        )
    widest, name = max((_extent(item), item["id"]) for item in items)
    if round(widest / spacing) > image_size:
        least = math.ceil(1000 * widest / image_size) / 1000
        raise DataError(
            f"spacing {spacing:g}: {name} is {widest:.4g} mm wide, {round(widest / spacing)} pixels, and the network sees "
            f"{image_size}; use --spacing {least:g} or more, or a larger --image_size"
        )


def _extent(item: Item) -> float:
    """The longer side of an image, or of a volume's slices, in mm."""
    down, along = item["spacing"][-2:]
    return max(item["height"] * down, item["width"] * along)


def in_sequences(items: Sequence[Item], kind: str | None) -> list[Item]:
    """Items with `sequence`, the name of their sequence, and `position`, their place in it, in the order of both.

    Of a patient, images follow one another by their ids, in natural order (`img2` before `img10`), and `position` counts them.
    They are stills, so that it is no distance in time or space. An image of unknown patient, for whom its manifest has the
    name of its group, is a sequence of its own, as every image is where `kind` is None. Slices have both already.
    """
    if kind == VOLUME:
        return sorted(items, key=lambda item: (item[SEQUENCE_OF], item["position"]))
    sequences: dict[str, list[Item]] = {}
    for item in items:
        name = item["patient"] if kind == PATIENT and _has_patient(item) else item["id"]
        sequences.setdefault(name, []).append(item)
    return [
        {**item, SEQUENCE_OF: name, "position": position}
        for name, frames in sequences.items()
        for position, item in enumerate(sorted(frames, key=lambda item: natural(item["id"])))
    ]


def empty_frames(manifest: Manifest, split: str, fold: int) -> list[Item]:
    """Images without a lesion of the patients of a split: a patient's all lie in one fold, or all in the test set."""
    if split == "external":
        return list(manifest.normal)
    if split == "train":
        return manifest.split("train_normal", fold)
    place = {"val": fold, "test": None}.get(split, ())
    return [item for item in manifest.normal if item.get("fold") == place]


def natural(name: str) -> tuple[list[str | int], str]:
    """Sorts names by the numbers in them: `img2` before `img10`."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"([0-9]+)", name)], name


def _has_patient(item: Item) -> bool:
    """Whether the release tells whose image it is."""
    return item["patient"] != item["group"]
