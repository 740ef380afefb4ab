"""What a person sees: phases and folds side by side in the MLflow UI, and the report of a cross-validation."""

import base64
import json
import re
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from browsing import complaints, displayed, opened_browser, requests, served
from untrained_results import make_results

from ultrarefiner_monai.data.manifests.duplicate_report import write_report
from ultrarefiner_monai.data.releases.copies.pairs import SAME_FRAME, TABLE, CopyPair
from ultrarefiner_monai.reports.report import report
from ultrarefiner_monai.tracking.pages import comparison_page

BIN = Path(sys.executable).parent
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
EXPERIMENT = '["1"]'  # the first after MLflow's own
PLANTED = """<!DOCTYPE html><img src="http://elsewhere.example/pixel.png"><script>throw new Error("planted")</script>"""
UNSHARP = """return [...document.images].filter(
    it => !it.naturalWidth || (it.src.startsWith('data:image/png') && it.naturalWidth < it.width)).map(it => it.alt)"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with opened_browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def browser(chromium):
    """With an empty page, and nothing left to say of those before it."""
    chromium.get("about:blank")
    complaints(chromium)
    return chromium


@pytest.fixture(scope="module")
def cv(chromium, tmp_path_factory):
    """Made only where there is a browser to look at it."""
    return make_results(tmp_path_factory.mktemp("browsed"))


@pytest.fixture(scope="module")
def mlflow_ui(cv, tmp_path_factory):
    """Address of the MLflow UI over the cross-validation's store, without what MLflow has for jobs of its own."""
    command = [str(BIN / "mlflow"), "ui", "--backend-store-uri", cv.shared["tracking_uri"], "--workers", "1"]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with served(command, tmp_path_factory.mktemp("ui"), **quiet) as address:
        yield address


@pytest.fixture(scope="module")
def report_page(cv, tmp_path_factory):
    """Address of the cross-validation's report, and nothing else in its folder."""
    return report(cv.out, tmp_path_factory.mktemp("report") / "report.html").as_uri()


def own_complaints(browser):
    """MLflow asks itself who the user is, and gets 404 where there are no users."""
    return [message for message in complaints(browser) if "/users/current" not in message]


def choose(browser, axis, name):
    displayed(browser, f"//button[@id='{axis}-axis-selector']").click()
    displayed(browser, f"//*[@role='option'][.='{name}']").click()


def test_what_a_page_must_not_do_is_noticed(browser, tmp_path):
    page = tmp_path / "planted.html"
    page.write_text(PLANTED)
    browser.get(page.as_uri())
    assert requests(browser, page.as_uri()) == [page.as_uri(), "http://elsewhere.example/pixel.png"]
    found = "\n".join(complaints(browser))
    assert "planted" in found and "pixel.png" in found
    assert len(browser.execute_script(UNSHARP)) == 1


def test_runs_are_found_and_compared_by_clicking(browser, mlflow_ui, cv):
    browser.get(f"{mlflow_ui}/#/experiments")
    displayed(browser, "//*[text()='Model training']").click()
    displayed(browser, "//a[text()='PHANTOM']").click()
    displayed(browser, "//button[contains(@data-component-id, 'runnamecell')]").click()  # opens the parent run
    for phase in cv.stages:
        for fold in (0, 1):
            displayed(browser, f"//a[.='{phase}-fold{fold}-seed42']")
    displayed(browser, "//input[@aria-label='Select all runs']/..").click()
    displayed(browser, "//button[.='Compare']").click()
    displayed(browser, "//*[.='Comparing 7 Runs from 1 Experiment']")
    assert own_complaints(browser) == []


def test_ui_opens_the_page_of_a_data_sets_trainings(browser, cv, tmp_path):
    """Not MLflow's own first page; the trainings lie below the cross-validation that they belong to."""
    words = [sys.executable, "-m", "ultrarefiner_monai", "ui", "PHANTOM", "--tracking_uri", cv.shared["tracking_uri"]]
    with served(words, tmp_path) as address:
        browser.get(comparison_page(address, cv.shared["tracking_uri"], "PHANTOM"))
        displayed(browser, "//button[contains(@data-component-id, 'runnamecell')]").click()
        for phase in cv.stages:
            displayed(browser, f"//a[.='{phase}-fold0-seed42']")
        assert own_complaints(browser) == []


def test_phases_stand_side_by_side_in_a_plot(browser, mlflow_ui, cv):
    files = [cv.folder(phase, fold) / "mlflow_run.json" for phase in cv.stages for fold in (0, 1)]
    runs = json.dumps([json.loads(file.read_text())["run_id"] for file in files])
    browser.get(f"{mlflow_ui}/#/compare-runs?runs={quote(runs)}&experiments={quote(EXPERIMENT)}")
    displayed(browser, "//*[.='Comparing 6 Runs from 1 Experiment']")
    displayed(browser, "//*[@role='tab'][.='Box Plot']").click()
    choose(browser, "x", "phase")
    for metric, phases in (
        ("val_coarse_dice", ["phase1", "phase2", "phase3"]),
        ("val_refined_dice", ["phase2", "phase3"]),
    ):
        choose(browser, "y", metric)
        displayed(browser, f"//*[name()='text'][.='{metric}']")
        ticks = browser.find_elements("css selector", ".xtick text")
        assert sorted(tick.text for tick in ticks) == phases
    assert own_complaints(browser) == []


def test_the_report_loads_nothing_and_complains_of_nothing(browser, report_page):
    browser.get(report_page)
    assert requests(browser, report_page) == [report_page]
    assert complaints(browser) == []


def test_the_figures_of_the_report_are_there_and_sharp(browser, report_page):
    browser.get(report_page)
    assert len(browser.find_elements("css selector", "img")) > 10
    assert browser.execute_script(UNSHARP) == []


def test_the_report_fits_a_phone(browser, report_page):
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    browser.get(report_page)
    width = browser.execute_script("return document.documentElement.scrollWidth")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert width == PHONE["width"]


def test_the_report_prints_on_pages(browser, report_page):
    browser.get(report_page)
    printed = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})["data"])
    assert printed.startswith(b"%PDF") and len(re.findall(rb"/Type /Page\b", printed)) > 1


def test_a_tick_leaves_the_clusters_with_opposite_labels(browser, make_record, tmp_path):
    labels = {"a": "benign", "b": "malignant", "c": "benign", "x": "normal", "y": "normal"}
    a, b, c, x, y = (make_record(name, label) for name, label in labels.items())
    pairs = [CopyPair(one, other, SAME_FRAME, TABLE, 0.9) for one, other in ((a, b), (b, c), (x, y))]
    write_report(pairs, None, tmp_path)
    page = (tmp_path / "duplicates.html").as_uri()

    def shown():
        names = browser.find_elements("css selector", "figcaption b")
        return [name.text for name in names if name.is_displayed()]

    browser.get(page)
    assert shown() == ["a", "b", "c", "x", "y"]
    tick = displayed(browser, "//label[contains(., 'only clusters with opposite labels')]/input")
    tick.click()
    assert shown() == ["a", "b", "c"]
    tick.click()
    assert shown() == ["a", "b", "c", "x", "y"]
    assert requests(browser, page) == [page] and complaints(browser) == []
