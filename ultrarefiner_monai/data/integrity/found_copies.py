"""Copies among the images of a manifest, found by their content: where they lie, and what they are called."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ultrarefiner_monai.data.faults import Fault
from ultrarefiner_monai.data.manifests.items import Item, side_of
from ultrarefiner_monai.data.releases.copies.pairs import opposite
from ultrarefiner_monai.data.releases.copies.search import search_files
from ultrarefiner_monai.data.releases.roots import Root, resolve


@dataclass(frozen=True)
class FoundCopy:
    """Two items that show one scene.

    `sides` are their folds or "testing", `correlation` that of their speckle (-1 to 1); `transform` says what makes the
    second of the first, `kind` is one of `copies.pairs`. `str()` is the line a user reads.
    """

    ids: tuple[str, str]
    classes: tuple[str, str]
    sides: tuple[str, str]
    kind: str
    transform: str
    correlation: float

    @property
    def opposite(self) -> bool:
        """One is called benign, the other malignant."""
        return opposite(self.classes)

    @property
    def straddles(self) -> bool:
        """They lie in two folds, or in training and testing."""
        return self.sides[0] != self.sides[1]

    def __str__(self) -> str:
        line = f"{self.ids[0]} and {self.ids[1]}: {self.kind} ({self.transform}), correlation {self.correlation:.2f}"
        line += f", in {' and '.join(dict.fromkeys(self.sides))}"
        return f"{line}; opposite labels ({' and '.join(self.classes)})" if self.opposite else line

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "correlation": round(self.correlation, 4), "opposite": self.opposite}


def found_copies(items: Sequence[Item], root: Root, workers: int | None = None) -> tuple[FoundCopy, ...]:
    """Copies among the images of items, in order of the items; `DataError` where an image cannot be read.

    Args:
        items: of a manifest.
        root: where their files lie.
        workers: threads; None is one a core.
    """
    matches = search_files([resolve(root, item["image"]) for item in items], workers)
    pairs = ((items[match.first], items[match.second], match.alignment) for match in matches)
    return tuple(
        FoundCopy(
            (a["id"], b["id"]),
            (a["class"], b["class"]),
            (side_of(a), side_of(b)),
            alignment.kind,
            str(alignment),
            alignment.correlation,
        )
        for a, b, alignment in pairs
    )


def faults_of(copies: Sequence[FoundCopy]) -> list[Fault]:
    """A fault for each pair of copies on two sides of the split."""
    return [Fault("copy", "", "", str(copy)) for copy in copies if copy.straddles]
