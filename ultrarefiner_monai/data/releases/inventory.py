"""Records from a table of facts, for building a manifest without the files.

One row an image; the columns are those of `COLUMNS`. Several masks are separated by `;`, sizes are WIDTHxHEIGHT.
Building from a release's files and from its inventory gives the same bytes.
"""

from collections.abc import Callable
from pathlib import Path

from ultrarefiner_monai.data.releases.readers import reader
from ultrarefiner_monai.data.releases.readers.tables import read_lines
from ultrarefiner_monai.data.releases.records import Record, Size, Source
from ultrarefiner_monai.data.releases.roots import unsafe
from ultrarefiner_monai.errors import DataError, raise_problems
from ultrarefiner_monai.schemas import PATH, SHA256, TEXT, as_data, object_of, of, problems

SIZE, HASH = "[1-9][0-9]{0,5}x[1-9][0-9]{0,5}", "[0-9a-f]{64}"
COLUMNS = (
    "dataset",
    "image",
    "masks",
    "width",
    "height",
    "mask_size",
    "lesion_pixels",
    "image_sha256",
    "mask_sha256",
    "phash16",
    "label",
    "patient",
    "official_fold",
)
OFFICIAL = ("", "test", *map(str, range(1, 11)))
DIGITS = of("a whole number of at most 9 digits", type="string", pattern="^[0-9]{1,9}$")
SIDE = of("a whole number above 0", type="string", pattern="^[1-9][0-9]{0,5}$")
ROW = object_of(
    dict.fromkeys(COLUMNS, TEXT)
    | {"image": PATH, "width": SIDE, "height": SIDE, "lesion_pixels": DIGITS, "image_sha256": SHA256}
    | {
        "mask_size": of("WIDTHxHEIGHT, several with ';'", type="string", pattern=f"^({SIZE}(;{SIZE})*)?$"),
        "mask_sha256": of("hashes of 64 hexadecimal digits, with ';'", type="string", pattern=f"^({HASH}(;{HASH})*)?$"),
        "phash16": of("64 hexadecimal digits", type="string", pattern=f"^{HASH}$"),
    }
)


def read_inventory(name: str, path: str | Path) -> list[Record]:
    """Records of the dataset `name` from the CSV file `path`; every malformed row is named in one `DataError`."""
    identify = reader(name).identify
    header, *lines = read_lines(Path(path)) or [[]]
    if missing := [column for column in COLUMNS if column not in header]:
        raise DataError(f"inventory {path}: expected columns {', '.join(COLUMNS)}; missing {', '.join(missing)}")
    records, problems = [], []
    for line, values in enumerate(lines, start=2):
        try:
            records.append(_record(name, identify, header, values))
        except ValueError as error:
            problems.append(f"line {line}: {error}")
    raise_problems(f"inventory {path}", problems)
    return records


def _record(name: str, identify: Callable[[str], str], header: list[str], values: list[str]) -> Record:
    if len(values) != len(header):
        raise DataError(f"expected {len(header)} values, found {len(values)}")
    row = as_data(dict(zip(header, values, strict=True)), "")
    if wrong := list(problems(row, ROW)):
        raise DataError("; ".join(wrong))
    if row["dataset"] != name:
        raise DataError(f"expected dataset {name}, found {row['dataset']!r}")
    masks, sizes, hashes = (
        tuple(row[key].split(";")) if row[key] else () for key in ("masks", "mask_size", "mask_sha256")
    )
    if not len(masks) == len(sizes) == len(hashes):
        raise DataError(f"{row['image']}: {len(masks)} masks, {len(sizes)} mask sizes, {len(hashes)} mask hashes")
    if wrong := list(filter(None, map(unsafe, (row["image"], *masks)))):
        raise DataError("; ".join(wrong))
    if row["official_fold"] not in OFFICIAL:
        raise DataError(
            f"{row['image']}: official_fold: expected 1 to 10, test or nothing, found {row['official_fold']!r}"
        )
    return Record(
        source=Source(
            id=identify(row["image"]),
            image=row["image"],
            masks=masks,
            label=row["label"],
            patient=row["patient"],
            official=row["official_fold"],
        ),
        size=(int(row["width"]), int(row["height"])),
        mask_sizes=tuple(_size(text) for text in sizes),
        lesion_pixels=int(row["lesion_pixels"]),
        sha256=row["image_sha256"],
        mask_sha256=hashes,
        phash16=row["phash16"],
    )


def _size(text: str) -> Size:
    width, height = text.split("x")
    return int(width), int(height)
