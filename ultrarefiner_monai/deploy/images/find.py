"""The image files that a prediction is asked for."""

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ultrarefiner_monai.data.releases.readers import IMAGE_SUFFIXES
from ultrarefiner_monai.deploy.images.image_file import ImageFile
from ultrarefiner_monai.deploy.images.nifti import NiftiFile
from ultrarefiner_monai.deploy.images.raster import RasterFile
from ultrarefiner_monai.errors import DataError

DICOMS = (".dcm", ".dicom")
NIFTIS = (".nii.gz", ".nii")
SUFFIXES = (*IMAGE_SUFFIXES, *DICOMS, *NIFTIS)
DICOM_PREAMBLE, DICOM_PREFIX = 128, b"DICM"  # DICOM PS3.10, section 7.1: bytes before the prefix, and the prefix


@dataclass(frozen=True)
class Found:
    """A file to read, and the name its results take: its path below what was asked for, without the suffix."""

    path: Path
    name: str


def find_files(paths: Sequence[str | Path], out: Path) -> list[Found]:
    """The image files meant by files, folders (all of their images, of sub-folders too) and glob patterns.

    In folders, files of other kinds, hidden ones and whatever lies in `out` are passed over. A named file is listed
    whatever it is, as is a place without any image. Each file is listed once.
    """
    found: dict[Path, Found] = {}
    for path in map(Path, paths):
        for file, base in list(_expand(path, out.resolve())) or [(path, path.parent)]:
            found.setdefault(file.resolve(), Found(file, stem(file.relative_to(base).as_posix())))
    return list(found.values())


def stem(name: str) -> str:
    """A file's name without the suffix of an image; other dots belong to the name ("1.2.840.113")."""
    suffix = next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(suffix)]


def _expand(path: Path, out: Path) -> Iterator[tuple[Path, Path]]:
    """Files meant by one argument, each with the folder that its name is relative to."""
    if path.is_dir():
        yield from ((file, path) for file in _images_in(path, out))
    elif path.exists() or not glob.has_magic(str(path)):
        yield path, path.parent
    else:
        base = _before_magic(path)
        for match in sorted(base.glob(str(path.relative_to(base)))):
            files = _images_in(match, out) if match.is_dir() else [match]
            yield from ((file, base) for file in files if _is_wanted(file, base, out))


def _before_magic(path: Path) -> Path:
    """The leading folders of a pattern."""
    return next(parent for parent in path.parents if not glob.has_magic(str(parent)))


def _images_in(folder: Path, out: Path) -> list[Path]:
    return [file for file in sorted(folder.rglob("*")) if _is_wanted(file, folder, out)]


def _is_wanted(file: Path, folder: Path, out: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    inside = out in file.resolve().parents and out not in (folder.resolve(), *folder.resolve().parents)
    return not hidden and not inside and file.is_file() and (stem(file.name) != file.name or is_dicom(file))


def is_dicom(path: Path) -> bool:
    """Whether a file says that it is DICOM and no directory of others; many have no suffix."""
    if path.name.upper() == "DICOMDIR" or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(DICOM_PREAMBLE + len(DICOM_PREFIX)).endswith(DICOM_PREFIX)


def open_image_file(path: Path) -> ImageFile:
    """The reader of a file, by its suffix, or without one by its content.

    Raises:
        DataError: the file is missing, or damaged where its header has to be read.
    """
    if path.is_dir():
        raise DataError(f"{path}: no image in this folder; expected {', '.join(SUFFIXES)} or DICOM without a suffix")
    if not path.is_file():
        raise DataError(f"{path}: no such file; correct the path or the pattern")
    name = path.name.lower()
    if name.endswith(NIFTIS):
        return NiftiFile(path)
    if name.endswith(DICOMS) or is_dicom(path):
        from ultrarefiner_monai.deploy.images.dicom import DicomFile

        return DicomFile(path)
    return RasterFile(path)
