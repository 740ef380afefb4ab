"""Image files of a user: found, opened, and read frame by frame as grey values."""

from ultrarefiner_monai.deploy.images.find import Found, find_files, open_picture
from ultrarefiner_monai.deploy.images.image_file import PictureFile, Spacing

__all__ = ["Found", "PictureFile", "Spacing", "find_files", "open_picture"]
