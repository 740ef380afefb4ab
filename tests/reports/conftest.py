"""Fixtures of the tests of reports."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from made_studies import MadeStudy

from ultrarefiner_monai.systems import SYSTEMS, System


@pytest.fixture(scope="session")
def made_study(tmp_path_factory: pytest.TempPathFactory) -> MadeStudy:
    """A complete study, which tests only read."""
    return MadeStudy(tmp_path_factory.mktemp("made"))


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[..., MadeStudy]:
    """Makes a study of its own, to be damaged."""
    return lambda *stages: MadeStudy(tmp_path / "own", stages)


@pytest.fixture
def study_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[System], MadeStudy]:
    """Makes a study of a system that is registered for the test."""

    def make(system: System) -> MadeStudy:
        monkeypatch.setitem(SYSTEMS, system.name, f"made_{system.name}")
        monkeypatch.setitem(sys.modules, f"made_{system.name}", SimpleNamespace(SYSTEM=system))
        return MadeStudy(tmp_path / system.name, system=system)

    return make
