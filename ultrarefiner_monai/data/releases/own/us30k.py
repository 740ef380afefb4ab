"""US30K's layout, that of SAMUS (Lin et al., arXiv 2309.06824): `SUBSET/img/a.png`, `SUBSET/label/a.png`, and lists.

`MainPatient/train.txt`, `val.txt` and `test.txt` (or such names as `train-SUBSET.txt`) hold a line an image, `SUBSET/a` or
`VALUE/SUBSET/a` with the value of the lesion in the label, and `class.json` the number of values, background among them.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from ultrarefiner_monai.data.releases.own.entries import SPLITS, Entry, Layout, OwnOptions, below, lacking_masks
from ultrarefiner_monai.data.releases.roots import within
from ultrarefiner_monai.errors import DataError, one_line, raise_problems
from ultrarefiner_monai.files import read_json, regular

LISTS = "MainPatient"


def find(root: Path, files: Sequence[str], options: OwnOptions) -> Layout | None:
    """Images of the lists, with their splits.

    Raises:
        DataError: a list that cannot be read, lines of another form or of images that are not there, an image in two
            splits, or labels with more than one value beside 0.
    """
    folder = next(
        (path for depth in ("", "*/") for path in sorted(root.glob(f"{depth}{LISTS}")) if path.is_dir()), None
    )
    if folder is None or options.masks:
        return None
    base = folder.parent.relative_to(root).as_posix()
    classes = read_json(within(root, folder / "class.json"), dict, "it tells how many values each subset's labels have")
    by_stem = {PurePosixPath(path).with_suffix("").as_posix(): path for path in files}
    splits: dict[str, tuple[str, str]] = {}
    problems: list[str] = []
    for file in sorted(folder.glob("*.txt")):
        split = next((SPLITS[word] for word in re.split(r"[\W_]+", file.stem.casefold()) if word in SPLITS), "")
        for number, subset, name in _lines(within(root, file)) if split else ():
            image, label = (
                by_stem.get(PurePosixPath(base, subset, kind, name).as_posix()) for kind in ("img", "label")
            )
            if image and not below(options.images, image):
                continue
            before = splits.get(image or "", (split, ""))[0]
            if not image:
                problems.append(f"{file.name} line {number}: no image {subset}/img/{name}")
            elif classes.get(subset) != 2:
                problems.append(
                    f"class.json: {subset}: expected 2 values, background and lesion, found {classes.get(subset)}"
                )
            elif before != split:
                problems.append(f"{image} is in {before} and in {split}")
            else:
                splits[image] = split, label or ""
    raise_problems(str(folder), dict.fromkeys(problems))
    if not splits:
        raise DataError(f"{folder}: expected train.txt, val.txt and test.txt with a line an image, found none")
    entries = [Entry(image, (label,) if label else (), split) for image, (split, label) in sorted(splits.items())]
    notes = lacking_masks(entries, "the same name in label/")
    return Layout(tuple(entries), f"US30K's lists in {LISTS}", tuple(notes))


def _lines(file: Path) -> Iterator[tuple[int, str, str]]:
    """Number, subset and image of each line of a list."""
    try:
        lines = regular(file).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read as text ({one_line(error)}); save it as UTF-8") from None
    for number, line in enumerate(lines, start=1):
        match line.strip().split("/"):
            case [""]:
                continue
            case [subset, name] | [_, subset, name]:
                yield number, subset, name
            case _:
                raise DataError(
                    f"{file} line {number}: expected SUBSET/NAME or VALUE/SUBSET/NAME, found {line.strip()!r}"
                )
