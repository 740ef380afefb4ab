"""Fixtures shared by all tests."""

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest_plugins = ("dicomweb_study", "forking", "small_engines", "small_releases", "stage_trainings", "trained_models")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_addoption(parser: pytest.Parser) -> None:
    """How many damaged files each parser gets: few by default, 10 000 for a release."""
    parser.addoption("--fuzz-cases", type=int, default=300, help="damaged files for each parser (default: 300)")


@pytest.fixture(scope="session")
def fuzz_cases(request: pytest.FixtureRequest) -> int:
    """Number of damaged files for each parser."""
    return request.config.getoption("--fuzz-cases")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real ultrasound samples beside the checkout; tests that need it skip where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real ultrasound samples (../shared/data) are not beside this checkout")
    return SHARED_DATA


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads what an earlier one, or the user, has cached in the home folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def quiet_logging() -> None:
    """Undo what a bundle's logging.conf does to the whole process, so that no test depends on those before it."""
    root = logging.getLogger()
    root.setLevel(logging.WARNING)
    for handler in [handler for handler in root.handlers if type(handler) is logging.StreamHandler]:
        root.removeHandler(handler)
    for logger in logging.Logger.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            logger.disabled = False


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow takes two seconds for its tables, here once."""
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("store") / "empty.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(autouse=True, scope="session")
def copied_tables(request: pytest.FixtureRequest) -> Iterator[None]:
    """A new SQLite store of this process is a copy of that one; `tests/tracking/test_store.py` has MLflow make its own."""

    def copy(uri: str, database: Path, artifacts: Path) -> None:
        shutil.copy(request.getfixturevalue("migrated_database"), database)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ultrarefiner_monai.tracking.store._make_tables", copy)
        yield


@pytest.fixture
def store(migrated_database: Path, tmp_path: Path) -> str:
    """URI of a fresh SQLite store."""
    return f"sqlite:///{shutil.copy(migrated_database, tmp_path / 'mlruns.db')}"
