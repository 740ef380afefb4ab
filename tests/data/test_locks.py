"""Locks between processes."""

import subprocess
import sys
import time

import pytest

from ultrarefiner_monai.data.locks import lock

HOLD = """
import sys, time
from pathlib import Path
from ultrarefiner_monai.data.locks import lock
held = lock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(float(sys.argv[2]))
"""


def holding(path, seconds):
    """A process that has the lock already, and ends after `seconds`."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path), str(seconds)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_who_does_not_wait_is_refused(tmp_path):
    process = holding(tmp_path / "new" / "file", 60)
    try:
        with pytest.raises(BlockingIOError):
            lock(tmp_path / "new" / "file", wait=False)
    finally:
        process.kill()
        process.wait()
    lock(tmp_path / "new" / "file", wait=False).close()  # a killed process leaves nothing locked


def test_who_waits_comes_after(tmp_path):
    started = time.monotonic()
    process = holding(tmp_path / "file", 1)
    with lock(tmp_path / "file"):
        assert process.wait() == 0 and time.monotonic() - started >= 1
