"""Copies that are known of a release: a table beside its reader, which files and inventories alike are grouped by.

Perceptual hashes tell these copies not, and searching their content takes the files; a table takes neither.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from ultrarefiner_monai.data.datasets import is_own, parts_of
from ultrarefiner_monai.data.releases.copies.pairs import TABLE, CopyPair
from ultrarefiner_monai.data.releases.readers import reader
from ultrarefiner_monai.data.releases.readers.tables import read_lines
from ultrarefiner_monai.data.releases.records import Record

COLUMNS = ("first", "second", "kind", "correlation", "scale", "found_by", "source")


def known_pairs(name: str, records: Sequence[Record]) -> list[CopyPair]:
    """Known copies among the records of the data set `name`, single or combined, in the order of the tables."""
    by_id = {record.source.id: record for record in records}
    return [
        CopyPair(by_id[first], by_id[second], kind, TABLE, correlation, f"scale {scale:.2f}")
        for part in parts_of(name)
        if not is_own(part)
        for first, second, kind, correlation, scale in _table(part, f"{part}/" if "+" in name else "")
        if first in by_id and second in by_id
    ]


def _table(part: str, prefix: str) -> Iterator[tuple[str, str, str, float, float]]:
    """Ids, kind, correlation and scale of each pair that the reader of a single data set knows."""
    module = reader(part)
    if table := getattr(module, "COPIES", {}).get(part):
        header, *lines = read_lines(Path(str(module.__file__)).with_name(table))
        for line in lines:
            row = dict(zip(header, line, strict=True))
            yield (
                prefix + row["first"],
                prefix + row["second"],
                row["kind"],
                float(row["correlation"]),
                float(row["scale"]),
            )
