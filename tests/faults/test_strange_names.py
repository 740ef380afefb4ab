"""Names that forge a line, open a page's script, or start a spreadsheet's formula come out of every writer escaped."""

import csv
import json
import logging
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ultrarefiner_monai.cross_validation.scores import markdown
from ultrarefiner_monai.data.manifests.duplicate_report import write_report
from ultrarefiner_monai.data.releases.copies.near_duplicates import duplicate_pairs
from ultrarefiner_monai.data.releases.records import Record, Source
from ultrarefiner_monai.deploy.model_card import _table
from ultrarefiner_monai.errors import DataError, raise_problems, shown
from ultrarefiner_monai.files import json_text
from ultrarefiner_monai.handlers.panels import file_name
from ultrarefiner_monai.metrics.scores_file import PER_IMAGE, read_rows, write_rows
from ultrarefiner_monai.reports.report import report
from ultrarefiner_monai.texts import csv_text, csv_value, lines_of, printable
from ultrarefiner_monai.tracking import Tracker

pytestmark = pytest.mark.fault(27)
FORGED = "a\n2026-01-01 00:00:00,000 ERROR root: forged"
SHOWN = {  # seen as they are
    "<script>alert(1)</script>": "script",
    '"><img src=x onerror=alert(1)>': "attribute",
    "'=1+1": "marked already",
    "a|b&c%d%s{{ 7 * 7 }}": "template and format",
    "x" * 300: "long",
    "Übersicht": "ordinary",
}
FORMULAS = ("=cmd|'/c calc'!A1", "+1", "-1+1", "-SUM(A1)", "\t=1", "\r=1", "\n=1", "'''-x")
UNSEEN = (FORGED, "\x1b[31mred\x1b[2J", "a\u202egnp.exe", "a\udcff", "a\0b", "a\u2028b", "\x9b31m", "a\rb")
NAMES = (*SHOWN, *FORMULAS, *UNSEEN)


