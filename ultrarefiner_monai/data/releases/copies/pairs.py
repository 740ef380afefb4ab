"""Two images of a release that show one scene, whatever told so: a hash, a table, their names or their content."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

from ultrarefiner_monai.data.releases.records import Record

SAME_FRAME, NEIGHBOURS = "same frame", "neighbouring frames"  # kinds of `CopyPair`
ONE_SCENE = "same frame, much changed, or a neighbouring one"  # what the correlation cannot tell apart
NAMED = "named like a changed copy"
TABLE, NAMES, CONTENT = "table", "names", "content"  # what told of a `CopyPair`


@dataclass(frozen=True)
class ImagePair(ABC):
    """Two records that must stay on one side of every split."""

    first: Record
    second: Record

    @property
    def ids(self) -> tuple[str, str]:
        """Ids of both."""
        return self.first.source.id, self.second.source.id

    @property
    def labels(self) -> tuple[str, str]:
        """Classes of both."""
        return self.first.source.label, self.second.source.label

    @property
    def patients(self) -> tuple[str, str]:
        """Patients of both, "" where the release tells none."""
        return self.first.source.patient, self.second.source.patient

    @property
    def opposite(self) -> bool:
        """One is called benign, the other malignant."""
        return opposite(self.labels)

    @property
    @abstractmethod
    def duplicate(self) -> bool:
        """One of both is as good as both."""

    @property
    def same_patient(self) -> bool | None:
        """Whether both carry one patient code; None where the release tells none."""
        return self.patients[0] == self.patients[1] if all(self.patients) else None


@dataclass(frozen=True)
class CopyPair(ImagePair):
    """Copies that perceptual hashes do not tell: another crop, scale or rotation of a frame, or its neighbour.

    `kind` is `SAME_FRAME`, `NEIGHBOURS`, `ONE_SCENE` or `NAMED`; `found_by` one of `TABLE`, `NAMES`, `CONTENT`. `correlation` is
    that of the speckle where they overlap (-1 to 1), None where no pixel was compared; `transform` says in words what
    makes the second of the first, "" where that is not known.
    """

    kind: str
    found_by: str
    correlation: float | None = None
    transform: str = ""

    @property
    def duplicate(self) -> bool:
        """One of both is as good as both: they show the same frame."""
        return self.kind == SAME_FRAME


def opposite(labels: Iterable[str]) -> bool:
    """Whether both benign and malignant are among the classes."""
    return {"benign", "malignant"} <= set(labels)
