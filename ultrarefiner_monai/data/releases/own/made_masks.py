"""Masks written by `manifests build` where the data set has none that can be read as they are.

They lie in `ultrarefiner_masks/NAME` of its root, PNG with 0 and 255, one an image under its id. Nothing is overwritten.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np

from ultrarefiner_monai.data.images import lesion, open_image, to_alpha, to_planes
from ultrarefiner_monai.data.releases.own.entries import Drawing
from ultrarefiner_monai.data.releases.records import Source
from ultrarefiner_monai.data.releases.roots import MADE, resolve
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.files import write_output
from ultrarefiner_monai.parallel import in_parallel

RULES = ("alpha", "inverted", "half", "nonzero")  # of `--mask`


def check_rule(rule: str | None) -> None:
    """Raise `DataError` where `--mask` is none of `RULES`."""
    if rule is not None and rule not in RULES:
        raise DataError(f"--mask {rule}: expected one of {', '.join(RULES)}")


def made(
    name: str,
    root: Path,
    sources: Sequence[Source],
    drawings: Mapping[str, Drawing],
    rule: str | None,
    workers: int | None = None,
) -> tuple[list[Source], dict[str, str]]:
    """Write the masks of `drawings`, or of a rule for the masks that there are; the sources with them in their place.

    Args:
        name: of the data set.
        root: its folder.
        sources: its images.
        drawings: what makes the masks of those that have no files, by id.
        rule: what a mask's file means: "alpha": lesion is in the alpha channel; "inverted": lesion is dark; "half": lesion
            is what reaches half of the largest value; "nonzero": all that is not black. None leaves files as they are.
        workers: threads; None is one a core.

    Returns:
        The sources, and reasons by id of those whose mask cannot be made.
    """
    done = in_parallel(partial(_made, name, root, drawings, rule), sources, workers, "drawing masks")
    bad = {source.id: reason for source, reason in zip(sources, done, strict=True) if isinstance(reason, str)}
    return [source if isinstance(new, str) else new for source, new in zip(sources, done, strict=True)], bad


def made_path(name: str, source: Source) -> str:
    """Where the mask of an image is written, relative to the root."""
    return f"{MADE}/{name}/{source.id}.png"


def interpreted(paths: Sequence[Path], rule: str) -> np.ndarray:
    """The union of mask files, read by one of `RULES`, as bool (H, W).

    Raises:
        DataError: a file cannot be read, has no alpha channel where that is to be read, or has another size than the others.
    """
    masks: list[np.ndarray] = []
    for path in paths:
        with open_image(path) as image:
            planes, alpha = to_planes(image), to_alpha(image)
        if rule == "alpha":
            if alpha is None:
                raise DataError(f"{path}: no alpha channel, which --mask alpha reads")
            masks.append(lesion(alpha[..., None]))
        else:
            mask = np.asarray((planes > 0).any(axis=2)) if rule == "nonzero" else lesion(planes)
            masks.append(~mask if rule == "inverted" else mask)
    if len({mask.shape for mask in masks}) > 1:
        raise DataError(f"{paths[0]}: the masks of its image differ in size")
    return np.logical_or.reduce(masks)


def _made(name: str, root: Path, drawings: Mapping[str, Drawing], rule: str | None, source: Source) -> Source | str:
    """The source with its mask written, itself where there is nothing to do, or why it cannot be done."""
    try:
        if drawing := drawings.get(source.id):
            with open_image(resolve(root, source.image)) as image:
                size = image.size
            mask = drawing(size)
        elif rule and source.masks:
            mask = interpreted([resolve(root, path) for path in source.masks], rule)
        else:
            return source
        path = made_path(name, source)
        _write(resolve(root, path), mask)
        return replace(source, masks=(path,), made_from=source.made_from or source.masks)
    except DataError as error:
        return str(error)


def _write(path: Path, mask: np.ndarray) -> None:
    from PIL import Image

    if path.exists():
        with open_image(path) as image:
            same = np.array_equal(to_planes(image)[..., 0], mask * np.uint8(255))
        if not same:
            raise DataError(f"{path}: another mask is there; move it away to have it made anew")
        return
    content = BytesIO()
    Image.fromarray(mask * np.uint8(255)).save(content, "PNG")
    write_output("mask", path, content.getvalue())
