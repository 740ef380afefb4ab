"""What a prediction leaves on the disk: masks, maps and overlays, each complete or not at all."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

from ultrarefiner_monai.data.predictions.maps import nifti_bytes
from ultrarefiner_monai.data.volumes import as_stored
from ultrarefiner_monai.deploy.images.dicom import DicomFile
from ultrarefiner_monai.deploy.images.image_file import ImageFile
from ultrarefiner_monai.deploy.images.nifti import NiftiFile
from ultrarefiner_monai.deploy.images.volume import VolumeFile
from ultrarefiner_monai.deploy.predict import overlays
from ultrarefiner_monai.deploy.predict.dicom_seg import referring, segmentation
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.files import atomic_write
from ultrarefiner_monai.masks import THRESHOLD, check_threshold
from ultrarefiner_monai.metrics.classes import class_mask
from ultrarefiner_monai.models.ensemble import Consensus, entropy

FORMATS = {"png": ".png", "nifti": ".nii.gz", "dicom-seg": ".dcm"}  # of masks, and their suffixes
UNCERTAINTIES = ("entropy", "std")


class WriteError(DataError):
    """The disk refuses: there is no use in going on with the next file."""


@dataclass(frozen=True)
class Outputs:
    """What a prediction writes: the results of one file after the other into a folder.

    Args:
        out: the folder, made if need be; masks go to `masks`, the rest to `probability`, `uncertainty` and `overlays`.
        format: "png" (0 and 255), "nifti" (0 and 1), or "dicom-seg" for DICOM files, which says lesion alone. Masks and maps of a
            volume are volumes on its own grid, whatever the format of pictures.
        threshold: probability from which a pixel is lesion.
        probability: write the probability as float32 NIfTI, too.
        uncertainty: write "entropy" or "std" (standard deviation of the models) as float32 NIfTI; None writes none.
        overlay: write what was found drawn on the image as PNG, see `overlays.overlay`.
        labels: masks, and overlays, of classes: the pixels of the k-th have the value k.

    Raises:
        DataError: a format, an uncertainty or a threshold that there is not, or a format that holds no classes.
    """

    out: Path
    format: str = "png"
    threshold: float = THRESHOLD
    probability: bool = False
    uncertainty: str | None = None
    overlay: bool = False
    labels: bool = False

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise DataError(f"format {self.format}: expected one of {', '.join(FORMATS)}")
        if self.uncertainty is not None and self.uncertainty not in UNCERTAINTIES:
            raise DataError(f"uncertainty {self.uncertainty}: expected one of {', '.join(UNCERTAINTIES)}")
        if self.labels and self.format == "dicom-seg":
            raise DataError("labels: a DICOM segmentation says lesion alone; take --format png or nifti")
        object.__setattr__(self, "threshold", check_threshold(self.threshold))

    def files(self, name: str, count: int, volume: bool = False) -> list[Path]:
        """Every file that an image file with `count` frames, which may be a volume's slices, gets, its masks first."""
        frames = frame_names(name, count)
        maps = [name] if volume else frames
        masks = [name] if self.format == "dicom-seg" else maps
        kinds = [("masks", FORMATS["nifti" if volume else self.format], masks)]
        kinds += [("probability", ".nii.gz", maps)] if self.probability else []
        kinds += [("uncertainty", ".nii.gz", maps)] if self.uncertainty else []
        kinds += [("overlays", ".png", frames)] if self.overlay else []
        return [self.out / folder / f"{one}{suffix}" for folder, suffix, names in kinds for one in names]

    def mask_file(self, name: str, count: int, index: int, volume: bool = False) -> Path:
        """The file with the mask of one frame."""
        return self.files(name, count, volume)[0 if volume or self.format == "dicom-seg" else index]

    def write(
        self, source: ImageFile, frame: str, grey: np.ndarray, consensus: Consensus, mask: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Write what one frame gets, but for its mask in a DICOM segmentation; `frame` is one of `frame_names`.

        Returns:
            Of a slice, its mask and maps (H, W) by their folder, which `complete` writes with those of the others.

        Raises:
            DataError: the disk refuses.
        """
        values = self._values(consensus, mask)
        if self.overlay:
            left_out = (consensus.probability >= self.threshold) & ~mask
            drawn = overlays.overlay(grey, values, left_out, source.spacing)
            write_png(self.out / "overlays" / f"{frame}.png", drawn)
        maps = {"probability": consensus.probability} if self.probability else {}
        if self.uncertainty:
            maps["uncertainty"] = (
                entropy(consensus.probability) if self.uncertainty == "entropy" else consensus.deviation
            )
        if isinstance(source, VolumeFile):
            return {"masks": values, **maps}
        if self.format == "png":
            write_png(self.out / "masks" / f"{frame}.png", values if self.labels else values * 255)
        if self.format == "nifti":
            write_nifti(self.out / "masks" / f"{frame}.nii.gz", values, source)
        for folder, plane in maps.items():
            write_nifti(self.out / folder / f"{frame}.nii.gz", plane, source)
        return {}

    def _values(self, consensus: Consensus, mask: np.ndarray) -> np.ndarray:
        """The mask as numbers, uint8 (H, W): 1 is lesion, or those of the classes."""
        if not self.labels:
            return mask.astype(np.uint8)
        return class_mask(mask, np.stack(list(consensus.classes.values())))

    def complete(
        self,
        source: ImageFile,
        name: str,
        masks: Sequence[np.ndarray],
        planes: Sequence[dict[str, np.ndarray]],
        model: str,
    ) -> None:
        """Write what all frames of a file have together, once each of them is done.

        That is the segmentation of a DICOM file, where that is the format, whose header names the model, and the mask and maps
        of a volume, from the `planes` that `write` gave for its slices.

        Raises:
            DataError: it cannot be made, or the disk refuses.
        """
        if self.format == "dicom-seg" and isinstance(source, DicomFile):
            buffer = BytesIO()
            with referring(source):
                segmentation(source, masks, model, self.threshold).save_as(buffer)
            write_file(self.out / "masks" / f"{name}.dcm", buffer.getvalue())
        if isinstance(source, VolumeFile):
            for folder in planes[0]:
                voxels = np.stack([slices[folder].T for slices in planes], axis=2)
                write_file(self.out / folder / f"{name}.nii.gz", nifti_bytes(as_stored(voxels, source.grid)))


def frame_names(name: str, count: int) -> list[str]:
    """The name of each frame's results; frames count from 1, as in DICOM, and a single one has the file's name."""
    return [name] if count == 1 else [f"{name}_frame{number:04d}" for number in range(1, count + 1)]


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Write uint8 (H, W) or (H, W, 3)."""
    from PIL import Image

    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    write_file(path, buffer.getvalue())


def write_nifti(path: Path, plane: np.ndarray, source: ImageFile) -> None:
    """Write (H, W) as a plane (W, H), x before y: with the geometry of a NIfTI source, else with the pixel's size.

    The same plane always gives the same bytes.
    """
    import nibabel

    if isinstance(source, NiftiFile):
        header = source.header.copy()
        header.set_data_dtype(plane.dtype)
        image = nibabel.Nifti1Image(plane.T.reshape(source.shape), source.affine, header)
        image.header.set_slope_inter(1, 0)
    else:
        down_column, along_row = source.spacing or (1.0, 1.0)
        image = nibabel.Nifti1Image(np.ascontiguousarray(plane.T), np.diag([along_row, down_column, 1.0, 1.0]))
        image.header.set_xyzt_units("mm" if source.spacing else "unknown")
    write_file(path, nifti_bytes(image))


def write_file(path: Path, content: bytes) -> None:
    """Write a result, complete or not at all.

    Raises:
        WriteError: the disk refuses.
    """
    try:
        with atomic_write(path) as file:
            file.write(content)
    except OSError as error:
        raise WriteError(
            f"{path}: cannot be written ({error.strerror}); free disk space or name another --out"
        ) from None
