"""Fixtures of the tests of reports."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from made_results import MadeResults

from ultrarefiner_monai.systems import SYSTEMS, System


@pytest.fixture(scope="session")
def made_results_folder(tmp_path_factory: pytest.TempPathFactory) -> MadeResults:
    """A complete cross-validation, which tests only read."""
    return MadeResults(tmp_path_factory.mktemp("made"))


@pytest.fixture
def make_results(tmp_path: Path) -> Callable[..., MadeResults]:
    """Makes a cross-validation of its own, to be damaged."""
    return lambda *stages: MadeResults(tmp_path / "own", stages)


@pytest.fixture
def study_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[System], MadeResults]:
    """Makes a cross-validation of a system that is registered for the test."""

    def make(system: System) -> MadeResults:
        monkeypatch.setitem(SYSTEMS, system.name, f"made_{system.name}")
        monkeypatch.setitem(sys.modules, f"made_{system.name}", SimpleNamespace(SYSTEM=system))
        return MadeResults(tmp_path / system.name, system=system)

    return make
