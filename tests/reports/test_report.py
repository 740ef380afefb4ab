"""The files of a report; the page as a browser sees it."""

import csv
import json
import re
from base64 import b64decode
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from made_studies import EVIL, SHIFTS, dice

from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.reports.page import interval, number, p_value, percent
from ultrarefiner_monai.reports.report import report
from ultrarefiner_monai.reports.tables import metric_of

SECTIONS = [
    "summary", "warnings", "run", "results", "folds", "groups", "calibration", "training", "cases", "worse", "normals", "methods",
]  # fmt: skip
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Elements with their attributes, text by section, and every tag that is not closed as it was opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.raw = text
        self.elements: list[tuple[str, dict]] = []
        self.text: dict[str, str] = {}
        self.faults: list[str] = []
        self._open: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        self.faults += [tag for tag, _ in self._open]

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append((tag, dict(attributes).get("id") if tag == "section" else None))

    def handle_endtag(self, tag):
        if not self._open or self._open.pop()[0] != tag:
            self.faults.append(tag)

    def handle_data(self, data):
        section = next((name for _, name in reversed(self._open) if name), "")
        self.text[section] = self.text.get(section, "") + " " + data


def made(study, folder: Path, **options) -> Page:
    return Page(report(study.folder, folder / "r.html", **options).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page(made_study, tmp_path_factory) -> Page:
    return made(made_study, tmp_path_factory.mktemp("page"))


def test_the_page_is_well_formed_and_complete(page):
    assert page.faults == []
    identities = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert identities == SECTIONS
    assert [a["href"] for tag, a in page.elements if tag == "a"][: len(SECTIONS)] == [f"#{name}" for name in SECTIONS]
    assert any(tag == "meta" and a.get("name") == "viewport" for tag, a in page.elements)


def test_the_page_loads_nothing_and_runs_nothing(page):
    tags = Counter(tag for tag, _ in page.elements)
    assert not tags.keys() & {"script", "link", "iframe", "object", "embed", "base", "form", "svg", "video"}
    for tag, attributes in page.elements:
        assert not any(name.startswith("on") for name in attributes), tag
        assert attributes.get("src", "data:image/").startswith("data:image/")
        assert attributes.get("href", "#").startswith("#")
        assert not attributes.keys() & {"srcset", "background", "action"}
    style = re.search(r"<style>(.*?)</style>", page.raw, re.S)[1]
    assert "url(" not in style and "@import" not in style and "@media print" in style


def test_charts_are_drawings_that_load_nothing(page):
    charts = [a for tag, a in page.elements if tag == "img" and a["src"].startswith("data:image/svg+xml")]
    assert len(charts) == 2 + 2 + 4 + 6  # scatters, forests, reliability, learning curves
    for chart in charts:
        assert chart["alt"]
        drawing = ElementTree.fromstring(b64decode(chart["src"].split(",")[1]))
        links = [v for element in drawing.iter() for k, v in element.attrib.items() if k.endswith("href")]
        assert all(link.startswith("#") for link in links)
        assert not [element for element in drawing.iter() if element.tag.endswith(("script", "image"))]


def test_names_are_escaped(page):
    assert EVIL in page.text["worse"] and EVIL in page.text["cases"]
    assert "<script" not in page.raw and "&lt;script&gt;" in page.raw


def test_numbers_are_those_of_the_statistics(page, made_study, tmp_path):
    document = json.loads(report(made_study.folder, tmp_path / "r.json", "json").read_text())
    words = " ".join(page.text["results"].split())
    for part in document["results"]:
        assert f"{part['phase']}, {part['place']}: {part['images']} images of {part['patients']} patients" in words
        for line in part["metrics"]:
            for stage in ("coarse", "refined", "delta"):
                signed = stage == "delta"
                estimate = line[stage]
                shown = (
                    f"{number(estimate['value'], line['metric'], signed)} {interval(estimate, line['metric'], signed)}"
                )
                assert shown in words, (line["metric"], stage)
            assert p_value(line.get("p_holm")) in words
    test = metric_of(document["results"][-1], "dice")
    assert test["refined"]["value"] == pytest.approx(sum(dice(SHIFTS[n][1]) for n in ("t1", "t2", "u1", "u2")) / 4)
    assert f"difference {number(test['delta']['value'], '', True)}" in " ".join(page.text["summary"].split())
    assert percent(document["worse"]["traits"][0]["all"]) in page.text["worse"]


def test_an_incomplete_study_says_so_in_each_section(make_study, tmp_path):
    study = make_study("phase1")
    for name in ("test/predictions.json", "fold0/metrics.jsonl", "fold1/metrics.jsonl"):
        (study.folder / "phase1" / name).unlink()
    found = made(study, tmp_path)
    assert found.faults == []
    said = {
        "summary": "There are no scores of test images.",
        "warnings": "phase2 has not been run",
        "results": "There is one phase only to report on.",
        "training": "No run has logged an epoch.",
        "worse": "Nothing was refined yet.",
        "normals": "has none, so nothing is known about false alarms",
    }
    for section, text in said.items():
        assert text in " ".join(found.text[section].split()), section


def test_a_study_without_its_images(make_study, tmp_path):
    study = make_study()
    report(study.folder, study.folder / "per_image.csv", "csv")
    study.root.rename(tmp_path / "elsewhere")
    found = made(study, tmp_path)
    assert "Not available" in found.text["calibration"] and "Not available" in found.text["cases"]
    assert "without calibration and pictures" in found.text["warnings"]
    path = report(study.folder, tmp_path / "r.csv", "csv", data_root=str(tmp_path / "elsewhere"))
    assert path.read_text() == (study.folder / "per_image.csv").read_text()


def test_csv_has_a_row_an_image_and_phase(made_study, tmp_path):
    path = report(made_study.folder, tmp_path / "rows.csv", format="csv")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(SHIFTS) and {row["id"] for row in rows} == set(SHIFTS)
    assert float(rows[0]["refined_dice"]) == dice(SHIFTS["a1"][1])


def test_the_same_study_gives_the_same_numbers(made_study, tmp_path):
    first, second = (json.loads(report(made_study.folder, tmp_path / f"{i}.json", "json").read_text()) for i in (1, 2))
    assert first | {"made": ""} == second | {"made": ""}
    assert (
        first["results"]
        != json.loads(report(made_study.folder, tmp_path / "3.json", "json", seed=1).read_text())["results"]
    )


def test_mistakes_are_told_in_one_line(made_study, tmp_path):
    with pytest.raises(DataError, match="report format 'pdf': expected one of html, json, csv"):
        report(made_study.folder, tmp_path / "r.pdf", format="pdf")
    with pytest.raises(DataError, match="cannot be written"):
        report(made_study.folder, tmp_path, format="csv")
    with pytest.raises(DataError, match="no such folder"):
        report(tmp_path / "none")


def test_numbers_for_people():
    assert number(0.12345) == "0.1235" and number(-3.456, "hd95", signed=True) == "−3.46" and number(None) == "–"
    assert (
        interval({"low": 0.1, "high": 0.2}) == "0.1000 to 0.2000"
        and interval({"low": float("nan"), "high": 1.0}) == "–"
    )
    assert [p_value(p) for p in (0.0004, 0.0421, float("nan"))] == ["< 0.001", "0.042", "–"]
    assert percent(0.0812) == "8.1\N{NO-BREAK SPACE}%" and percent(None) == "–"
