"""The fuzzer itself finds what it is there to find."""

import os
import time

import pytest
from fuzzing import HOSTILE, fuzz, mutated_bytes, mutated_document

from ultrarefiner_monai.errors import DataError


def refuse(case):
    raise DataError(f"{case}: refused")


class WordyError(Exception):
    """An error of ours that is not one line."""


def refuse_in_two_lines(case):
    raise WordyError("first\nsecond")


def busy(case):
    end = time.monotonic() + 2.1
    while time.monotonic() < end:
        pass


@pytest.mark.parametrize(
    ("parse", "expected"),
    [
        (lambda case: 1 // 0, "ZeroDivisionError"),
        (refuse_in_two_lines, "not one line"),
        (lambda case: bytearray(600 * 2**20), "600 MiB"),
        (lambda case: bytearray(2**34), "MemoryError"),
        (lambda case: os.kill(os.getpid(), 9), "died with status 9"),
        (busy, "2.1 s"),
    ],
)
def test_each_kind_of_fault_is_found(parse, expected):
    outcome = fuzz(parse, lambda generator: 0, 1, (DataError, WordyError))
    assert len(outcome.faults) == 1 and "seed 0" in outcome.faults[0] and expected in outcome.faults[0]


def test_a_machine_that_stalls_once_is_no_fault():
    seen = []

    def stalls_once(case):
        seen.append(case)
        if len(seen) == 1:
            busy(case)

    outcome = fuzz(stalls_once, lambda generator: 0, 1, (DataError,))
    assert outcome.read == 1 and outcome.worst_seconds < 1 and not outcome.faults


def test_what_is_read_and_refused_is_counted():
    outcome = fuzz(
        lambda case: refuse(case) if case > 0.5 else None, lambda generator: generator.random(), 50, (DataError,)
    )
    assert outcome.read + outcome.refused == 50 and min(outcome.read, outcome.refused) > 10 and not outcome.faults


def test_mutants_differ_and_come_again():
    import random

    content = bytes(range(256))
    mutants = [mutated_bytes(content, random.Random(seed)) for seed in range(100)]
    assert len(set(mutants)) > 95 and mutants[7] == mutated_bytes(content, random.Random(7))
    document = {"a": [1, {"b": "c"}], "d": None}
    changed = [mutated_document(document, random.Random(seed)) for seed in range(300)]
    assert document == {"a": [1, {"b": "c"}], "d": None}
    assert sum(found == document for found in changed) < 60
    assert any(str(found).count("_target_") for found in changed) and len(HOSTILE) > 20
