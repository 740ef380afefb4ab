"""NIfTI files of several slices."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ultrarefiner_monai.data.volumes import Clip, read_grid, read_volume, scaled
from ultrarefiner_monai.deploy.images.image_file import ImageFile


class VolumeFile(ImageFile):
    """A volume in NIfTI, whose frames are its slices from the lowest to the highest, as a training sees them (`data.volumes`).

    Attributes:
        grid: of the file.
        clip: grey values that become 0 and 1, which the model that is to see them knows; None: percentiles.
    """

    def __init__(self, path: Path, clip: Clip | None = None) -> None:
        self.grid, self.clip = read_grid(path), clip
        super().__init__(path, count=self.grid.size[2], spacing=self.grid.spacing[1:])

    def frames(self) -> Iterator[np.ndarray]:
        """As `ImageFile.frames`."""
        grey = scaled(read_volume(self.path).voxels, self.clip)
        for index in range(self.count):
            yield np.ascontiguousarray(grey[:, :, index].T)
