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
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

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
def served(words: Sequence[str], folder: Path, log: Path, seconds: float = 90) -> Iterator[str]:
    """Address of a server on a free port of this machine, which `words` with `--port` start in `folder`; then it is ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with log.open("w") as output:
        server = subprocess.Popen(
            [*words, "--port", str(port)], cwd=folder, stdout=output, stderr=output, start_new_session=True
        )
    try:
        _wait_for(f"http://127.0.0.1:{port}/", server, log, seconds)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _wait_for(url: str, server: subprocess.Popen, log: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise TimeoutError(f"{url} does not answer: {log.read_text()[-2000:]}")
