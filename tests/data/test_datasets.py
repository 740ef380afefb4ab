"""Names of single and combined data sets."""

import pytest

from ultrarefiner_monai.data.datasets import parts_of
from ultrarefiner_monai.errors import DataError


def test_parts() -> None:
    assert parts_of("BUSI") == ["BUSI"]
    assert parts_of("BUSI+BUSBRA+BUS_UCLM") == ["BUSI", "BUSBRA", "BUS_UCLM"]
    assert parts_of("MYSET") == ["MYSET"]
    assert parts_of("BUSBRA+2024+my-set_2") == ["BUSBRA", "2024", "my-set_2"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("busbra", "unknown dataset 'busbra': did you mean 'BUSBRA'"),
        ("BUSI+bus-uclm", "unknown dataset 'bus-uclm': did you mean 'BUS_UCLM'"),
        ("BUSI+", "unknown dataset ''"),
        ("BUSBRA+BUSI", r"in this order: BUSI\+BUSBRA"),
        ("BUSI+BUSI", "name each once"),
        ("MYSET+BUSI", r"in this order: BUSI\+MYSET"),
        ("ZWEI+EINS", r"in this order: EINS\+ZWEI"),
        ("ALL", "unknown dataset 'ALL': expected one of"),
        ("../MYSET", "or a name of your own of up to 64"),
        ("my set", "or a name of your own"),
        ("MYSET.json", "or a name of your own"),
        ("MYSET\n", "or a name of your own"),
        ("-x", "or a name of your own"),
        ("x" * 65, "or a name of your own"),
    ],
)
def test_other_names_are_refused(name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parts_of(name)
