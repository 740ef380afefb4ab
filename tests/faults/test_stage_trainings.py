"""Every stage trains, as its users would have it: what the tests of faults then disturb."""

import pytest
from stage_trainings import run_command


@pytest.mark.slow
def test_undisturbed(stage, stage_keys, tmp_path):
    done = run_command(stage, tmp_path, **stage_keys)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "out" / "model.pt").is_file()
