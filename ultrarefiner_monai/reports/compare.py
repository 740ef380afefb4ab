"""`ultrarefiner compare`: two cross-validations or runs on the images that both have scored."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np

from ultrarefiner_monai.data.manifests.summary import aligned
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.metrics.classes import RATES, Told, classes_of, known_rows, told
from ultrarefiner_monai.metrics.scores import LOWER_IS_BETTER, Row, column, outputs_of, unit_of
from ultrarefiner_monai.metrics.scores_file import PER_IMAGE, read_rows
from ultrarefiner_monai.metrics.segmentation import DISTANCES, MEANS
from ultrarefiner_monai.models.card import card_or_empty
from ultrarefiner_monai.reports.statistics import (
    METHOD,
    correct,
    mean_by_patient,
    p_text,
    signed_rank,
    statistic_by_patient,
)
from ultrarefiner_monai.reports.tables import place_of, stages_of
from ultrarefiner_monai.systems import all_stages
from ultrarefiner_monai.texts import lines_of

SCHEMA = "ultrarefiner_monai/comparison/1"
METRICS = (*MEANS, "false_lesions")
ANYWHERE = "all"  # place of images whose tables name no fold

Document = dict[str, Any]


@dataclass(frozen=True)
class Side:
    """One of the two.

    Attributes:
        name: for people.
        stage: that its rows are of, "" for a single run.
        rows: by image.
        outputs: that the rows have scores of.
        classes: names of those that the last output tells apart.
        manifests: hashes of those that its models were trained on.
    """

    name: str
    stage: str
    rows: dict[str, Row]
    outputs: list[str]
    classes: tuple[str, ...]
    manifests: frozenset[str]


def compare(a: str | Path, b: str | Path, phase: str | None = None, seed: int = 0) -> Document:
    """The second minus the first, image by image, with intervals by patient and corrected tests.

    Args:
        a: a cross-validation's or run's folder, or its `per_image.csv`.
        b: another.
        phase: stage of the cross-validations; None is the last one of each.
        seed: of the bootstrap.

    Returns:
        `first`, `second` (name, phase, number of images), `images` both have, those `only_first` and `only_second` have,
        `warnings`, and `differences`: `place`, `stages` (the outputs compared), `metric`, means `first` and `second` over
        the images where both are defined, `delta` (an estimate), `undefined` images, and `p`, `p_holm`, `p_holm_least` of
        `statistics.correct`. Where both tell the same classes apart there are lines of their `RATES`, too, with
        `undefined_resamples`, and of the Dice of each.

    Raises:
        DataError: a table is absent or unreadable, has no such phase or an image twice, or no image is in both.
    """
    first, second = _sides((Path(a), Path(b)), phase)
    common = [name for name in first.rows if name in second.rows]
    if not common:
        raise DataError(f"{first.name} and {second.name} have no image in common: compare runs on the same data set")
    places = _places(first, second, common)
    same = [(output, output) for output in first.outputs if output in second.outputs]
    pairs = dict.fromkeys([(first.outputs[-1], second.outputs[-1]), *same])
    classes = first.classes if set(first.classes) == set(second.classes) else ()
    differences: list[Document] = []
    for place, names in places.items():
        rows = [first.rows[name] for name in names], [second.rows[name] for name in names]
        lines = [line for pair in pairs for line in _lines(*rows, pair, seed)] + _class_lines(*rows, classes, seed)
        differences += [{"place": place, **line} for line in lines]
    return {
        "schema": SCHEMA,
        "first": {"name": first.name, "phase": first.stage, "images": len(first.rows)},
        "second": {"name": second.name, "phase": second.stage, "images": len(second.rows)},
        "images": sum(map(len, places.values())),
        "only_first": len(first.rows) - len(common),
        "only_second": len(second.rows) - len(common),
        "warnings": _warnings(first, second, len(common) - sum(map(len, places.values()))),
        "differences": differences,
        "method": {"intervals": METHOD, "seed": seed, "tests": correct(differences)},
    }


def comparison_text(document: Document) -> str:
    """The comparison for a terminal; ▲ where the second is better, ▼ where it is worse, if the interval leaves out 0."""
    first, second = document["first"], document["second"]
    lines = [
        f"second minus first: {second['name']} {second['phase']} minus {first['name']} {first['phase']}".rstrip(),
        f"{document['images']} images in both, {document['only_first']} only in the first, "
        f"{document['only_second']} only in the second",
        *(f"warning: {warning}" for warning in document["warnings"]),
    ]
    head = ("metric", "first", "second", "difference", "", "95 % interval", "images", "patients", "p (Holm)")
    for place in dict.fromkeys(line["place"] for line in document["differences"]):
        of_place = [line for line in document["differences"] if line["place"] == place]
        for stages in dict.fromkeys(line["stages"] for line in of_place):
            cells = [_cells(line) for line in of_place if line["stages"] == stages]
            lines += ["", f"{place}, {stages}", *aligned([head, *cells])]
    method = document["method"]
    return lines_of(
        [*lines, "", f"{method['intervals']} Wilcoxon on patients' means, Holm over {method['tests']} tests."]
    )


def _sides(paths: tuple[Path, Path], stage: str | None) -> tuple[Side, Side]:
    tables = [read_rows(path / PER_IMAGE if path.is_dir() else path) for path in paths]
    key = "image" if all(rows and "image" in rows[0] for rows in tables) else "id"
    names = [path.name if path.is_dir() else str(path) for path in paths]
    names = list(map(str, paths)) if names[0] == names[1] else names
    first, second = (_side(*one, stage, key) for one in zip(paths, names, tables, strict=True))
    return first, second


def _side(path: Path, name: str, rows: Sequence[Row], stage: str | None, key: str) -> Side:
    stages = stages_of(rows)
    if stage and stages and stage not in stages:
        raise DataError(f"{path} has no {stage}: expected one of {', '.join(stages)}")
    chosen = stage if stages and stage else stages[-1] if stages else ""
    kept = [row for row in rows if row.get("phase", "") == chosen]
    by_name = {str(row[key]): row for row in kept}
    if len(by_name) < len(kept) or not kept:
        found = "no image" if not kept else "an image more than once"
        raise DataError(f"{path}: {found} in its table; run the cross-validation or evaluation again")
    folder = path if path.is_dir() else path.parent  # of a cross-validation, a run or (below a run) an evaluation
    folds = [card for known in all_stages() for card in sorted(folder.glob(f"{known}/fold*/model.json"))]
    cards = [card_or_empty(card) for card in (folder / "model.json", folder.parent / "model.json", *folds)]
    manifests = frozenset(str(card["manifest_sha256"]) for card in cards if card.get("manifest_sha256"))
    return Side(name, chosen, by_name, outputs_of(kept[0]), classes_of(kept[0])[1], manifests)


def _places(first: Side, second: Side, common: Sequence[str]) -> dict[str, list[str]]:
    """The images by where both have scored them; one that is a test image of one side only is in none."""
    places: dict[str, list[str]] = {}
    for name in common:
        found = {place_of(row) for row in (first.rows[name], second.rows[name]) if "fold" in row} or {ANYWHERE}
        if len(found) == 1:
            places.setdefault(found.pop(), []).append(name)
    return dict(sorted(places.items()))


def _lines(first: Sequence[Row], second: Sequence[Row], pair: tuple[str, str], seed: int) -> list[Document]:
    """Each metric that both outputs of the pair have."""
    found = (_line(first, second, pair, metric, seed) for metric in METRICS)
    return [line for line in found if line]


def _line(first: Sequence[Row], second: Sequence[Row], pair: tuple[str, str], metric: str, seed: int) -> Document:
    """The difference in a metric; empty where one of the outputs does not have it, or in another unit."""
    names = [f"{output}_{metric}" for output in pair]
    if names[0] not in first[0] or names[1] not in second[0]:
        return {}
    if metric in DISTANCES and unit_of(first) != unit_of(second):
        return {}
    patients = [row["patient"] for row in second]
    before, after = column(first, names[0]), column(second, names[1])
    defined = np.isfinite(after - before)
    means = [float(values[defined].mean()) if defined.any() else float("nan") for values in (before, after)]
    estimate = asdict(mean_by_patient(after - before, patients, seed))
    return {
        **{"metric": metric, "stages": _named(pair), "first": means[0], "second": means[1], "delta": estimate},
        **{"undefined": int((~defined).sum()), "p": signed_rank(after - before, patients)},
    }


def _named(pair: tuple[str, str]) -> str:
    """The outputs compared, for people."""
    return pair[0] if pair[0] == pair[1] else f"{pair[0]} and {pair[1]}"


def _class_lines(first: Sequence[Row], second: Sequence[Row], classes: Sequence[str], seed: int) -> list[Document]:
    """Differences in the scores of classes that the last outputs of both tell apart.

    Only accuracy is a mean over images, and has a test.
    """
    known = [bool(known_rows([one]) and known_rows([other])) for one, other in zip(first, second, strict=True)]
    if not classes or not any(known):
        return []
    pair = classes_of(first[0])[0], classes_of(second[0])[0]
    rows = [list(compress(side, known)) for side in (first, second)]
    images = [told(side) for side in rows]
    patients = [row["patient"] for row in rows[1]]
    right = [(side.true == side.found).astype(float) for side in images]
    lines = []
    for name, rate in RATES.items():
        values = [float(rate(side, np.ones(len(patients)))) for side in images]
        estimate, undefined = statistic_by_patient(partial(_gain, rate, images), patients, seed)
        p = signed_rank(right[1] - right[0], patients) if name == "accuracy" else math.nan
        lines.append(
            {"metric": name, "stages": _named(pair), "first": values[0], "second": values[1], "delta": asdict(estimate)}
            | {"undefined": len(first) - len(patients), "undefined_resamples": undefined, "p": p}
        )
    return lines + [_line(first, second, pair, f"dice_{name}", seed) for name in classes]


def _gain(rate: Any, images: Sequence[Told], weights: np.ndarray) -> np.ndarray:
    """Second minus first."""
    return rate(images[1], weights) - rate(images[0], weights)


def _warnings(first: Side, second: Side, misplaced: int) -> list[str]:
    found = []
    for side in (first, second):
        if not side.manifests:
            found.append(
                f"the manifest of {side.name} is not known: whether both used the same split cannot be checked"
            )
    asked = [{str(row.get("prompts", "")) for row in side.rows.values()} for side in (first, second)]
    if asked[0] != asked[1] and any(source.startswith("truth") for source in asked[0] | asked[1]):
        named = " and ".join(", ".join(source or "nothing" for source in sorted(sources)) for sources in asked)
        found.append(
            f"asked about different lesions ({named}): true prompts tell place and size, the comparison is not fair"
        )
    if first.classes and second.classes and set(first.classes) != set(second.classes):
        told_by = " and ".join(", ".join(side.classes) for side in (first, second))
        found.append(f"different classes ({told_by}): their scores are not compared")
    if first.manifests and second.manifests and first.manifests != second.manifests:
        hashes = " and ".join(", ".join(sorted(one[:12] for one in side.manifests)) for side in (first, second))
        found.append(f"different manifests ({hashes}): splits and masks may differ, so that the comparison is not fair")
    if misplaced:
        found.append(f"{misplaced} images are test images of one and training images of the other, and left out")
    return found


def _cells(line: Mapping[str, Any]) -> tuple[str, ...]:
    delta = line["delta"]
    gain = [-delta[end] if line["metric"] in LOWER_IS_BETTER else delta[end] for end in ("low", "high")]
    mark = "▲" if min(gain) > 0 else "▼" if max(gain) < 0 else " "
    return (
        line["metric"],
        f"{line['first']:.4f}",
        f"{line['second']:.4f}",
        f"{delta['value']:+.4f}",
        mark,
        f"{delta['low']:+.4f} to {delta['high']:+.4f}",
        str(delta["images"]),
        str(delta["patients"]),
        p_text(line),
    )
