"""Names of single and combined data sets."""

import pytest

from ultrarefiner_monai.data.datasets import parts_of
from ultrarefiner_monai.errors import DataError


def test_parts() -> None:
    assert parts_of("BUSI") == ["BUSI"]
    assert parts_of("BUSI+BUSBRA+BUS_UCLM") == ["BUSI", "BUSBRA", "BUS_UCLM"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("busbra", "unknown dataset 'busbra': did you mean 'BUSBRA'"),
        ("BUSI+bus-uclm", "unknown dataset 'bus-uclm': did you mean 'BUS_UCLM'"),
        ("BUSI+", "unknown dataset ''"),
        ("BUSBRA+BUSI", r"in this order: BUSI\+BUSBRA"),
        ("BUSI+BUSI", "name each once"),
    ],
)
def test_other_names_are_refused(name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parts_of(name)
