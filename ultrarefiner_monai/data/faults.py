"""One fault of a data set, and the kinds that exist."""

from dataclasses import dataclass

# Kinds in the order of reports: the manifest's own faults, then those of the files, then those of the pixels.
KINDS = {
    "structure": "the manifest lacks a key, or a value is of the wrong type or out of range",
    "duplicate_id": "an id occurs more than once",
    "duplicate_image": "an image is listed under several ids",
    "unsafe_path": "a path or a link leads out of the data set's folder",
    "group": "a group or a patient is in two folds, or in training and testing",
    "copy": "one scene is in two folds, or in training and testing, under two names (`manifests build --group copies`)",
    "missing": "a listed file is not there",
    "extra": "a picture is there that the manifest neither lists nor excludes",
    "empty": "a file holds no bytes",
    "truncated": "a file ends before its picture does",
    "unreadable": "a file cannot be read or decoded",
    "size": "a picture's size is not the manifest's",
    "mask_size": "a mask's size is not its image's",
    "mask_values": "a mask holds more than one value beside 0",
    "mask_meaning": "a mask read as it is would mean something else: lesion in the alpha channel, inverted, or all of the frame",
    "blank": "a mask of a lesion holds no lesion",
    "lesion": "the file is the manifest's, but holds another number of lesion pixels",
    "hash": "the file's bytes were changed, and nothing above is wrong with it",
}


@dataclass(frozen=True)
class Problem:
    """What is wrong with one file: a kind of `KINDS` and the sentence about it."""

    kind: str
    message: str


@dataclass(frozen=True)
class Fault:
    """What is wrong with one item, file or entry of a manifest; `str()` is the one line a user reads.

    `kind` is one of `KINDS`; `id` is an item's, "" where no single item is at fault; `file` is the manifest's path of the
    file, relative to the data set's root, or "".
    """

    kind: str
    id: str
    file: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.id, self.file, self.message) if part)
