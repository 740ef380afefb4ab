"""A cross-validation that is killed at random and started again ends as an undisturbed one."""

import sys
from pathlib import Path

import pytest

from ultrarefiner_monai.systems import SYSTEMS, find_system

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from soak import soak

pytestmark = [pytest.mark.fault(1), pytest.mark.fault(4)]


def check(rows, kills):
    killed = [row for row in rows if row["ended"] == "killed"]
    ends = [row for row in rows if row["ended"] != "killed"]
    assert len(killed) == kills and ends
    assert [(row["ended"], row["lost"], row["differing"]) for row in ends] == [("complete", 0, "")] * len(ends)


def test_five_kills_in_the_first_stage(tmp_path):
    system = find_system(next(iter(SYSTEMS)))
    check(list(soak(system, tmp_path, 5, seed=1, stages=[system.stages[0].name])), 5)


@pytest.mark.slow
@pytest.mark.parametrize("name", SYSTEMS)
def test_kills_in_all_stages(tmp_path, name):
    check(list(soak(find_system(name), tmp_path, 12, seed=2)), 12)
