"""Report of near-duplicates: `duplicates.json` for programs, `duplicates.html` as a contact sheet of clusters for people.

The sheet is one file that loads nothing else and runs no script.
"""

from base64 import b64encode
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from ultrarefiner_monai.data.images import open_image, read_mask, to_grey
from ultrarefiner_monai.data.manifests.groups import components, excluded_duplicates
from ultrarefiner_monai.data.releases.copies.near_duplicates import MIN_CORRELATION, DuplicatePair
from ultrarefiner_monai.data.releases.copies.pairs import (
    CONTENT,
    NAMES,
    TABLE,
    CopyPair,
    ImagePair,
    opposite,
)
from ultrarefiner_monai.data.releases.copies.perceptual_hashes import MAX_DISTANCE
from ultrarefiner_monai.data.releases.records import Record
from ultrarefiner_monai.files import json_text, write_output
from ultrarefiner_monai.parallel import in_parallel
from ultrarefiner_monai.texts import printable_value

HASH = "hash"  # what found a `DuplicatePair`
JSON_NAME, HTML_NAME = "duplicates.json", "duplicates.html"
SIDE = 260  # px of the longer side: two fit side by side on a phone, and a picture takes about 10 KB
QUALITY = 75
OUTLINE = (255, 214, 0)  # yellow, which no grey or Doppler blue and red hides


def write_report(
    pairs: Sequence[ImagePair],
    locate: Callable[[str], Path] | None,
    folder: str | Path,
    found: Sequence[CopyPair] | None = None,
) -> None:
    """Write `duplicates.json` and `duplicates.html` into `folder`, opposite labels first, then other differing labels.

    JSON has a list of pairs and one of clusters, which the page shows: images that pairs connect.

    Args:
        pairs: of a `Release`, which groups go by.
        found: further copies, which a search of the content found and groups do not go by; None: it was not searched.
        locate: turns a path of a record's source into that of its file; None shows no pictures.
        folder: made where absent; an older report in it is replaced.

    Raises:
        DataError: an image cannot be read, or the folder cannot be written to.
    """
    from jinja2 import Environment, PackageLoader

    excluded = excluded_duplicates(pairs)
    pairs = sorted(
        [*pairs, *(found or ())], key=lambda pair: (not pair.opposite, pair.labels[0] == pair.labels[1], *pair.ids)
    )
    document = {"searched": found is not None, **_document(pairs, excluded)}
    pictures: dict[str, str] = {}
    if locate:
        drawn = {record.source.id: record for pair in pairs for record in (pair.first, pair.second)}
        uris = in_parallel(lambda record: _picture(record, locate), drawn.values(), progress="contact sheet")
        pictures = dict(zip(drawn, uris, strict=True))
    environment = Environment(
        loader=PackageLoader(__package__), autoescape=True, trim_blocks=True, finalize=printable_value
    )
    page = environment.get_template(HTML_NAME).render(document, pictures=pictures)
    write_output("report", Path(folder) / JSON_NAME, json_text(document).encode())
    write_output("report", Path(folder) / HTML_NAME, page.encode())


def _document(pairs: Sequence[ImagePair], excluded: Mapping[str, str]) -> dict[str, Any]:
    entries = [_entry(pair) for pair in pairs]
    verdicts = [entry["verdict"] for entry in entries]
    return {
        "max_distance": MAX_DISTANCE,
        "min_correlation": MIN_CORRELATION,
        "counts": {
            **{verdict: verdicts.count(verdict) for verdict in ("confirmed", "refuted", "unchecked")},
            "opposite": sum(pair.opposite for pair in pairs),
            **{how: sum(entry["found_by"] == how for entry in entries) for how in (HASH, TABLE, NAMES, CONTENT)},
        },
        "pairs": entries,
        "clusters": _clusters(pairs),
        "excluded": dict(excluded),
    }


def _clusters(pairs: Sequence[ImagePair]) -> list[dict[str, Any]]:
    """Images that pairs connect: each image with its label and patient, and the pairs by their number."""
    by_id = {record.source.id: record.source for pair in pairs for record in (pair.first, pair.second)}
    numbers_of = defaultdict(list)
    for number, pair in enumerate(pairs):
        numbers_of[pair.ids[0]].append(number)
    found = []
    for names in components(by_id, [pair.ids for pair in pairs]):
        labels = {by_id[name].label for name in names}
        images = [{"id": name, "label": by_id[name].label, "patient": by_id[name].patient} for name in names]
        numbers = sorted(number for name in names for number in numbers_of[name])
        found.append({"opposite": opposite(labels), "labels": sorted(labels), "images": images, "pairs": numbers})
    return sorted(found, key=lambda one: (not one["opposite"], len(one["labels"]) == 1, one["images"][0]["id"]))


def _entry(pair: ImagePair) -> dict[str, Any]:
    told = {
        "first": pair.first.source.id,
        "second": pair.second.source.id,
        "labels": list(pair.labels),
        "opposite": pair.opposite,
        "patients": list(pair.patients),
        "same_patient": pair.same_patient,
    }
    if isinstance(pair, CopyPair):
        return told | _of_copies(pair)
    return told | _of_hashes(pair) if isinstance(pair, DuplicatePair) else told


def _of_copies(pair: CopyPair) -> dict[str, Any]:
    return {
        "found_by": pair.found_by,
        "kind": pair.kind,
        "transform": pair.transform,
        "correlation": _rounded(pair.correlation),
        "verdict": "unchecked" if pair.correlation is None else "confirmed",
    }


def _of_hashes(pair: DuplicatePair) -> dict[str, Any]:
    return {
        "found_by": HASH,
        "distance": pair.distance,
        "mirror": pair.mirror,
        "correlation": _rounded(pair.correlation),
        "verdict": "confirmed" if pair.confirmed else "refuted" if pair.refuted else "unchecked",
    }


def _rounded(correlation: float | None) -> float | None:
    return None if correlation is None else round(correlation, 4)


def _picture(record: Record, locate: Callable[[str], Path]) -> str:
    """Data URI of a small JPEG: the image in grey, the innermost pixels of its lesion's border marked."""
    from PIL import Image
    from scipy.ndimage import binary_erosion

    with open_image(locate(record.source.image)) as image:
        grey = Image.fromarray(np.round(to_grey(image) * 255).astype(np.uint8))
    grey.thumbnail((SIDE, SIDE))
    pixels = np.stack([np.asarray(grey)] * 3, axis=-1)
    lesion = read_mask([locate(mask) for mask in record.source.masks], grey.size)
    pixels[lesion & ~binary_erosion(lesion)] = OUTLINE
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{b64encode(stream.getvalue()).decode()}"
