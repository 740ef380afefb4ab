"""What users are told, in one line."""

import pytest

from ultrarefiner_monai.errors import DataError, did_you_mean, one_line, one_line_errors, raise_problems, shown


def test_another_librarys_error_is_one_short_line():
    assert one_line(ValueError("a\n  b")) == "a b"
    assert one_line(ValueError()) == "ValueError"
    assert len(one_line(ValueError("x" * 1000))) == 200


@pytest.mark.parametrize(
    ("names", "separator", "text"),
    [
        ("", ", ", ""),
        ("ab", ", ", "a, b"),
        ("abc", ", ", "a, b and 1 more"),
        ("abcd", "; ", "a; b; and 2 more"),
    ],
)
def test_long_lists_are_cut_and_counted(names, separator, text):
    assert shown(names, 2, separator) == text


def test_the_nearest_name_or_all_of_them():
    assert did_you_mean("epoch", ["epochs", "seed"]) == "did you mean 'epochs'?"
    assert did_you_mean("xyz", ["epochs", "seed"]) == "expected one of epochs, seed"


def test_all_problems_are_kept_and_no_problem_is_no_error():
    raise_problems("manifest", [])
    with pytest.raises(DataError, match=r"^manifest: 0; 1; .*; and 5 more$") as caught:
        raise_problems("manifest", map(str, range(25)))
    assert caught.value.problems == tuple(map(str, range(25)))


def test_a_users_mistake_ends_the_program_and_ours_does_not_hide():
    @one_line_errors
    def fail(error):
        raise error

    with pytest.raises(SystemExit, match="told"):
        fail(DataError("told"))
    with pytest.raises(KeyError):
        fail(KeyError("ours"))
