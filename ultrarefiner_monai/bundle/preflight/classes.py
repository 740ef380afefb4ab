"""Which images a network that tells classes apart can learn from, and which it is scored on."""

from collections.abc import Mapping, Sequence
from typing import Any

from ultrarefiner_monai.bundle.preflight.plan import Plan
from ultrarefiner_monai.bundle.preflight.request import Request
from ultrarefiner_monai.data.manifests import Manifest
from ultrarefiner_monai.errors import DataError, one_line_errors, shown
from ultrarefiner_monai.systems.classes import LESION, told_apart

SHOWN = 10  # ids


@one_line_errors
def of_classes(plan: Plan, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items, which a training checks (`check_classes`); an evaluation scores those of other classes, too.

    Organs are told apart within an image, which has no class then.

    Raises:
        SystemExit: as `check_classes`.
    """
    if plan.request.mode == "train" and not plan.organs:
        check_classes(plan.dataset, plan.classes, items)
    return items


def check_labels(request: Request, manifest: Manifest) -> None:
    """Refuse labels of volumes that the data set does not have, and those that the system does not tell apart.

    Args:
        request: whose system has classes among its keys, or has not.
        manifest: of the data set.

    Raises:
        DataError: as `Manifest.organs`, or the system gives an image one class.
    """
    classes = told_apart(request.own.get(request.stage.classes, LESION)) if request.stage.classes else ()
    if manifest.organs(classes) and request.system.labels != "any":
        raise DataError(
            f"classes {'+'.join(classes)}: {request.system.title} gives an image one class, and slices of {manifest.name} show "
            "several organs; use --classes lesion, a manifest of one --organ, or RFMedSAM 2"
        )


def describe_others(classes: Sequence[str], items: Sequence[Mapping[str, Any]]) -> str:
    """What becomes of images that are scored and of none of the `classes` told apart; empty where there are none."""
    other = _others(classes, items) if classes else ()
    return f"{_told(classes, other)}: their masks are scored, and they count in no rate of the classes" if other else ""


def check_classes(dataset: str, classes: Sequence[str], items: Sequence[Mapping[str, Any]]) -> None:
    """Refuse images that a network which tells `classes` apart, if any, cannot learn from or be chosen by.

    Raises:
        DataError: images of other classes, or none at all of one of them; the first ids are told.
    """
    if not classes:
        return
    if other := _others(classes, items):
        names = shown([item["id"] for item in other], SHOWN)
        raise DataError(
            f"{dataset}: {_told(classes, other)}: {names}; use --classes lesion, or a manifest without them"
        )
    absent = [name for name in classes if all(item["class"] != name for item in items)]
    if absent:
        found = ", ".join(sorted({item["class"] for item in items}))
        raise DataError(
            f"{dataset}: no image of class {', '.join(absent)} among {len(items)} of a fold, all of class {found}; use "
            "--classes lesion, or a manifest with fewer folds"
        )


def _others(classes: Sequence[str], items: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [item for item in items if item["class"] not in classes]


def _told(classes: Sequence[str], other: Sequence[Mapping[str, Any]]) -> str:
    """How many images are of which other classes."""
    found = ", ".join(sorted({item["class"] for item in other}))
    return f"{len(other)} images of class {found}, expected {', '.join(classes)}"
