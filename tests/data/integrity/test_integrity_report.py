"""A report reads well, keeps all, and tells nothing of the machine."""

import json
import re
from pathlib import Path

from ultrarefiner_monai.data.faults import KINDS, Fault
from ultrarefiner_monai.data.integrity.report import Report

REPORT = Report(
    name="BUSI",
    sha256="ab",
    items=7,
    present=4,
    absent={"fold 1": 2, "test": 1},
    faults=(
        Fault("hash", "c", "c.png", "sha256 differs"),
        Fault("missing", "a", "a.png", "missing"),
        Fault("group", "", "", "group 'a' is in fold 0 and testing"),
        Fault("hash", "b", "b.png", "sha256 differs"),
    ),
)


def test_table() -> None:
    assert REPORT.table().splitlines() == [
        "group (1): a group or a patient is in two folds, or in training and testing",
        "  group 'a' is in fold 0 and testing",
        "missing (1): a listed file is not there",
        "  a: a.png: missing",
        "hash (2): the file's bytes were changed, and nothing above is wrong with it",
        "  c: c.png: sha256 differs",
        "  b: b.png: sha256 differs",
        "absent items: fold 1 2, test 1",
        "BUSI: 4 of 7 items present, 4 faults",
    ]


def test_a_clean_table_is_the_summary_alone() -> None:
    assert Report("BUS", "ab", 8, 8, {}, ()).table() == "BUS: 8 of 8 items present, 0 faults"
    assert Report("BUS", "ab", 8, 8, {}, REPORT.faults[:1]).summary().endswith("1 fault")


def test_document() -> None:
    document = json.loads(json.dumps(REPORT.document()))
    assert document == {
        "manifest": {"name": "BUSI", "sha256": "ab"},
        "items": 7,
        "present": 4,
        "absent": {"fold 1": 2, "test": 1},
        "counts": {"group": 1, "missing": 1, "hash": 2},
        "faults": [vars(fault) for fault in REPORT.faults],
    }
    assert document["faults"][1] == {"kind": "missing", "id": "a", "file": "a.png", "message": "missing"}


def test_every_kind_is_documented() -> None:
    page = (Path(__file__).parents[3] / "docs/reference/verify.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", page, re.M) == list(KINDS)
