"""NIfTI files of several slices."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ultrarefiner_monai.data.volumes import read_grid, read_volume, scaled
from ultrarefiner_monai.deploy.images.image_file import ImageFile


class VolumeFile(ImageFile):
    """A volume in NIfTI, whose frames are its slices from the lowest to the highest, as a training sees them (`data.volumes`)."""

    def __init__(self, path: Path) -> None:
        self.grid = read_grid(path)
        super().__init__(path, count=self.grid.size[2], spacing=self.grid.spacing[1:])

    def frames(self) -> Iterator[np.ndarray]:
        """As `ImageFile.frames`."""
        grey = scaled(read_volume(self.path).voxels)
        for index in range(self.count):
            yield np.ascontiguousarray(grey[:, :, index].T)
