"""Mapping in threads keeps the order and passes errors on."""

import pytest

from ultrarefiner_monai.parallel import in_parallel


@pytest.mark.parametrize("workers", [None, 1, 3])
def test_results_come_in_the_order_of_the_values(workers: int | None) -> None:
    assert in_parallel(lambda value: value * 2, range(100), workers) == [value * 2 for value in range(100)]


def test_an_error_reaches_the_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        in_parallel(lambda value: 1 // value, [1, 0, 2])


def test_the_bar_is_drawn_on_terminals_only(capfd, monkeypatch) -> None:
    in_parallel(str, range(3), progress="reading")
    assert capfd.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    in_parallel(str, range(3), progress="reading")
    assert "reading: 100%" in capfd.readouterr().err
