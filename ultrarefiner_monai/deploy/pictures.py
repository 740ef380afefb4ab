"""Picture files of every kind as grey planes: which files are meant, and what is in them."""

import glob
import gzip
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ultrarefiner_monai.data.errors import DataError, one_line
from ultrarefiner_monai.data.images import MAX_16_BIT, open_image, to_grey
from ultrarefiner_monai.data.readers import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from nibabel import Nifti1Image

Spacing = tuple[float, float]  # mm from one pixel's centre to the next: down a column (y), along a row (x)

TIFFS = (".tif", ".tiff")
DICOMS = (".dcm", ".dicom")
NIFTIS = (".nii.gz", ".nii")
SUFFIXES = (*IMAGE_SUFFIXES, *DICOMS, *NIFTIS)

DICOM_PREAMBLE, DICOM_PREFIX = 128, b"DICM"  # DICOM PS3.10, section 7.1: bytes before the prefix, and the prefix
MILLIMETRES = {"meter": 1000.0, "mm": 1.0, "micron": 0.001}  # nibabel's names of NIfTI's units


@dataclass(frozen=True)
class Found:
    """A file to read, and the name its results take: its path below what was asked for, without the suffix."""

    path: Path
    name: str


def find_files(paths: Sequence[str | Path], out: Path) -> list[Found]:
    """The picture files meant by files, folders (all of their pictures, of sub-folders too) and glob patterns.

    In folders, files of other kinds, hidden ones and whatever lies in `out` are passed over. A named file is listed
    whatever it is, as is a place without any picture. Each file is listed once.
    """
    found: dict[Path, Found] = {}
    for path in map(Path, paths):
        for file, base in list(_expand(path, out.resolve())) or [(path, path.parent)]:
            found.setdefault(file.resolve(), Found(file, stem(file.relative_to(base).as_posix())))
    return list(found.values())


def stem(name: str) -> str:
    """A file's name without the suffix of a picture; other dots belong to the name ("1.2.840.113")."""
    suffix = next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(suffix)]


def _expand(path: Path, out: Path) -> Iterator[tuple[Path, Path]]:
    """Files meant by one argument, each with the folder that its name is relative to."""
    if path.is_dir():
        yield from ((file, path) for file in _pictures_in(path, out))
    elif path.exists() or not glob.has_magic(str(path)):
        yield path, path.parent
    else:
        base = _before_magic(path)
        for match in sorted(base.glob(str(path.relative_to(base)))):
            files = _pictures_in(match, out) if match.is_dir() else [match]
            yield from ((file, base) for file in files if _is_wanted(file, base, out))


def _before_magic(path: Path) -> Path:
    """The leading folders of a pattern."""
    return next(parent for parent in path.parents if not glob.has_magic(str(parent)))


def _pictures_in(folder: Path, out: Path) -> list[Path]:
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


class PictureFile:
    """A file with one picture, or with several frames of one size.

    Attributes:
        path: the file.
        count: number of frames.
        spacing: size of a pixel, None where the file does not tell.
    """

    def __init__(self, path: Path, count: int = 1, spacing: Spacing | None = None) -> None:
        self.path = path
        self.count = count
        self.spacing = spacing

    def frames(self) -> Iterator[np.ndarray]:
        """Grey values (H, W) float32 in [0, 1] of one frame after the other.

        Raises:
            DataError: the file is damaged, or of a kind that has no defined grey values.
        """
        raise NotImplementedError


class RasterFile(PictureFile):
    """PNG, JPEG, BMP, or TIFF, whose pages are frames; read as the training reads its pictures.

    Their resolution (dpi) is that of a screen or a printer, so it is not taken for the size of a pixel.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, _pages(path) if path.suffix.lower() in TIFFS else 1)

    def frames(self) -> Iterator[np.ndarray]:
        """As `PictureFile.frames`."""
        with open_image(self.path) as image:
            for index in range(self.count):
                if index:
                    image.seek(index)
                yield to_grey(image)


def _pages(path: Path) -> int:
    with open_image(path) as image:
        return getattr(image, "n_frames", 1)


class NiftiFile(PictureFile):
    """A plane in NIfTI: (W, H) or (W, H, 1), the first axis along a row.

    The array is taken as stored, whatever its orientation matrix says. Integers of 8 and 16 bits are divided by 255 and
    65535; other values have to lie in [0, 1].
    """

    def __init__(self, path: Path) -> None:
        image = _read_nifti(path)
        self.header, self.affine, self.shape = image.header, image.affine, image.shape
        super().__init__(path, spacing=_nifti_spacing(image))

    def frames(self) -> Iterator[np.ndarray]:
        """As `PictureFile.frames`."""
        values = np.asarray(_read_nifti(self.path).dataobj).reshape(self.shape[:2]).T
        top = {"uint8": 255, "uint16": MAX_16_BIT}.get(values.dtype.name, 1)  # scaled integers are floats by now
        grey = np.ascontiguousarray(values, dtype=np.float32) / np.float32(top)
        if not ((grey >= 0) & (grey <= 1)).all():
            expected = "expected uint8, uint16 or values in [0, 1]"
            raise DataError(
                f"{self.path}: {expected}, found {values.dtype} from {values.min():g} to {values.max():g}; rescale it"
            )
        yield grey


def _read_nifti(path: Path) -> "Nifti1Image":
    """The plane in a NIfTI file, completely read, since only that finds every damage."""
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    try:
        content = path.read_bytes()
        image = nibabel.Nifti1Image.from_bytes(gzip.decompress(content) if path.suffix == ".gz" else content)
        np.asarray(image.dataobj)
    except (OSError, EOFError, ValueError, zlib.error, ImageFileError, HeaderDataError, WrapStructError) as error:
        raise DataError(f"{path}: cannot be read as NIfTI ({one_line(error)}); copy it again from its source") from None
    if image.shape not in {(*image.shape[:2],), (*image.shape[:2], 1)} or image.get_data_dtype().kind not in "uif":
        found = f"{image.shape} of {image.get_data_dtype()}"
        raise DataError(f"{path}: expected a grey plane (W, H) or (W, H, 1), found {found}; save its slices one by one")
    return image


def _nifti_spacing(image: "Nifti1Image") -> Spacing | None:
    """Size of a pixel, where the header states a unit of length."""
    unit = MILLIMETRES.get(image.header.get_xyzt_units()[0])
    along_row, down_column = (float(zoom) for zoom in image.header.get_zooms()[:2])
    return None if unit is None else (down_column * unit, along_row * unit)


def open_picture(path: Path) -> PictureFile:
    """The reader of a file, by its suffix, or without one by its content.

    Raises:
        DataError: the file is missing, or damaged where its header has to be read.
    """
    if path.is_dir():
        raise DataError(f"{path}: no picture in this folder; expected {', '.join(SUFFIXES)} or DICOM without a suffix")
    if not path.is_file():
        raise DataError(f"{path}: no such file; correct the path or the pattern")
    name = path.name.lower()
    if name.endswith(NIFTIS):
        return NiftiFile(path)
    if name.endswith(DICOMS) or is_dicom(path):
        from ultrarefiner_monai.deploy.dicom import DicomFile

        return DicomFile(path)
    return RasterFile(path)
