"""A headless Chromium that sees this machine only, what it has to complain of, and servers for it to look at."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

FLAGS = (
    "--headless=new",
    "--no-sandbox",  # Chromium's sandbox refuses root, which is who tests in a container
    "--disable-dev-shm-usage",  # containers have 64 MB of it
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--window-size=1400,1000",  # a table shows only the rows that fit
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # whatever a page wants from elsewhere fails, and is seen
)


@contextmanager
def opened_browser(profile: Path) -> "Iterator[Chrome]":
    """Chromium with the empty folder `profile` for its own files; the test is skipped where there is none to drive."""
    pytest.importorskip("selenium", reason="selenium is not installed: pip install -e '.[test]'")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no Chromium with its driver: on Debian apt-get install chromium chromium-driver")
    os.environ.setdefault("SE_OFFLINE", "true")
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = Chrome(options, Service(driver))
    try:
        yield browser
    finally:
        browser.quit()


def displayed(browser: "Chrome", path: str, seconds: float = 30) -> "WebElement":
    """The first element of an XPath that is to be seen, as soon as there is one."""
    from selenium.common.exceptions import StaleElementReferenceException
    from selenium.webdriver.support.ui import WebDriverWait

    def find(browser: "Chrome") -> "WebElement | None":
        return next((found for found in browser.find_elements("xpath", path) if found.is_displayed()), None)

    waiting = WebDriverWait(browser, seconds, 0.2, [StaleElementReferenceException])
    return waiting.until(find, f"nothing to be seen at {path}")


def complaints(browser: "Chrome") -> list[str]:
    """Console messages of level SEVERE since the last call: errors of scripts, and requests that failed."""
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def requests(browser: "Chrome", page: str) -> list[str]:
    """Addresses that `page` has asked for since the last call, itself among them; data within the page is none."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    asked = [request["request"]["url"] for request in sent if request["documentURL"] == page]
    return [url for url in asked if not url.startswith("data:")]


@contextmanager
def served(words: Sequence[str], folder: Path, seconds: float = 90, **environment: str) -> Iterator[str]:
    """Address of a server on a free port of this machine, which `words` with `--port` start in `folder`; then it is ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with TemporaryFile("w+") as output:
        server = subprocess.Popen(
            [*words, "--port", str(port)],
            cwd=folder,
            env=os.environ | environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            if not _answers(f"http://127.0.0.1:{port}/", server, seconds):
                output.seek(0)
                raise TimeoutError(f"{' '.join(words)} does not answer: {output.read()[-2000:]}")
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def _answers(url: str, server: subprocess.Popen, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return True
        except OSError:
            time.sleep(0.5)
    return False
