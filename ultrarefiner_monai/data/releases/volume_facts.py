"""Opening the volumes of a release: checks of each pair, grid, voxel sizes, hashes and labelled voxels."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ultrarefiner_monai.data.releases.image_facts import phash16, thumbnail
from ultrarefiner_monai.data.releases.records import Record, Source
from ultrarefiner_monai.data.releases.roots import resolve
from ultrarefiner_monai.data.volumes import Clip, check_same_grid, read_labels, read_volume, scaled
from ultrarefiner_monai.errors import DataError, did_you_mean
from ultrarefiner_monai.files import file_sha256
from ultrarefiner_monai.parallel import in_parallel

READERS = 2  # volumes in memory at once


def measure_volumes(
    sources: Sequence[Source],
    root: Path,
    table: Mapping[str, str],
    organ: str | None = None,
    clip: Sequence[float] | None = None,
    workers: int | None = None,
) -> tuple[list[Record], dict[str, str]]:
    """Read every volume of `sources` under `root`; the records in the order of the sources, and reasons by id of the rest.

    What cannot become a record: a file that is missing or unreadable, an image that is not 3D or not finite, labels that are
    not the table's whole numbers, or that have another shape or place than their image.

    Args:
        sources: cases with one volume of labels each, or none.
        root: the release folder.
        table: name of each label by its number as text.
        organ: name of the one label that is meant; None: all of them.
        clip: grey values that become 0 and 1; None: each volume's percentiles.
        workers: threads; None is two, as volumes take much memory.

    Raises:
        DataError: the table has no such organ, or no grey value lies within `clip`.
    """
    if clip is not None and not (len(clip) == 2 and clip[0] < clip[1]):
        raise DataError(f"clip {','.join(map(str, clip))}: expected two numbers, the lower one first, such as -160,240")
    names = {name: int(number) for number, name in table.items() if number != "0"}
    if organ is not None and organ not in names:
        raise DataError(f"organ '{organ}': {did_you_mean(organ, sorted(names))}")
    number = None if organ is None else names[organ]
    grey = None if clip is None else (float(clip[0]), float(clip[1]))
    found = in_parallel(partial(_attempt, root, table, number, grey), sources, workers or READERS, "reading")
    records = [one for one in found if isinstance(one, Record)]
    return records, {source.id: one for source, one in zip(sources, found, strict=True) if isinstance(one, str)}


def _attempt(
    root: Path, table: Mapping[str, str], organ: int | None, clip: Clip | None, source: Source
) -> Record | str:
    try:
        return _record(source, root, table, organ, clip)
    except DataError as error:
        return str(error)
    except OSError as error:
        return f"{error.filename}: {error.strerror or error}; copy it again from the release"


def _record(source: Source, root: Path, table: Mapping[str, str], organ: int | None, clip: Clip | None) -> Record:
    from PIL import Image

    path, masks = resolve(root, source.image), [resolve(root, mask) for mask in source.masks]
    image = read_volume(path)
    labelled = 0
    for mask in masks:
        labels = read_labels(mask, table)
        try:
            check_same_grid(image.grid, labels.grid)
        except DataError as error:
            raise DataError(f"{mask}: {error}") from None
        labelled = int(np.count_nonzero(labels.voxels if organ is None else labels.voxels == organ))
    width, height, depth = image.voxels.shape
    middle = Image.fromarray(np.rint(255 * scaled(image.voxels, clip)[:, :, depth // 2].T).astype(np.uint8))
    return Record(
        source=source,
        size=(width, height),
        mask_sizes=((width, height),) * len(masks),
        lesion_pixels=labelled,
        sha256=file_sha256(path),
        mask_sha256=tuple(map(file_sha256, masks)),
        phash16=phash16(middle),
        thumbnail=thumbnail(middle),
        depth=depth,
        spacing=image.grid.spacing,
        organ=organ,
        clip=clip,
    )
