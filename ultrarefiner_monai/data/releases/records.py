"""What is known about each image of a release: the facts a manifest is made from.

A reader lists `Source`s (file names and labels, nothing opened); `image_facts.py` opens the files and completes them to
`Record`s, `inventory.py` makes the same records from a table instead.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ultrarefiner_monai.data.faults import Problem
from ultrarefiner_monai.data.images import Size


@dataclass(frozen=True)
class Source:
    """One image as its release lists it; paths relative to the release root with `/`.

    `label` is "benign", "malignant", "normal" or "unknown"; `patient` is "" where the release tells none; `official` is
    the authors' split: "1".."5" a fold, "test", "train" where only the test set is told, or "". `dataset` is "" but in
    combined data sets. `made_from` names files that the masks were made from by `own/made_masks.py`.
    """

    id: str
    image: str
    masks: tuple[str, ...]
    label: str
    patient: str = ""
    official: str = ""
    dataset: str = ""
    made_from: tuple[str, ...] = ()


@dataclass(frozen=True)
class Record:
    """A source and what its files hold. Sizes are (width, height) in pixels; hashes are hexadecimal.

    `mask_sizes` and `mask_sha256` go with `source.masks`; `lesion_pixels` counts the union of the masks (0 when their
    sizes differ); `phash16` is `imagehash.phash(image.convert("L"), hash_size=16)`. `orientation` is the image's EXIF tag:
    sizes and hashes are those after the turn that it asks for. `white` is the stored value that is white. `thumbnail`
    holds 64 x 64 grey values, row by row, and is None in records that come from a table. `mask_problems` are those of
    pixels that `mask_checks` finds. Of a volume, sizes are those of its slices, `depth` is their number, `spacing` (z, y, x) in
    mm, hash and thumbnail are those of the middle slice, and `lesion_pixels` counts the voxels of the label `organ`, or of any;
    `clip` are the grey values that become 0 and 1, its percentiles where it is None.
    """

    source: Source
    size: Size
    mask_sizes: tuple[Size, ...]
    lesion_pixels: int
    sha256: str
    mask_sha256: tuple[str, ...]
    phash16: str
    orientation: int = 1
    white: int = 255
    thumbnail: bytes | None = None
    mask_problems: tuple[Problem, ...] = ()
    depth: int | None = None
    spacing: tuple[float, float, float] | None = None
    organ: int | None = None
    clip: tuple[float, float] | None = None


def merge_patients(records: Sequence[Record], same_patient: Mapping[str, str]) -> list[Record]:
    """The records with one code a person; `same_patient` maps codes to the code of the same person."""
    return [
        replace(record, source=replace(record.source, patient=same_patient[record.source.patient]))
        if record.source.patient in same_patient
        else record
        for record in records
    ]


def prefixed(record: Record, dataset: str) -> Record:
    """The record as part of a combined data set: id, paths and patient start with `dataset`/."""
    source = record.source
    return replace(
        record,
        source=replace(
            source,
            id=f"{dataset}/{source.id}",
            image=f"{dataset}/{source.image}",
            masks=tuple(f"{dataset}/{mask}" for mask in source.masks),
            made_from=tuple(f"{dataset}/{path}" for path in source.made_from),
            patient=f"{dataset}/{source.patient}" if source.patient else "",
            dataset=dataset,
        ),
    )
