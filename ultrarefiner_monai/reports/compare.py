"""`ultrarefiner compare`: two studies or runs on the images that both have scored."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ultrarefiner_monai.data.manifests.summary import aligned
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.handlers.comparison import Row
from ultrarefiner_monai.metrics.scores import LOWER_IS_BETTER, STAGES, unit_of
from ultrarefiner_monai.metrics.scores_file import PER_IMAGE, read_rows
from ultrarefiner_monai.metrics.segmentation import DISTANCES, MEANS
from ultrarefiner_monai.reports.document import correct
from ultrarefiner_monai.reports.statistics import METHOD, mean_by_patient, signed_rank
from ultrarefiner_monai.reports.study_files import read_json
from ultrarefiner_monai.reports.tables import column, place_of

SCHEMA = "ultrarefiner_monai/comparison/1"
METRICS = (*MEANS, "false_lesions")
ANYWHERE = "all"  # place of images whose tables name no fold

Document = dict[str, Any]


@dataclass(frozen=True)
class Side:
    """One of the two: its rows by image, the phase they are of ("" for a single run), and the hashes of its manifests."""

    name: str
    phase: str
    rows: dict[str, Row]
    manifests: frozenset[str]

    @property
    def stages(self) -> list[str]:
        """The masks it has scores of."""
        first = next(iter(self.rows.values()))
        return [stage for stage in STAGES if f"{stage}_dice" in first]


def compare(a: str | Path, b: str | Path, phase: str | None = None, seed: int = 0) -> Document:
    """The second minus the first, image by image, with intervals by patient and corrected tests.

    Args:
        a: a study's or run's folder, or its `per_image.csv`.
        b: another.
        phase: of the studies; None is the last phase of each.
        seed: of the bootstrap.

    Returns:
        `first`, `second` (name, phase, number of images), `images` both have, those `only_first` and `only_second` have,
        `warnings`, and `differences`: `place`, `stages` compared, `metric`, means `first` and `second` over the images
        where both are defined, `delta` (an estimate), `undefined` images, `p`, `p_holm`.

    Raises:
        DataError: a table is absent or unreadable, has no such phase or an image twice, or no image is in both.
    """
    first, second = _sides((Path(a), Path(b)), phase)
    common = [name for name in first.rows if name in second.rows]
    if not common:
        raise DataError(f"{first.name} and {second.name} have no image in common: compare runs on the same data set")
    places = _places(first, second, common)
    pairs = [(first.stages[-1], second.stages[-1])]
    pairs += [("coarse", "coarse")] if pairs != [("coarse", "coarse")] else []
    differences = [
        {"place": place, **line}
        for place, names in places.items()
        for stages in pairs
        for line in _lines([first.rows[name] for name in names], [second.rows[name] for name in names], stages, seed)
    ]
    return {
        "schema": SCHEMA,
        "first": {"name": first.name, "phase": first.phase, "images": len(first.rows)},
        "second": {"name": second.name, "phase": second.phase, "images": len(second.rows)},
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
    return "\n".join(
        [*lines, "", f"{method['intervals']} Wilcoxon on patients' means, Holm over {method['tests']} tests."]
    )


def _sides(paths: tuple[Path, Path], phase: str | None) -> tuple[Side, Side]:
    tables = [read_rows(path / PER_IMAGE if path.is_dir() else path) for path in paths]
    key = "image" if all(rows and "image" in rows[0] for rows in tables) else "id"
    names = [path.name if path.is_dir() else str(path) for path in paths]
    names = list(map(str, paths)) if names[0] == names[1] else names
    first, second = (_side(*one, phase, key) for one in zip(paths, names, tables, strict=True))
    return first, second


def _side(path: Path, name: str, rows: Sequence[Row], phase: str | None, key: str) -> Side:
    phases = sorted({row["phase"] for row in rows if "phase" in row})
    if phase and phases and phase not in phases:
        raise DataError(f"{path} has no {phase}: expected one of {', '.join(phases)}")
    chosen = phase if phases and phase else phases[-1] if phases else ""
    kept = [row for row in rows if row.get("phase", "") == chosen]
    by_name = {str(row[key]): row for row in kept}
    if len(by_name) < len(kept) or not kept:
        found = "no image" if not kept else "an image more than once"
        raise DataError(f"{path}: {found} in its table; run the study or evaluation again")
    return Side(name, chosen, by_name, _manifests(path if path.is_dir() else path.parent))


def _manifests(folder: Path) -> frozenset[str]:
    """Hashes of the manifests that the models in a study's or run's folder, or beside an evaluation's, were trained on."""
    cards = [folder / "model.json", folder.parent / "model.json", *sorted(folder.glob("phase*/fold*/model.json"))]
    found = (read_json(card, dict).get("manifest_sha256") for card in cards)
    return frozenset(str(sha256) for sha256 in found if sha256)


def _places(first: Side, second: Side, common: Sequence[str]) -> dict[str, list[str]]:
    """The images by where both have scored them; one that is a test image of one side only is in none."""
    places: dict[str, list[str]] = {}
    for name in common:
        found = {place_of(row) for row in (first.rows[name], second.rows[name]) if "fold" in row} or {ANYWHERE}
        if len(found) == 1:
            places.setdefault(found.pop(), []).append(name)
    return dict(sorted(places.items()))


def _lines(first: Sequence[Row], second: Sequence[Row], stages: tuple[str, str], seed: int) -> list[Document]:
    """Each metric that both have."""
    name = stages[0] if stages[0] == stages[1] else f"{stages[0]} and {stages[1]}"
    patients = [row["patient"] for row in second]
    lines = []
    for metric in METRICS:
        names = [f"{stage}_{metric}" for stage in stages]
        if names[0] not in first[0] or names[1] not in second[0]:
            continue
        before, after = column(first, names[0]), column(second, names[1])
        if metric in DISTANCES and unit_of(first) != unit_of(second):
            continue
        defined = np.isfinite(after - before)
        means = [float(values[defined].mean()) if defined.any() else float("nan") for values in (before, after)]
        estimate = asdict(mean_by_patient(after - before, patients, seed))
        lines.append(
            {"metric": metric, "stages": name, "first": means[0], "second": means[1], "delta": estimate}
            | {"undefined": int((~defined).sum()), "p": signed_rank(after - before, patients)}
        )
    return lines


def _warnings(first: Side, second: Side, misplaced: int) -> list[str]:
    found = []
    for side in (first, second):
        if not side.manifests:
            found.append(
                f"the manifest of {side.name} is not known: whether both used the same split cannot be checked"
            )
    if first.manifests and second.manifests and first.manifests != second.manifests:
        hashes = " and ".join(", ".join(sorted(one[:12] for one in side.manifests)) for side in (first, second))
        found.append(f"different manifests ({hashes}): splits and masks may differ, so that the comparison is not fair")
    if misplaced:
        found.append(f"{misplaced} images are test images of one and training images of the other, and left out")
    return found


def _cells(line: Mapping[str, Any]) -> tuple[str, ...]:
    delta, p = line["delta"], line["p_holm"]
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
        "-" if p != p else "< 0.001" if p < 0.001 else f"{p:.3f}",
    )
