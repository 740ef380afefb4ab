"""What is named as an input and cannot be read: one line, soon, and nothing is written, whatever the verb."""

import os

import pytest
from verbs import NO_INPUT, READING, run_verb, verb_of, verbs

pytestmark = pytest.mark.fault(26)


def absent(path):
    """Nothing is there."""


def a_folder_or_file(path):
    """A folder where a file is expected, and the other way round."""
    path.mkdir() if path.suffix else path.write_bytes(b"")


def a_pipe(path):
    """Reading it would wait for a writer for ever."""
    os.mkfifo(path)


def a_loop(path):
    path.symlink_to(path.name)


def a_link_to_nothing(path):
    path.symlink_to("vanished")


MAKERS = (absent, a_folder_or_file, a_pipe, a_loop, a_link_to_nothing)


def test_every_verb_is_tried():
    """A new verb needs its words in verbs.py."""
    assert {*map(verb_of, READING)} | NO_INPUT == set(verbs())


def refused(done):
    assert done.code in (1, 2) and "Traceback" not in done.err and done.err.count("\n") == 1, done
    return done.err


def tried(way, given, path, cwd):
    """What a verb says of the path; it writes nothing."""
    before = sorted(cwd.rglob("*"))
    line = refused(run_verb([*verb_of(way).split(), *READING[way][1](given, path)], cwd))
    assert sorted(cwd.rglob("*")) == before
    return line


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("way", READING)
def test_what_is_no_such_thing(way, make, given, tmp_path):
    path = tmp_path / f"input{READING[way][0]}"
    make(path)
    tried(way, given, path, tmp_path)


@pytest.mark.parametrize("way", READING)
def test_a_place_that_cannot_be(way, given, tmp_path):
    """A name longer than file systems take, and a file in place of a folder."""
    suffix = READING[way][0]
    tried(way, given, tmp_path / f"{'x' * 300}{suffix}", tmp_path)
    tried(way, given, given.picture / f"input{suffix}", tmp_path)
