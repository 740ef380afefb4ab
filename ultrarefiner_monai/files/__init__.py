"""Files: written whole or not at all, JSON in and out, their hash and their name."""

from ultrarefiner_monai.files.documents import (
    bytes_of,
    finite,
    json_or_empty,
    json_text,
    parse_json,
    read_json,
    write_json,
)
from ultrarefiner_monai.files.reading import check_claims, file_sha256, read_npz, regular, without_folders
from ultrarefiner_monai.files.writing import (
    append_line,
    atomic_folder,
    atomic_write,
    is_free,
    naming,
    remove_partials,
    write_atomically,
    write_output,
)

__all__ = [
    "append_line",
    "atomic_folder",
    "atomic_write",
    "bytes_of",
    "check_claims",
    "file_sha256",
    "finite",
    "is_free",
    "json_or_empty",
    "json_text",
    "naming",
    "parse_json",
    "read_json",
    "read_npz",
    "regular",
    "remove_partials",
    "without_folders",
    "write_atomically",
    "write_json",
    "write_output",
]