class Page(HTMLParser):
    """What a browser would make of a page: its elements and all of its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.text += data


def check_page(path: Path, names) -> None:
    raw = path.read_text(encoding="utf-8")
    page = Page(raw)
    assert not page.tags & {"script"} and "onerror" not in page.attributes
    assert all(printable(name) in page.text for name in names)
    assert all(letter.isprintable() or letter == "\n" for letter in raw)


@pytest.mark.parametrize("name", NAMES)
def test_printable(name):
    text = printable(name)
    assert text.isprintable() and (text == name) is (name.isprintable())
    assert printable(text) == text


def test_escapes_by_hand():
    assert printable("a\nb\x1b\u202e\udcff\x9b") == "a\\nb\\x1b\\u202e\\udcff\\x9b"


@pytest.mark.parametrize("name", NAMES)
def test_errors(name):
    with pytest.raises(DataError) as caught:
        raise_problems(name, [name, name])
    assert str(caught.value).isprintable() and caught.value.problems == (name, name)
    assert shown([name], 1).isprintable()


def test_an_error_of_any_length_keeps_its_beginning_and_its_next_step():
    text = str(DataError(f"file {'x' * 100_000}; do this"))
    assert len(text) == 2000 and text.startswith("file xxx") and text.endswith("x; do this")


def test_logs(tmp_path):
    """One line a record, in whatever format a handler writes; what the package itself lays out keeps its lines."""
    stream, logger = StringIO(), logging.getLogger("ultrarefiner_monai.some.module")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger.addHandler(handler)
    try:
        for name in NAMES:
            logger.warning("%s of %d: %s, %.1f", name, 3, Path(name.replace("\0", "")), 0.5)
            logger.warning("%s", ValueError(name))
        logger.warning("a table\nof two lines")
    finally:
        logger.removeHandler(handler)
    lines = stream.getvalue().split("\n")[:-1]
    assert len(lines) == 2 * len(NAMES) + 2 and all(map(str.isprintable, lines))
    assert not any(line.startswith("2026-01-01 00:00:00,000 ERROR root") for line in lines)


def test_a_table_for_spreadsheets_and_back(tmp_path):
    names = [name for name in NAMES if "\udcff" not in name]
    rows = [{"id": n, "image": n, "patient": n, "class": n, "fold": 1, "coarse_dice": -0.5} for n in names]
    write_rows(tmp_path / PER_IMAGE, rows)
    with (tmp_path / PER_IMAGE).open(newline="", encoding="utf-8") as file:
        cells = list(csv.reader(file))[1:]
    assert not [cell for row in cells for cell in row[:4] if re.match(r"[=+\-@\t\r\n]", cell)]
    assert {row[5] for row in cells} == {"-0.5"} and {row[4] for row in cells} == {"1"}
    assert read_rows(tmp_path / PER_IMAGE) == rows


def test_marks_by_hand():
    assert (
        csv_text([{"a": "=1", "b": -1.5}, {"a": "'=1", "b": "it's"}], ["a", "b"]) == "a,b\r\n'=1,-1.5\r\n''=1,it's\r\n"
    )
    assert [csv_value(text) for text in ("'=1", "''=1", "it's", "'tis", "-1.5", "")] == [
        "=1",
        "'=1",
        "it's",
        "'tis",
        "-1.5",
        "",
    ]
    assert csv_text([{"a": "\udcff"}], ["a"]) == "a\r\n\\udcff\r\n"


@pytest.mark.parametrize("name", NAMES)
def test_json(name):
    text = json_text({name: name})
    assert json.loads(text.encode()) == {name: name}


def test_markdown():
    table = _table({name: [name, 1] for name in NAMES})
    lines = table.split("\n")
    assert len(lines) == len(NAMES) + 2
    assert all(len(re.split(r"(?<!\\)\|", line)) == 4 and "<" not in line and line.isprintable() for line in lines)
    told = markdown([{"phase": name, "fold": name, "images": 1} for name in NAMES])
    assert len(told.split("\n")) == len(NAMES) + 2 and "<script" not in told


def test_terminals():
    assert all(map(str.isprintable, lines_of(NAMES).split("\n"))) and lines_of(NAMES).count("\n") == len(NAMES) - 1


def test_contact_sheets(tmp_path):
    facts = {"size": (8, 8), "mask_sizes": ((8, 8),), "lesion_pixels": 5, "phash16": "00" * 32}
    records = [
        Record(Source(name, f"{n}.png", ("m.png",), "benign", name), sha256=f"{n}", mask_sha256=("0",), **facts)
        for n, name in enumerate(NAMES)
    ]
    write_report(duplicate_pairs(records), None, tmp_path)
    check_page(tmp_path / "duplicates.html", NAMES)
    told = json.loads((tmp_path / "duplicates.json").read_bytes())["pairs"]
    assert {pair[which] for pair in told for which in ("first", "second")} == set(NAMES)


def test_reports(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "reports")
    import made_results

    names = [*SHOWN, *FORMULAS[:4]][:10]
    shifts = dict(zip([*names, "t1", "u1"], made_results.SHIFTS.values(), strict=True))
    monkeypatch.setattr(made_results, "SHIFTS", shifts)
    monkeypatch.setattr(made_results, "PATIENTS", {name: f"={number // 2}" for number, name in enumerate(shifts)})
    study = made_results.MadeResults(tmp_path, ("phase1",))
    page = Page(report(study.folder, tmp_path / "r.html").read_text(encoding="utf-8"))
    assert "script" not in page.tags and "onerror" not in page.attributes
    assert any(name in page.text for name in names)
    told = report(study.folder, tmp_path / "r.csv", "csv")
    assert {row["id"] for row in read_rows(told)} == set(shifts) | set(names)
    with told.open(newline="", encoding="utf-8") as file:
        patients = {row["patient"] for row in csv.DictReader(file)}
    assert patients == {f"'={number}" for number in range(6)}


def test_mlflow(store, tmp_path):
    from mlflow.tracking import MlflowClient

    named = {f"name{number}": name for number, name in enumerate(NAMES)}
    tracker = Tracker(
        uri=store, experiment="PHANTOM", run_name="run", output_dir=tmp_path / "run", tags=named, params=named
    )
    tracker.start()
    tracker.finish()
    run = MlflowClient(store).get_run(tracker.run_id)
    assert run.info.status == "FINISHED"
    for number, name in enumerate(NAMES):
        assert run.data.params[f"name{number}"] == run.data.tags[f"name{number}"] == printable(name)


@pytest.mark.parametrize("name", [*NAMES, "../" * 40 + "etc/passwd", "a/" * 300 + "b"])
def test_file_names(name):
    assert re.fullmatch(r"[0-9A-Za-z._-]{1,204}", file_name(name))


def test_predictions(make_model, tmp_path):
    """Files that bear the names, through the real command: their masks, the table, the report and the terminal."""
    model, _ = make_model("phase1")
    folder = tmp_path / "in"
    folder.mkdir()
    names = [name.replace("/", "_")[:200] for name in NAMES if "\0" not in name] + ["y" * 250]
    for name in names:
        Image.fromarray(np.full((20, 30), 99, np.uint8)).save(tmp_path / "a.png")
        (tmp_path / "a.png").replace(folder / f"{name}.png")
    command = [sys.executable, "-m", "ultrarefiner_monai", "predict", str(folder), "--model", str(model)]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "out")], capture_output=True, env=os.environ | {"LC_ALL": "C"}
    )
    assert done.returncode == 1 and b"Traceback" not in done.stderr  # 1: of the name that is too long
    lines = done.stdout.decode().split("\n")[:-1]
    assert all(map(str.isprintable, lines)) and not any(line.startswith("2026-01-01") for line in lines)
    assert sum(line.startswith("skipped: ") and "230 bytes" in line for line in lines) == 1
    masks = {mask.stem for mask in (tmp_path / "out/masks").iterdir()}
    assert masks == set(names) - {"y" * 250}
    with (tmp_path / "out/measures.csv").open(newline="", encoding="utf-8") as file:
        told = [csv_value(row["mask"]) for row in csv.DictReader(file)]
    assert sorted(told) == sorted(f"masks/{name}.png".replace("\udcff", "\\udcff") for name in masks)
    document = json.loads((tmp_path / "out/report.json").read_bytes())
    assert {Path(row["file"]).stem for row in document["pictures"]} == masks
