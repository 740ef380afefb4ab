"""Which images refining made worse, and what they have in common."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from ultrarefiner_monai.handlers.comparison import Row
from ultrarefiner_monai.metrics.scores import CHANGE
from ultrarefiner_monai.reports.tables import SIZES, is_worse, place_of, size_of

POOR = 0.5  # coarse Dice: below it less than half of what both masks cover is shared, and prompts point elsewhere
NOTABLE = 1.5  # times as frequent as among all images
LEAST = 3  # images, fewer say nothing


def worse(rows: Sequence[Row], cuts: Sequence[float]) -> dict[str, Any]:
    """The images whose Dice fell by more than 0.02, worst first, and how often they have certain traits.

    Args:
        rows: of one phase with both stages.
        cuts: of `tables.size_cuts`.

    Returns:
        `limit`, number of `images` and of those they are `of`, `rows`, `traits` (`trait`, shares among the `worse` and
        among `all` images, number of `images`), and a `reading` in words.
    """
    found = sorted(filter(is_worse, rows), key=lambda row: row["refined_dice"] - row["coarse_dice"])
    traits = [
        {"trait": name, "images": sum(map(has, found)), "worse": _share(found, has), "all": _share(rows, has)}
        for name, has in _traits(cuts).items()
        if rows
    ]
    return {
        "limit": CHANGE,
        "images": len(found),
        "of": sum(math.isfinite(row["refined_dice"] - row["coarse_dice"]) for row in rows),
        "rows": [_entry(row, cuts) for row in found],
        "traits": traits,
        "reading": _reading(len(found), traits),
    }


def _traits(cuts: Sequence[float]) -> dict[str, Callable[[Row], bool]]:
    traits: dict[str, Callable[[Row], bool]] = {
        f"coarse Dice below {POOR}": lambda row: row["coarse_dice"] < POOR,
        "blank coarse mask (no prompt)": _is_blank,
        "coarse mask with a finding that is no lesion": lambda row: row.get("coarse_false_lesions", 0) > 0,
        "more than one lesion": lambda row: row.get("lesions", 0) > 1,
        "malignant": lambda row: row["class"] == "malignant",
    }
    return traits | {f"{size} lesion": _has_size(size, cuts) for size in SIZES if cuts}


def _has_size(size: str, cuts: Sequence[float]) -> Callable[[Row], bool]:
    return lambda row: "lesion_share" in row and size_of(row, cuts) == size


def _is_blank(row: Row) -> bool:
    """Precision is undefined for a blank mask and for no other."""
    return math.isnan(row.get("coarse_precision", 0.0))


def _share(rows: Sequence[Row], has: Callable[[Row], bool]) -> float | None:
    return sum(map(has, rows)) / len(rows) if rows else None


def _entry(row: Row, cuts: Sequence[float]) -> dict[str, Any]:
    names = ("dataset", "id", "patient", "class", "fold", "coarse_dice", "refined_dice", "lesion_share", "lesions")
    return {
        **{name: row.get(name) for name in names},
        "place": place_of(row),
        "delta_dice": row["refined_dice"] - row["coarse_dice"],
        "size": size_of(row, cuts) if cuts and "lesion_share" in row else None,
        "coarse_blank": _is_blank(row),
        "coarse_false_lesions": row.get("coarse_false_lesions"),
    }


def _reading(images: int, traits: Sequence[dict[str, Any]]) -> str:
    if not images:
        return "No image got worse by more than that."
    telling = [
        trait
        for trait in traits
        if trait["images"] >= LEAST and trait["worse"] >= NOTABLE * trait["all"] and trait["all"]
    ]
    if not telling:
        return "No trait looked at is markedly more frequent among them than among all images."
    said = ", ".join(
        f"{trait['trait']} ({100 * trait['worse']:.0f} % of them, {100 * trait['all']:.0f} % of all images)"
        for trait in sorted(telling, key=lambda trait: trait["all"] / trait["worse"])
    )
    return f"More frequent among them than among all images: {said}. This is a description, not a proof of a cause."
