"""The files of a report; the page as a browser sees it."""

import csv
import json
import math
import re
from base64 import b64decode
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from made_results import EVIL, ONE, SHIFTS, THREE, dice

from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.files import json_text
from ultrarefiner_monai.metrics.scores import summarise_rows
from ultrarefiner_monai.metrics.scores_file import read_rows, write_rows
from ultrarefiner_monai.reports.page import interval, label, number, percent
from ultrarefiner_monai.reports.report import make_document, report
from ultrarefiner_monai.reports.result_files import read_results
from ultrarefiner_monai.reports.result_scores import score_results
from ultrarefiner_monai.reports.statistics import TOO_FEW, holm, p_text, signed_rank
from ultrarefiner_monai.reports.tables import PLACES, class_table, metric_of

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


def made(cv, folder: Path, **options) -> Page:
    return Page(report(cv.folder, folder / "r.html", **options).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page(made_results_folder, tmp_path_factory) -> Page:
    return made(made_results_folder, tmp_path_factory.mktemp("page"))


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


def test_numbers_are_those_of_the_statistics(page, made_results_folder, tmp_path):
    document = json.loads(report(made_results_folder.folder, tmp_path / "r.json", "json").read_text())
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
            assert p_text(line, "–") in words
            assert "p" not in line or p_text(line) == TOO_FEW  # of 4 patients, whatever they show
    test = metric_of(document["results"][-1], "dice")
    assert test["refined"]["value"] == pytest.approx(sum(dice(SHIFTS[n][1]) for n in ("t1", "t2", "u1", "u2")) / 4)
    assert f"difference {number(test['delta']['value'], '', True)}" in " ".join(page.text["summary"].split())
    assert percent(document["worse"]["traits"][0]["all"]) in page.text["worse"]


@pytest.mark.parametrize("system", [ONE, THREE])
def test_a_study_of_any_number_of_outputs(study_of, tmp_path, system):
    found = made(study_of(system), tmp_path)
    assert found.faults == []
    words = {section: " ".join(text.split()) for section, text in found.text.items()}
    everything = " ".join(words.values())
    assert "coarse" not in everything and "refined" not in everything and "phase" not in words["training"]
    assert not {"phase 2", "phase 3"} & set(re.findall(r"phase \d", everything))
    document = json.loads(report(tmp_path / system.name / "study", tmp_path / "r.json", "json").read_text())
    test = metric_of(document["results"][-1], "dice")  # shifts of the first (3, 1, 2, 4), of the last (1, 2, 1, 3)
    charts = Counter(a["src"][:18] for tag, a in found.elements if tag == "img")["data:image/svg+xml"]
    if system is ONE:
        assert test["mask"]["value"] == pytest.approx(0.75) and "delta" not in test and document["worse"] is None
        assert "test: mask Dice 0.7500" in words["summary"] and "Mask Dice: highest" in words["cases"]
        assert [line["second"] for line in document["between"]] == ["distill mask"] * 2
        assert charts == 4 + 2 * 2  # reliability, learning curves
    else:
        assert [test[name]["value"] for name in ("unet", "step1", "step2")] == pytest.approx([0.75, 0.7, 0.825])
        assert test["delta"]["value"] == pytest.approx(0.075)
        assert "mean Dice 0.7500 unet, 0.7000 step1, 0.8250 step2; difference +0.0750" in words["summary"]
        assert "metric unet step1 step2 step2 − unet" in words["results"]
        assert "unet, all pixels step1, all pixels step2, all pixels" in words["calibration"]
        assert "Dice unet 0.7000, step1 0.7000, step2 0.9000 (+0.2000)" in words["cases"]
        assert charts == 2 + 2 + 4 + 2  # scatters, forests, reliability, learning curves


def test_a_study_without_classes_has_no_part_of_them(page, made_results_folder, tmp_path):
    document = json.loads(report(made_results_folder.folder, tmp_path / "r.json", "json").read_text())
    assert "classes" not in document and not any("classes" in run for run in document["study"]["runs"])
    assert "Classes" not in page.text[""] and "found:" not in page.text["cases"]


def test_a_study_that_tells_classes_apart(class_cv, tmp_path):
    found = Page(report(class_cv.out, tmp_path / "r.html").read_text(encoding="utf-8"))
    document = json.loads(report(class_cv.out, tmp_path / "r.json", "json").read_text())
    assert found.faults == []
    identities = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert identities == [*SECTIONS[:5], "classes", *SECTIONS[5:]]
    assert [a["href"] for tag, a in found.elements if tag == "a"][: len(identities)] == [
        f"#{name}" for name in identities
    ]
    words = {section: " ".join(text.split()) for section, text in found.text.items()}
    rows = read_rows(class_cv.out / "per_image.csv")
    tables = {part["place"]: part for part in document["classes"]}
    assert list(tables) == ["out-of-fold", "test"]
    for place, part in tables.items():
        chosen = [row for row in rows if (row["fold"] == "test") == (place == "test")]
        summary = summarise_rows(chosen)
        for line in part["rates"]:
            expected = summary[f"mask_{line['metric']}"]
            assert line["value"] == (None if math.isnan(expected) else pytest.approx(expected))
            assert (
                f"{label(line['metric'])} {number(line['value'])} {interval(line)} {len(chosen)} / " in words["classes"]
            )
        for line in part["dice"]:
            assert f"Dice of {line['class']} {number(summary['mask_dice_' + line['class']])}" in words["classes"]
        for line in part["confusion"]:
            counts = [
                sum((row["class"], row["mask_class"]) == (line["true"], name) for row in chosen)
                for name in part["classes"]
            ]
            assert [*line["found"].values()] == counts and f"{line['true']} {counts[0]} {counts[1]}" in words["classes"]
        assert f"{percent(part['prior']['share'])} for always saying {part['prior']['class']}" in found.text["classes"]
        assert (
            f"Classes, {place} , {len(chosen)} images: accuracy {number(part['rates'][0]['value'])}" in words["summary"]
        )
    assert "AUC – – 2 / 2 not defined: not every class has an image" in words["classes"]  # both test images are benign
    assert "fold images accuracy balanced accuracy AUC Dice of benign" in words["classes"]
    wrong = [row for row in rows if row["mask_class"] != row["class"]]
    surest = max(wrong, key=lambda row: row[f"mask_probability_{row['mask_class']}"])
    sure = 100 * surest[f"mask_probability_{surest['mask_class']}"]
    assert f"{surest['class']} (found: {surest['mask_class']}, {sure:.0f} %)" in words["cases"]
    assert "Class: wrong, and the surest of it" in words["cases"]
    terms = "the pixel, the region, the distribution, the class and the transfer loss"
    weighing = f"{terms} by exp(−s) / 2 with a learned s each (Liebel"
    assert weighing in words["training"]
    assert document["study"]["runs"][0]["classes"].keys() >= {"mask_accuracy", "mask_auc", "mask_dice_benign"}


def test_classes_are_those_of_the_table_where_the_images_are_gone(class_cv):
    files = read_results(class_cv.out)
    there, gone = (score_results(replace(files, root=root)) for root in (files.root, None))
    tables = [[class_table(scores.of("automedsam", place)) for place in PLACES] for scores in (there, gone)]
    assert json_text(tables[0]) == json_text(tables[1])  # NaN equals nothing


def test_learned_weights_are_drawn_and_told(make_results, tmp_path):
    cv = make_results()
    numbers = {"weight_coarse": 0.5, "weight_refined": 0.4}
    lines = [json.dumps({"step": step, **numbers}) for step in (1, 2)]
    (cv.folder / "phase3/fold0/metrics.jsonl").write_text("\n".join(lines) + "\n")
    found = made(cv, tmp_path)
    assert "Phase 3 weighs the coarse and the refined loss by exp(−s) / 2" in " ".join(found.text["training"].split())
    assert any(a.get("alt") == "learned weight of each loss" for _, a in found.elements)


def test_what_was_logged_once_is_told_and_not_drawn(make_results, tmp_path):
    cv = make_results()
    numbers = {"step": 1, "train_loss": 0.25, "val_coarse_dice": 0.5, "val_refined_dice": 0.75, "weight_coarse": 0.125}
    for fold in (0, 1):
        (cv.folder / f"phase3/fold{fold}/metrics.jsonl").write_text(json.dumps(numbers) + "\n")
    found = made(cv, tmp_path)
    words = " ".join(found.text["training"].split())
    assert "phase3: training loss, logged once: fold 0 loss 0.2500, fold 1 loss 0.2500." in words
    assert "phase3: validation Dice, logged once: fold 0 coarse 0.5000, fold 0 refined 0.7500, fold 1 coarse" in words
    assert "learned weight of each loss, logged once: fold 0 coarse 0.1250, fold 1 coarse 0.1250." in words
    drawn = [a["alt"] for tag, a in found.elements if tag == "img"]
    assert "phase2: training loss" in drawn and not {"phase3: training loss", "learned weight of each loss"} & {*drawn}


def test_a_single_image_is_no_chart(make_results, tmp_path):
    cv = make_results("phase2")
    cv.write_maps("phase2", None, items=cv.of(None)[:1])
    cv.write_maps("phase2", 0, items=cv.of(0)[:2])
    found = made(cv, tmp_path)
    drawn = [a["alt"] for tag, a in found.elements if tag == "img"]
    assert "out-of-fold: refined against coarse Dice, one point an image" in drawn
    assert not any(title.startswith("test: refined against") for title in drawn)


def test_an_incomplete_study_says_so_in_each_section(make_results, tmp_path):
    cv = make_results("phase1")
    for name in ("test/predictions.json", "fold0/metrics.jsonl", "fold1/metrics.jsonl"):
        (cv.folder / "phase1" / name).unlink()
    found = made(cv, tmp_path)
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


def test_a_study_without_its_images(make_results, tmp_path):
    cv = make_results()
    report(cv.folder, cv.folder / "per_image.csv", "csv")
    cv.root.rename(tmp_path / "elsewhere")
    found = made(cv, tmp_path)
    assert "Not available" in found.text["calibration"] and "Not available" in found.text["cases"]
    assert "without calibration and pictures" in found.text["warnings"]
    path = report(cv.folder, tmp_path / "r.csv", "csv", data_root=str(tmp_path / "elsewhere"))
    assert path.read_text() == (cv.folder / "per_image.csv").read_text()


def test_csv_has_a_row_an_image_and_phase(made_results_folder, tmp_path):
    path = report(made_results_folder.folder, tmp_path / "rows.csv", format="csv")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(SHIFTS) and {row["id"] for row in rows} == set(SHIFTS)
    assert float(rows[0]["refined_dice"]) == dice(SHIFTS["a1"][1])


def test_the_same_study_gives_the_same_numbers(made_results_folder, tmp_path):
    first, second = (
        json.loads(report(made_results_folder.folder, tmp_path / f"{i}.json", "json").read_text()) for i in (1, 2)
    )
    assert first | {"made": ""} == second | {"made": ""}
    assert (
        first["results"]
        != json.loads(report(made_results_folder.folder, tmp_path / "3.json", "json", seed=1).read_text())["results"]
    )


def test_mistakes_are_told_in_one_line(made_results_folder, tmp_path):
    with pytest.raises(DataError, match="report format 'pdf': expected one of html, json, csv"):
        report(made_results_folder.folder, tmp_path / "r.pdf", format="pdf")
    with pytest.raises(DataError, match="cannot be written"):
        report(made_results_folder.folder, tmp_path, format="csv")
    with pytest.raises(DataError, match="no such folder"):
        report(tmp_path / "none")


def test_numbers_for_people():
    assert number(0.12345) == "0.1235" and number(-3.456, "hd95", signed=True) == "−3.46" and number(None) == "–"
    assert (
        interval({"low": 0.1, "high": 0.2}) == "0.1000 to 0.2000"
        and interval({"low": float("nan"), "high": 1.0}) == "–"
    )
    lines = [{"p_holm": p, "p_holm_least": 0.0001} for p in (0.0004, 0.0421, float("nan"))]
    assert [p_text(line, "–") for line in lines] == ["< 0.001", "0.042", "–"] and p_text({}) == "-"
    assert percent(0.0812) == "8.1\N{NO-BREAK SPACE}%" and percent(None) == "–"


@pytest.fixture(scope="module")
def document(made_results_folder):
    files = read_results(made_results_folder.folder)
    return make_document(files, score_results(files))


def test_results_by_hand(document):
    found = {(part["phase"], part["place"]): part for part in document["results"]}
    assert list(found) == [(phase, place) for phase in ("phase2", "phase3") for place in ("out-of-fold", "test")]
    test = metric_of(found["phase3", "test"], "dice")  # shifts (3, 1), (1, 2), (2, 1), (4, 3)
    assert test["coarse"]["value"] == pytest.approx(0.75) and test["refined"]["value"] == pytest.approx(0.825)
    assert (test["delta"]["images"], test["delta"]["patients"]) == (4, 2)
    assert found["phase3", "test"]["changes"] == {"worse_share": 0.25, "better_share": 0.75}


def test_p_values_are_corrected_over_all_tests_of_the_report(document):
    tested = [line for part in document["results"] for line in part["metrics"] if "p" in line] + document["between"]
    assert document["method"]["tests"] == sum(not math.isnan(line["p"]) for line in tested) == 4 * 9 + 6
    assert [line["p_holm"] for line in tested] == pytest.approx(holm([line["p"] for line in tested]))
    deltas = [(SHIFTS[name][0] - SHIFTS[name][1]) / 10 for name in list(SHIFTS)[:8]]
    assert tested[0]["p"] == pytest.approx(signed_rank(deltas, list("aabbccdd")))


def test_between_phases(document):
    lines = {(line["second"], line["first"], line["place"]): line["delta"]["value"] for line in document["between"]}
    assert lines["phase3 refined", "phase2 refined", "test"] == 0
    assert lines["phase3 refined", "phase2 coarse", "test"] == pytest.approx(0.075)


def test_groups_calibration_and_worse(document):
    names = {(group["by"], group["name"]) for group in document["subgroups"]}
    assert names == {("class", "benign"), ("class", "malignant"), ("lesion size", "small")}  # all lesions are alike
    assert len(document["calibration"]) == 4 and document["calibration"][0]["images"] == 8
    assert document["worse"]["images"] == 4 and document["worse"]["rows"][0]["id"] == "d2"
    assert [line["fold"] for line in document["folds"]["phase3"]] == [0, 1, "mean", "sd"]


def test_false_alarms_on_normals(make_results):
    cv = make_results("phase1")
    for fold, alarm in ((0, 1.0), (1, 0.0)):  # the same two normals, held out with the test set
        rows = [
            {"id": name, "patient": name, "class": "normal", "coarse_dice": math.nan}
            | {"coarse_false_positive": alarm, "coarse_false_positive_area": alarm / 10}
            for name in ("n1", "n2")
        ]
        write_rows(cv.folder / f"phase1/fold{fold}/normal/per_image.csv", rows)
    files = read_results(cv.folder)
    found = make_document(files, score_results(files))
    (line,) = found["normals"]
    assert (line["stage"], line["images"], line["predictions"]) == ("coarse", 2, 4)
    assert (line["rate"]["value"], line["area"]["value"]) == (0.5, 0.05)
    assert found["worse"] is None and found["between"] == []
