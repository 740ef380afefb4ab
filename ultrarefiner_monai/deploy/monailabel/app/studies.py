"""The study folder of the server: its images, and their labels, of pictures as PNG with 0 and 1."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
from fastapi import HTTPException
from monailabel.datastore.local import LocalDatastore
from PIL import Image

from ultrarefiner_monai.data.releases.readers import IMAGE_SUFFIXES
from ultrarefiner_monai.data.volumes import read_grid
from ultrarefiner_monai.deploy.monailabel.labels import LABEL_SUFFIXES, NIFTIS, read_label, size_of, suffix_of
from ultrarefiner_monai.deploy.monailabel.request import MASK, NAME, is_plain
from ultrarefiner_monai.deploy.monailabel.volumes import KIND, holds_volume, read_volume_label, write_volume
from ultrarefiner_monai.errors import DataError, shown

logger = logging.getLogger(__name__)

UNLISTED_SHOWN = 10
SUFFIXES = (*IMAGE_SUFFIXES, *NIFTIS)  # of images: pictures, and volumes


@contextmanager
def told(names: Mapping[str, str] | None = None) -> Iterator[None]:
    """Tell the client a mistake in its request in one line (status 400), with `names` in place of the server's paths."""
    try:
        yield
    except DataError as error:
        detail = str(error)
        for path, name in (names or {}).items():
            detail = detail.replace(path, name)
        raise HTTPException(status_code=400, detail=detail) from error


class Studies(LocalDatastore):
    """A folder of images, not of its sub-folders, since the names of files are what clients know images by.

    Labels that clients save are checked against their image and kept as PNG. Files laid into `labels/final` by hand may
    be of any kind that `read_label` takes.
    """

    def __init__(self, folder: str, auto_reload: bool, read_only: bool) -> None:
        patterns = [f"*{suffix}" for suffix in LABEL_SUFFIXES]
        super().__init__(folder, extensions=patterns, auto_reload=auto_reload, read_only=read_only)
        self._tell_unlisted(Path(folder))

    def _init_from_datastore_file(self, throw_exception: bool = False) -> None:
        """As MONAI Label does, without what its file says of paths that lead out of the folder."""
        super()._init_from_datastore_file(throw_exception)
        for image, found in list(self._datastore.objects.items()):
            parts = [image + found.image.ext, *found.labels, *(image + label.ext for label in found.labels.values())]
            if not all(map(is_plain, parts)):
                del self._datastore.objects[image]

    def _tell_unlisted(self, folder: Path) -> None:
        listed = {self.get_image_uri(image) for image in self.list_images()}
        labels = folder.resolve() / self._datastore.labels_dir
        unlisted = [
            str(path.relative_to(folder))
            .encode("unicode_escape")
            .decode()  # a name can hold lines that look like the log's
            for path in sorted(folder.rglob("*"))
            if path.name.lower().endswith(SUFFIXES)
            and str(path.resolve()) not in listed
            and labels not in path.resolve().parents
        ]
        if unlisted:
            names = shown(unlisted, UNLISTED_SHOWN)
            logger.warning("not served, for they lie in sub-folders, are hidden or share another's name: %s", names)

    def _to_id(self, file: str) -> tuple[str, str]:
        end = len(file) - len(suffix_of(file))
        return file[:end], file[end:]

    def _list_files(self, path: str, patterns: Sequence[str]) -> dict[str, str]:
        """Files by name; the first of several with one id. Upper-case suffixes count, hidden files do not."""
        suffixes = SUFFIXES if Path(path).samefile(self._datastore.image_path()) else LABEL_SUFFIXES
        found: dict[str, str] = {}
        for file in sorted(Path(path).iterdir()):
            if is_plain(file.name) and suffix_of(file.name) in suffixes and file.is_file():
                found.setdefault(self._to_id(file.name)[0], file.name)
        return {name: name for name in found.values()}

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """As MONAI Label does, if the id is the name of a file that is not there yet, and the file an image."""
        with told({image_filename: f"image '{image_id}'"}):
            if not is_plain(image_id):
                raise DataError(f"image {image_id!r}: expected {NAME}")
            if image_id in self.list_images():
                raise DataError(f"image '{image_id}': already there; choose another name or delete it first")
            if suffix_of(image_filename) not in SUFFIXES:
                raise DataError(f"image '{image_id}': expected {', '.join(SUFFIXES)}")
            read_grid(Path(image_filename)) if holds_volume(image_filename) else size_of(image_filename)
        return super().add_image(image_id, image_filename, image_info)

    def remove_image(self, image_id: str) -> None:
        """As MONAI Label does, if the image is there."""
        if image_id not in self.list_images():
            raise HTTPException(status_code=404, detail=f"image '{image_id}': not in the study folder")
        super().remove_image(image_id)

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """As MONAI Label does, if the label is one of the image.

        It is then kept as PNG with 0 and 1, or of a volume as NIfTI on its grid, with its numbers.
        """
        image = self.get_image_uri(image_id)
        if not image:
            raise HTTPException(status_code=404, detail=f"image '{image_id}': not in the study folder")
        with told({label_filename: f"label of '{image_id}'"}):
            if not is_plain(label_tag):
                raise DataError(f"tag {label_tag!r}: expected {NAME}")
            grid = read_grid(Path(image)) if holds_volume(image) else None
            read = (
                read_label(label_filename, size_of(image)) if grid is None else read_volume_label(label_filename, grid)
            )
        with NamedTemporaryFile(suffix=MASK if grid is None else KIND) as file:
            if grid is None:
                Image.fromarray(read.astype(np.uint8)).save(file, format="PNG")
                file.flush()
            else:
                write_volume(read, grid, file.name)
            info = {key: value for key, value in label_info.items() if key != "label_info"}
            return super().save_label(image_id, file.name, label_tag, info)
