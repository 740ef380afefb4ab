"""Opening the files of a release: sizes, hashes, lesion pixels, perceptual hash and thumbnail of every image."""

import base64
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ultrarefiner_monai.data.decoding import deep_values, white_of_image
from ultrarefiner_monai.data.faults import KINDS, Problem
from ultrarefiner_monai.data.images import lesion, open_image, to_alpha, to_grey, to_planes
from ultrarefiner_monai.data.mask_checks import mask_problem
from ultrarefiner_monai.data.releases.fact_cache import FactCache
from ultrarefiner_monai.data.releases.records import Record, Source
from ultrarefiner_monai.data.releases.roots import resolve
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.files import file_sha256, regular
from ultrarefiner_monai.parallel import in_parallel

if TYPE_CHECKING:
    from PIL import Image

logger = logging.getLogger(__name__)

HASH_SIZE = 16  # imagehash.phash(hash_size=16): 256 bits, as in the inventories
THUMBNAIL = 64  # px a side: lesions and calipers can be told apart, and 3 338 images take 14 MB

Facts = dict[str, Any]


def measure(
    sources: Sequence[Source], root: Path, cache: FactCache | None = None, workers: int | None = None
) -> tuple[list[Record], dict[str, str]]:
    """Read every file of `sources` under `root`; the records in the order of the sources, and reasons by id of the rest.

    What cannot become a record is an image of which a file is missing, unreadable or linked out of the root.

    Args:
        sources: what the release lists.
        root: the release folder.
        cache: where facts of known contents are found and noted.
        workers: threads; None is one a core.
    """
    cache = cache or FactCache(None)
    hashed = in_parallel(partial(_attempt, _hashes, root), sources, workers, "hashing")
    bad = {s.id: h for s, h in zip(sources, hashed, strict=True) if isinstance(h, str)}
    good = [(s, h) for s, h in zip(sources, hashed, strict=True) if not isinstance(h, str)]
    found = cache.get(key for _, hashes in good for key in _keys(hashes))
    known = {key: facts for key, facts in found.items() if _sound(key, facts)}
    if len(known) < len(found):
        logger.warning("cache %s: %d damaged entries; these files are read anew", cache.path, len(found) - len(known))
    missing = [(s, h) for s, h in good if not known.keys() >= set(_keys(h))]
    read = in_parallel(lambda pair: _attempt(_facts, root, pair[0]), missing, workers, "reading")
    fresh: dict[str, Facts] = {}
    for (source, hashes), facts in zip(missing, read, strict=True):
        if isinstance(facts, str):
            bad[source.id] = facts
        else:
            fresh.update(zip(_keys(hashes), facts, strict=True))
    cache.put(fresh)
    known |= fresh
    records = [_record(source, hashes, known) for source, hashes in good if source.id not in bad]
    return records, bad


def phash16(image: "Image.Image") -> str:
    """Perceptual hash of a decoded image, 256 bits as 64 hexadecimal digits (Zauner 2010, as ImageHash computes it)."""
    from imagehash import phash

    return str(phash(_eight_bit(image), hash_size=HASH_SIZE))


def thumbnail(image: "Image.Image") -> bytes:
    """Mean grey values of a 64 x 64 grid over a decoded image, row by row."""
    from PIL import Image

    return _eight_bit(image).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX).tobytes()


def _eight_bit(image: "Image.Image") -> "Image.Image":
    """Grey values of 8 bits of a decoded image; deeper values are scaled, where PIL's own conversion would clip them."""
    from PIL import Image

    if deep_values(image) is not None or image.info.get("sixteen_bit_colours"):
        return Image.fromarray(np.round(to_grey(image) * 255).astype(np.uint8))
    return image.convert("L")


def _attempt(function: Callable[[Source, Path], Any], root: Path, source: Source) -> Any:
    """The function's result, or as text why the user's files do not allow one."""
    try:
        return function(source, root)
    except DataError as error:
        return str(error)
    except OSError as error:
        return f"{error.filename}: {error.strerror or error}; copy it again from the release"


def _hashes(source: Source, root: Path) -> list[str]:
    """SHA-256 of the image and of each mask."""
    return [file_sha256(regular(resolve(root, path))) for path in (source.image, *source.masks)]


def _keys(hashes: Sequence[str]) -> tuple[str, str]:
    """Keys of what is known about an image and about its masks together."""
    return f"image {hashes[0]}", f"masks {' '.join(hashes[1:])}"


def _facts(source: Source, root: Path) -> tuple[Facts, Facts]:
    with open_image(resolve(root, source.image)) as image:
        small = base64.b64encode(thumbnail(image)).decode()
        of_image: Facts = {"size": image.size, "phash16": phash16(image), "thumbnail": small}
        of_image |= {"orientation": image.info["orientation"], "white": white_of_image(image)}
    masks, problems = [], []
    for path in source.masks:
        with open_image(resolve(root, path)) as image:
            planes, alpha = to_planes(image), to_alpha(image)
        masks.append(lesion(planes))
        problem = mask_problem(planes, alpha)
        problems.append(problem and [problem.kind, problem.message])
    same_grid = len({mask.shape for mask in masks}) == 1
    of_masks = {
        "sizes": [mask.shape[::-1] for mask in masks],
        "lesion_pixels": int(np.logical_or.reduce(masks).sum()) if same_grid else 0,
        "problems": problems,
    }
    return of_image, of_masks


def _sound(key: str, facts: Any) -> bool:
    """Whether the cache's facts under a key are such as `_facts` gives."""
    try:
        if key.startswith("image "):
            numbers = [*facts["size"], facts["orientation"], facts["white"]]
            side = len(base64.b64decode(facts["thumbnail"], validate=True)) == THUMBNAIL**2
            sound = len(numbers) == 4 and side and len(bytes.fromhex(facts["phash16"])) == HASH_SIZE**2 // 8
        else:
            sizes, problems = facts["sizes"], facts["problems"]
            numbers = [facts["lesion_pixels"], *(side for width, height in sizes for side in (width, height))]
            sound = len(sizes) == len(problems) == len(key.split()) - 1
            sound = sound and all(one is None or Problem(*one).kind in KINDS for one in problems)
        return sound and all(type(number) is int for number in numbers)
    except (KeyError, TypeError, ValueError, AttributeError):
        return False


def _record(source: Source, hashes: Sequence[str], known: Mapping[str, Facts]) -> Record:
    image, masks = (known[key] for key in _keys(hashes))
    return Record(
        source=source,
        size=(image["size"][0], image["size"][1]),
        mask_sizes=tuple((width, height) for width, height in masks["sizes"]),
        lesion_pixels=masks["lesion_pixels"],
        sha256=hashes[0],
        mask_sha256=tuple(hashes[1:]),
        phash16=image["phash16"],
        orientation=image["orientation"],
        white=image["white"],
        thumbnail=base64.b64decode(image["thumbnail"]),
        mask_problems=tuple(Problem(*problem) for problem in masks["problems"] if problem),
    )
