"""Image files of a user: found, opened, and read frame by frame as grey values."""

from ultrarefiner_monai.lazy import lazily

__getattr__ = lazily(
    __name__,
    {
        "Found": "find",
        "ImageFile": "image_file",
        "Spacing": "image_file",
        "find_files": "find",
        "open_image_file": "find",
    },
)
