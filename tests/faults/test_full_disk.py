"""A full disk and a read-only folder: every verb says so in one line, and leaves what was there as it was."""

import re

import pytest
from small_disks import fill, make_read_only
from verbs import NO_FILE, WRITING, Done, files_of, prepare, run_verb, verb_of, verbs, words_of

TRAININGS = {"quickstart", "cv"}
QUICK = sorted(WRITING.keys() - TRAININGS)
LARGE = {
    "phantom",
    "bundles",
    *(verb for verb in WRITING if verb.startswith("export")),
}  # the disk fills while they write
NEXT_STEP = re.compile(r"free |name another|writable|make it|choose another")


def test_every_verb_is_tried():
    """A new verb needs its words in verbs.py."""
    assert {*map(verb_of, WRITING)} | NO_FILE == set(verbs())


def refused(done: Done, path: object) -> str:
    """The one line of a verb that was refused by the disk."""
    assert done.code == 1 and "Traceback" not in done.err, done
    line = done.err.rstrip("\n").splitlines()[-1]
    assert str(path) in line and NEXT_STEP.search(line), done.err
    return line


def check_refusal(verb, given, disk, cwd, limit=None):
    """The verb is refused in one line, and what lies on the disk is as it was."""
    before = files_of(disk)
    done = run_verb(words_of(verb, given, disk), cwd, limit)
    assert done.err == f"{refused(done, disk)}\n", done.err
    assert files_of(disk) == before


@pytest.mark.fault(26)
@pytest.mark.parametrize("verb", QUICK)
def test_a_full_disk(verb, given, small_disk, tmp_path):
    disk = small_disk("1m")
    prepare(given, disk)
    fill(disk, room=8192 if verb in LARGE else 0)
    check_refusal(verb, given, disk, tmp_path)


@pytest.mark.fault(26)
@pytest.mark.parametrize("verb", QUICK)
def test_a_read_only_folder(verb, given, small_disk, tmp_path):
    disk = small_disk("1m")
    prepare(given, disk)
    make_read_only(disk)
    check_refusal(verb, given, disk, tmp_path)


@pytest.mark.fault(26)
@pytest.mark.parametrize("verb", QUICK)
def test_files_that_may_not_grow(verb, given, tmp_path):
    """As on a full disk, where no file system may be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    prepare(given, disk)
    check_refusal(verb, given, disk, tmp_path, limit=0)


@pytest.mark.fault(26)
@pytest.mark.parametrize("verb", QUICK)
def test_a_file_in_place_of_a_folder(verb, given, tmp_path):
    disk = tmp_path / "disk"
    disk.write_bytes(b"mine")
    done = run_verb(words_of(verb, given, disk), tmp_path)
    assert done.err == f"{refused(done, disk)}\n", done.err
    assert disk.read_bytes() == b"mine"


@pytest.mark.fault(26)
@pytest.mark.parametrize("verb", [*sorted(NO_FILE), "bundles", "compare"])
def test_a_full_disk_behind_standard_output(verb, given, tmp_path):
    named = {"compare": [given.study, given.study], "ui": ["--tracking_uri", f"sqlite:///{given.store}"]}
    words = [verb, *named.get(verb, [])]
    done = run_verb(words, tmp_path, stdout="/dev/full")
    assert done.err == f"{refused(done, 'standard output')}\n"
