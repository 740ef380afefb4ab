"""The site of the pages and docstrings: it builds without a warning, complains of bad links, and needs nothing from elsewhere.

It is built only where the tools are: in the environment of `make docs`, or after pip install -e '.[docs]'.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from browsing import complaints, displayed, opened_browser, requests

ROOT = Path(__file__).resolve().parents[2]
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
PAGES = ("docs/README.html", "docs/reference/api.html", "docs/results/systems.html", "docs/tutorials/quickstart.html")


@pytest.fixture(scope="module", autouse=True)
def tools():
    for module in ("sphinx", "myst_nb", "furo"):
        pytest.importorskip(module, reason="the tools of the site are not installed: pip install -e '.[docs]'")


def build(pages: Path, site: Path) -> subprocess.CompletedProcess:
    words = ["-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going", "-c", str(ROOT / "docs/site")]
    return subprocess.run([sys.executable, *words, str(pages), str(site)], capture_output=True, text=True, timeout=900)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    site = tmp_path_factory.mktemp("built") / "site"
    done = build(ROOT, site)
    assert done.returncode == 0, done.stderr[-3000:]  # of any warning it is not
    return site


@pytest.fixture(scope="module")
def browser(site, tmp_path_factory):
    with opened_browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.mark.slow
def test_pages_and_docstrings_are_in_the_site(site):
    for page in PAGES:
        assert (site / page).is_file()
    api = (site / "docs/reference/api.html").read_text(encoding="utf-8")
    assert 'id="ultrarefiner_monai.load"' in api and "weights are missing, damaged, of different stages" in api
    assert "Alias for field number" not in api


@pytest.mark.slow
@pytest.mark.parametrize("width", ["desktop", "phone"])
def test_pages_load_nothing_from_elsewhere_and_fit(browser, site, width):
    if width == "phone":
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    for name in PAGES:
        page = (site / name).as_uri()
        browser.get(page)
        assert [url for url in requests(browser, page) if not url.startswith(site.as_uri())] == []
        assert complaints(browser) == []
        seen = browser.execute_script("return document.documentElement.scrollWidth - window.innerWidth")
        assert seen <= 0, f"{name} is {seen} pixels too wide"
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.slow
def test_search_works_from_files(browser, site):
    browser.get(f"{(site / 'search.html').as_uri()}?q=letterbox")
    displayed(browser, "//a[contains(@href, 'api.html#ultrarefiner_monai.transforms.letterbox')]")
    assert complaints(browser) == []


@pytest.mark.slow
def test_the_index_leads_to_the_first_page(browser, site):
    browser.get((site / "index.html").as_uri())
    displayed(browser, "//h1[contains(., 'Documentation')]")


@pytest.mark.slow
def test_links_that_lead_nowhere_end_the_build(tmp_path):
    """Two planted ones, among pages of a small folder: they, and not the good ones, are told."""
    pages = tmp_path / "docs"
    pages.mkdir()
    shutil.copytree(ROOT / "docs" / "site", pages / "site")
    (pages / "concepts.md").write_text("# One `two`, three\n")
    (pages / "README.md").write_text(
        "# First\n[1](concepts.md#one-two-three) [2](concepts.md#four) [3](five.md) [4](https://example.org/x)\n"
    )
    done = build(tmp_path, tmp_path / "out")
    told = [line for line in done.stderr.splitlines() if "myst.xref_missing" in line]
    assert done.returncode != 0 and len(told) == 2
    assert "'four'" in told[0] and "five.md" in told[1]
