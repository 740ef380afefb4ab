"""Fixtures of the tests of reports."""

from collections.abc import Callable
from pathlib import Path

import pytest
from made_studies import MadeStudy


@pytest.fixture(scope="session")
def made_study(tmp_path_factory: pytest.TempPathFactory) -> MadeStudy:
    """A complete study, which tests only read."""
    return MadeStudy(tmp_path_factory.mktemp("made"))


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[..., MadeStudy]:
    """Makes a study of its own, to be damaged."""
    return lambda *phases: MadeStudy(tmp_path / "own", *([phases] if phases else []))
