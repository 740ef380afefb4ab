"""The cache of facts: shared, versioned, and never a reason to stop."""

import logging
from pathlib import Path

import pytest

from ultrarefiner_monai.data.releases.fact_cache import FactCache, cache_folder


def test_facts_come_back(tmp_path: Path) -> None:
    cache = FactCache(tmp_path)
    assert cache.get(["a"]) == {}
    cache.put({"a": {"size": [3, 4]}, "b": 1})
    cache.put({"b": 2})
    assert FactCache(tmp_path).get(["a", "b", "c"]) == {"a": {"size": [3, 4]}, "b": 2}


def test_many_keys_are_asked_in_portions(tmp_path: Path) -> None:
    facts = {f"{n:04}": n for n in range(1501)}
    cache = FactCache(tmp_path)
    cache.put(facts)
    assert cache.get(facts) == facts


def test_no_folder_keeps_nothing() -> None:
    cache = FactCache(None)
    cache.put({"a": 1})
    assert cache.get(["a"]) == {}


def test_a_damaged_cache_is_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = FactCache(tmp_path)
    cache.put({"a": 1})
    cache.path.write_bytes(b"no database" * 100)
    with caplog.at_level(logging.WARNING):
        assert cache.get(["a"]) == {}
    (record,) = caplog.records
    assert "cannot be read" in record.message
    assert str(cache.path) in record.message


def test_a_folder_that_cannot_be_made_is_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    FactCache(tmp_path / "file").put({"a": 1})
    assert "cannot be written" in caplog.text


def test_the_folder_follows_the_users_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "ultrarefiner_monai"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache/ultrarefiner_monai"
