"""The outcome of a verification, as a table to read and as a document to keep."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from ultrarefiner_monai.data.faults import KINDS, Fault
from ultrarefiner_monai.data.integrity.found_copies import FoundCopy
from ultrarefiner_monai.texts import lines_of


@dataclass(frozen=True)
class Report:
    """What `verify` found.

    Attributes:
        name: the data set.
        sha256: hash of the manifest file.
        items: number of entries the manifest has in its lists.
        present: how many of them are well formed and have all their files.
        absent: how many lack a file, by place ("fold 0", ..., "test", "normal"; only places with absences).
        copies: pairs of items that a search found to show one scene; None where it was not searched.
        faults: every fault once, those of the manifest first; absent files only where they are not allowed.
    """

    name: str
    sha256: str
    items: int
    present: int
    absent: dict[str, int]
    faults: tuple[Fault, ...]
    copies: tuple[FoundCopy, ...] | None = None

    def counts(self) -> dict[str, int]:
        """Number of faults of each kind that occurs, in the order of `faults.KINDS`."""
        found = Counter(fault.kind for fault in self.faults)
        return {kind: found[kind] for kind in KINDS if found[kind]}

    def summary(self) -> str:
        """The last line of the table."""
        count = len(self.faults)
        return f"{self.name}: {self.present} of {self.items} items present, {count} fault{'s' * (count != 1)}"

    def table(self) -> str:
        """All faults in readable lines, grouped by kind; the last line is the summary."""
        lines = []
        for kind, count in self.counts().items():
            lines.append(f"{kind} ({count}): {KINDS[kind]}")
            lines += [f"  {fault}" for fault in self.faults if fault.kind == kind]
        if self.copies is not None:
            opposite = sum(copy.opposite for copy in self.copies)
            lines.append(f"copies found by content: {len(self.copies)} pairs, {opposite} with opposite labels")
            lines += [f"  {copy}" for copy in self.copies if not copy.straddles]
        if self.absent:
            lines.append("absent items: " + ", ".join(f"{place} {count}" for place, count in self.absent.items()))
        return lines_of([*lines, self.summary()])

    def document(self) -> dict[str, Any]:
        """The report for JSON; files are relative to the data set's root, so that it tells nothing of the machine."""
        document = {
            "manifest": {"name": self.name, "sha256": self.sha256},
            "items": self.items,
            "present": self.present,
            "absent": self.absent,
            "counts": self.counts(),
            "faults": [vars(fault) for fault in self.faults],
        }
        if self.copies is not None:
            document["copies"] = [copy.document() for copy in self.copies]
        return document
