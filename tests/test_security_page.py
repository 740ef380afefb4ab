"""What the page on security says of dependencies and servers is what there is."""

import re
from configparser import ConfigParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "explanation" / "security.md").read_text()
ROW = re.compile(r"^\| ([A-Za-z0-9-]+) \| ([0-9.]+) \| (.*(?:CVE|GHSA)-.*) \|$", re.MULTILINE)
ADVISORY = re.compile(r"(CVE-\d{4}-\d{4,}|GHSA(?:-[0-9a-z]{4}){3}) (\d[\d.]*)")
FLOORS, PINS = (
    {name.lower(): (release, told) for name, release, told in ROW.findall(part)}
    for part in PAGE.split("pinned to the release")
)


def pinned(path: str) -> dict[str, str]:
    lines = (ROOT / path).read_text().splitlines()
    return {name.lower(): release for name, _, release in (line.partition("==") for line in lines) if release}


@pytest.fixture(scope="module")
def required() -> dict[str, Requirement]:
    """What setup.cfg asks for, all extras included."""
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    found = [Requirement(line) for text in lines for line in text.split("\n") if line and not line.startswith("%")]
    return {requirement.name.lower(): requirement for requirement in found}


@pytest.mark.parametrize("name", FLOORS)
def test_a_floor_is_that_of_setup_cfg_and_mends_its_advisories(name, required):
    floor, told = FLOORS[name]
    assert str(required[name].specifier) == f">={floor}"
    assert Version(pinned("constraints.txt")[name]) in required[name].specifier
    assert ADVISORY.findall(told)
    assert all(Version(mended) <= Version(floor) for _, mended in ADVISORY.findall(told))


@pytest.mark.parametrize("name", PINS)
def test_a_pin_is_that_of_the_app_and_mends_its_advisories(name):
    release, told = PINS[name]
    assert pinned("ultrarefiner_monai/deploy/monailabel/app/requirements.txt")[name] == release
    assert all(Version(mended) <= Version(release) for _, mended in ADVISORY.findall(told))


def test_the_app_is_no_older_than_the_floors():
    older = {"pydicom"}  # MONAI Label does not run with pydicom 3, which the page says
    pins = pinned("ultrarefiner_monai/deploy/monailabel/app/requirements.txt")
    assert "needs pydicom 2" in PAGE
    for name in FLOORS.keys() & pins.keys() - older:
        assert Version(pins[name]) >= Version(FLOORS[name][0]), name


def test_all_constraints_satisfy_setup_cfg(required):
    pins = pinned("constraints.txt")
    assert [
        name for name, wanted in required.items() if name in pins and Version(pins[name]) not in wanted.specifier
    ] == []


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda path: path.name
)
def test_no_command_opens_a_server_to_everybody(path):
    if path.name == "container.md":  # inside a container, whose port is published to 127.0.0.1
        assert len(re.findall(r"--publish 127\.0\.0\.1:\d+:\d+", path.read_text())) == 2
        return
    for block in path.read_text().split("```")[1::2]:
        hosts = re.findall(r"--(?:host|dashboard-host)[ =](\S+)", block)
        assert set(hosts) <= {"127.0.0.1"} and "--bind_all" not in block
        assert "start_server" not in block or hosts


def test_the_container_wants_a_password_and_no_root():
    recipe = (ROOT / "Dockerfile").read_text()
    stages = re.split(r"^FROM ", recipe, flags=re.MULTILINE)
    label = next(stage for stage in stages if stage.startswith("python AS monailabel"))
    assert re.search(r"ULTRAREFINER_TOKEN=$", label, re.MULTILINE)
    for stage in stages:
        if "ENTRYPOINT" in stage or "CMD" in stage:
            assert "USER 1000:1000" in stage
    base = re.search(r"^ARG BASE=(\S+)$", recipe, re.MULTILINE)
    assert base and re.search(r":\d+\.\d+\.\d+-|@sha256:", base[1])
