"""Cases of a set of volumes: an image with its labels, in nnU-Net's layout (Isensee et al. 2021) or another pair of folders."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from ultrarefiner_monai.data.releases.records import Source
from ultrarefiner_monai.data.releases.roots import within
from ultrarefiner_monai.data.volumes import NIFTIS
from ultrarefiner_monai.errors import DataError, raise_problems
from ultrarefiner_monai.files import read_json

CHANNEL = re.compile(r"_(\d{4})$")
MOST_LABELS = 255  # they are written as uint8


def case_of(image: str) -> str:
    """A case's id in nnU-Net's layout: the file's name without its suffix and the channel `_0000`."""
    return CHANNEL.sub("", without_suffix(image))


def without_suffix(path: str) -> str:
    """A file's name without `.nii.gz` or `.nii`."""
    name = PurePosixPath(path).name
    return next((name.removesuffix(suffix) for suffix in NIFTIS if name.endswith(suffix)), name)


def volume_files(folder: Path) -> list[Path]:
    """NIfTI files directly in a folder, sorted by name; hidden ones are none."""
    return sorted(path for path in folder.glob("*.nii*") if path.name.endswith(NIFTIS) and path.name[0] != ".")


def cases(
    root: Path,
    images: str,
    labels: str,
    official: str = "",
    identify: Callable[[str], str] = case_of,
    label_stem: Callable[[str], str] = str,
) -> list[Source]:
    """The images of folder `images` with the labels of the same case in `labels`; none where `images` is no folder.

    Args:
        root: of the release.
        images: folder of the images.
        labels: folder of the labels.
        official: place of these cases in the authors' split.
        identify: id of a case from its image.
        label_stem: name of a case's labels, without suffix, from its id; by default they are equal.

    Raises:
        DataError: an image of several channels.
    """
    if not (root / images).is_dir():
        return []
    label_of = {without_suffix(path.name): f"{labels}/{path.name}" for path in volume_files(root / labels)}
    found = []
    for path in volume_files(root / images):
        channel = CHANNEL.search(without_suffix(path.name))
        if channel and int(channel[1]) and identify is case_of:
            raise DataError(f"{images}/{path.name}: expected one channel, NAME_0000; build a set of one channel")
        case = identify(path.name)
        label = label_of.get(label_stem(case))
        found.append(Source(case, f"{images}/{path.name}", (label,) if label else (), "unknown", official=official))
    return found


def table_of(root: Path, organs: Sequence[str] = ()) -> dict[str, str]:
    """Labels by their number as text, of nnU-Net's `dataset.json` ({name: number}) or the older {number: name}.

    Without such a file they are those of the release: background and its `organs`, from 1.

    Raises:
        DataError: no table, or one whose numbers are not 0 to K.
    """
    path = root / "dataset.json"
    if organs and not path.is_file():
        return {str(number): name for number, name in enumerate(("background", *organs))}
    told = read_json(within(root, path), dict, "nnU-Net's raw data have one").get("labels")
    problems = []
    if isinstance(told, Mapping) and "ignore" in told:
        problems.append("label 'ignore': voxels cannot be left out; draw them or remove the cases")
    pairs = list(told.items()) if isinstance(told, Mapping) else []
    by_number = {str(key): value for key, value in (pair if _is_number(pair[0]) else pair[::-1] for pair in pairs)}
    if not problems and not _is_table(by_number):
        problems.append(f"labels: expected names by the numbers 0 to K, at most {MOST_LABELS}, found {told!r:.100}")
    raise_problems(str(path), problems)
    return {number: by_number[number] for number in sorted(by_number, key=int)}


def _is_number(value: object) -> bool:
    return isinstance(value, str) and value.isascii() and value.isdigit()


def _is_table(by_number: Mapping[str, object]) -> bool:
    wanted = {str(number) for number in range(len(by_number))}
    return (
        2 <= len(by_number) <= 1 + MOST_LABELS
        and by_number.keys() == wanted
        and all(isinstance(name, str) and name.strip() for name in by_number.values())
    )
