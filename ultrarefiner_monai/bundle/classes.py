"""Which images a network that tells classes apart can learn from and be scored on."""

from typing import Any

from ultrarefiner_monai.bundle.preflight import Plan
from ultrarefiner_monai.errors import DataError, one_line_errors, shown

SHOWN = 10  # ids


@one_line_errors
def of_classes(plan: Plan, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items, each of which is of one of the classes that the plan's network tells apart.

    Raises:
        SystemExit: items of other classes, or none at all of one of them; the first ids are told.
    """
    classes = plan.classes
    if not classes:
        return items
    other = [item for item in items if item["class"] not in classes]
    if other:
        found = sorted({item["class"] for item in other})
        raise DataError(
            f"{plan.dataset}: {len(other)} images of class {', '.join(found)}, expected {', '.join(classes)}: "
            f"{shown([item['id'] for item in other], SHOWN)}; use --classes {'+'.join(sorted({*classes, *found}))}, or "
            "--classes lesion"
        )
    absent = [name for name in classes if all(item["class"] != name for item in items)]
    if absent:
        raise DataError(f"{plan.dataset}: no image of class {', '.join(absent)} in this fold; use --classes lesion")
    return items
