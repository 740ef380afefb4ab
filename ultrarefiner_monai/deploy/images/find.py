"""The image files that a prediction is asked for."""

import glob
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ultrarefiner_monai.data.masks_beside import masks_among
from ultrarefiner_monai.data.releases.readers import IMAGE_SUFFIXES
from ultrarefiner_monai.data.volumes import NIFTIS, is_volume
from ultrarefiner_monai.deploy.images.image_file import ImageFile
from ultrarefiner_monai.deploy.images.nifti import NiftiFile
from ultrarefiner_monai.deploy.images.raster import RasterFile
from ultrarefiner_monai.deploy.images.volume import VolumeFile
from ultrarefiner_monai.errors import DataError

DICOMS = (".dcm", ".dicom")
SUFFIXES = (*IMAGE_SUFFIXES, *DICOMS, *NIFTIS)
DICOM_PREAMBLE, DICOM_PREFIX = 128, b"DICM"  # DICOM PS3.10, section 7.1: bytes before the prefix, and the prefix
# A file without the prefix begins with an element of one of these groups, with and without file meta information, which is
# no later than SOP Instance UID, and no longer than an identifier (DICOM PS3.5, sections 7.1 and 9.1).
FIRST_GROUPS, LAST_ELEMENT, LONGEST = (0x0002, 0x0008), 0x0018, 64


@dataclass(frozen=True)
class Found:
    """A file to read, and the name its results take: its path below what was asked for, without the suffix."""

    path: Path
    name: str


def find_files(paths: Sequence[str | Path], out: Path) -> tuple[list[Found], list[Path]]:
    """The image files meant by files, folders (all of their images, of sub-folders too) and glob patterns.

    In folders, files of other kinds, hidden ones and whatever lies in `out` are passed over, and masks beside their images
    are left out. A named file is listed whatever it is, as is one that fits a pattern, and a place without any image. Each
    file is listed once.

    Returns:
        The files to read, and the masks that were left out.
    """
    found: dict[Path, Found] = {}
    masks: dict[Path, Path] = {}
    for path in map(Path, paths):
        for file, base, is_mask in list(_expand(path, real(out))) or [(path, path.parent, False)]:
            if is_mask:
                masks.setdefault(real(file), file)
            else:
                found.setdefault(real(file), Found(file, stem(file.relative_to(base).as_posix())))
    return list(found.values()), [mask for place, mask in masks.items() if place not in found]


def real(path: Path) -> Path:
    """Where a path leads to; of links that lead to each other, one of them, where `Path.resolve` raises RuntimeError."""
    return Path(os.path.realpath(path))


def stem(name: str) -> str:
    """A file's name without the suffix of an image; other dots belong to the name ("1.2.840.113")."""
    suffix = next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(suffix)]


def _expand(path: Path, out: Path) -> Iterator[tuple[Path, Path, bool]]:
    """Files meant by one argument, each with the folder that its name is relative to, and whether it is a mask."""
    if path.is_dir():
        yield from _images_in(path, path, out)
    elif path.exists() or not glob.has_magic(str(path)):
        yield path, path.parent, False
    else:
        base = next(parent for parent in path.parents if not glob.has_magic(str(parent)))  # before the pattern
        for match in sorted(base.glob(str(path.relative_to(base)))):
            if match.is_dir():
                yield from _images_in(match, base, out)
            elif _is_wanted(match, base, out):
                yield match, base, False


def _images_in(folder: Path, base: Path, out: Path) -> Iterator[tuple[Path, Path, bool]]:
    files = [file for file in sorted(folder.rglob("*")) if _is_wanted(file, base, out)]
    masks = masks_among(files, folder, stem)
    yield from ((file, base, file in masks) for file in files)


def _is_wanted(file: Path, folder: Path, out: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    inside = out in real(file).parents and out not in (real(folder), *real(folder).parents)
    # Links to nothing and pipes are wanted by their names, to be told rather than passed over in silence.
    return not hidden and not inside and not file.is_dir() and (stem(file.name) != file.name or is_dicom(file))


def is_dicom(path: Path) -> bool:
    """Whether a file's content says that it is DICOM and no directory of others; many have no suffix."""
    if not path.is_file():  # opening a pipe would wait for its writer
        return False
    try:
        with path.open("rb") as file:
            head = file.read(DICOM_PREAMBLE + len(DICOM_PREFIX))
    except OSError:  # none, or one that cannot be read
        return False
    return path.name.upper() != "DICOMDIR" and (head.endswith(DICOM_PREFIX) or _starts_with_element(head))


def _starts_with_element(head: bytes) -> bool:
    """Whether bytes begin with the first element of a DICOM file that lacks its preamble."""
    if len(head) < DICOM_PREAMBLE:
        return False
    for order in "<>":
        group, element, length = struct.unpack(f"{order}HHI", head[:8])
        explicit = head[4:6].isalpha() and head[4:6].isupper()  # a value representation, in place of a length
        if group in FIRST_GROUPS and element <= LAST_ELEMENT and (explicit or length <= LONGEST):
            return True
    return False


def open_image_file(path: Path, any_modality: bool = False) -> ImageFile:
    """The reader of a file, by its suffix, or without one by its content.

    Args:
        path: the file.
        any_modality: read DICOM files of other modalities than ultrasound, too.

    Raises:
        DataError: the file is missing, damaged where its header has to be read, or no ultrasound.
    """
    if path.is_dir():
        raise DataError(f"{path}: no image in this folder; expected {', '.join(SUFFIXES)} or DICOM without a suffix")
    if not path.is_file():
        found = "no regular file" if path.exists() else "no such file"
        raise DataError(f"{path}: {found}; correct the path or the pattern")
    name = path.name.lower()
    if name.endswith(NIFTIS):
        return VolumeFile(path) if is_volume(path) else NiftiFile(path)
    if not name.endswith(IMAGE_SUFFIXES) and (name.endswith(DICOMS) or is_dicom(path)):
        from ultrarefiner_monai.deploy.images.dicom import DicomFile

        return DicomFile(path, any_modality)
    return RasterFile(path)
