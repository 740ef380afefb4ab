"""JSON that is none, or that asks for much, ends in one line within seconds."""

import json
import os
import random
from pathlib import Path

import pytest
from fuzzing import fuzz

from ultrarefiner_monai.data.manifests.manifest import load_manifest
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.files import parse_json, read_json, write_json
from ultrarefiner_monai.files.documents import MAX_BYTES, MAX_VALUES
from ultrarefiner_monai.schemas import MAX_DEPTH

pytestmark = pytest.mark.fault(25)
SOUND = b'{"a": 1}'
CASES = {
    "NaN": (b'{"a": NaN}', "NaN is no number"),
    "infinity": (b'{"a": [-Infinity]}', "-Infinity is no number"),
    "overflow": (b'{"a": [1, 1e999]}', r"a\[1\]: a number that is not finite"),
    "large": (b'{"a": 1' + b"0" * 30 + b"}", "a: a whole number of more than 64 bits"),
    "digits": (b'{"a": ' + b"9" * 5000 + b"}", r"Exceeds the limit \(4300 digits\)"),
    "levels": (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), f"more than {MAX_DEPTH} levels"),
    "deep": (b"[" * 100_000 + b"]" * 100_000, "maximum recursion depth exceeded|levels"),
    "deep objects": (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "maximum recursion depth exceeded|levels"),
    "twice": (b'{"a": 1, "b": {"c": 1, "c": 2}}', "key 'c' stands there twice"),
    "surrogate": (b'{"a": "\\ud800"}', r"a: half of a surrogate pair in '\\ud800'"),
    "surrogate key": (b'{"\\udfff": 1}', r"half of a surrogate pair in '\\udfff'"),
    "latin-1": (b'{"a": "\xe9"}', "codec can't decode"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "codec can't decode"),
    "mark": (b"\xef\xbb\xbf" + SOUND, "BOM"),
    "cut": (b'{"a": "b', "Unterminated string"),
    "twice written": (SOUND + SOUND, "Extra data"),
    "many": (b"[" + b"0," * MAX_VALUES + b"0]", "more than 1,500,000 values"),
    "long": (b" " * (MAX_BYTES + 1), "more than 64 MiB"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_no_file_of_ours_holds_is_told_in_one_line(name, tmp_path):
    content, message = CASES[name]
    path = tmp_path / "a.json"
    path.write_bytes(content)
    for read in (lambda: read_json(path, dict, "write it again"), lambda: load_manifest(path)):
        with pytest.raises(DataError, match=message) as caught:
            read()
        assert "a.json" in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_neither_folders_nor_devices_nor_pipes_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(DataError, match="no regular file"):
            read_json(path, dict, "name a file")
        with pytest.raises(DataError, match="no regular file"):
            load_manifest(path)


@pytest.mark.parametrize(
    "part", [b"[],", b"{},", b'{"a":0},', b"0.5,", b'"a",', b'{"a":{"b":[]}},', b'"' + b"a" * 1000 + b'",']
)
def test_the_largest_file_costs_little(part):
    """Within the limits of bytes and values nothing asks for more than two seconds of work and 512 MiB."""
    weight = sum(map(part.count, (b",", b"[", b"{")))
    count = min((MAX_VALUES - 2) // weight, (MAX_BYTES - 4) // len(part))

    content = b"[" + part * count + b"0]"
    outcome = fuzz(lambda case: parse_json(content), lambda generator: 0, 1, (DataError,))
    assert not [fault for fault in outcome.faults if "MemoryError" in fault or "died" in fault], outcome.faults
    print(f"{part[:12]!r} x {count}: {outcome}")
    assert outcome.worst_mib < 512


def test_what_is_written_is_read_again(tmp_path):
    generator = random.Random(0)

    def value(depth: int) -> object:
        kinds = [None, True, generator.random(), generator.randint(-(2**60), 2**60), "é 5 % @ 3 $", ""]
        if depth < 4 and generator.random() < 0.5:
            parts = [value(depth + 1) for _ in range(3)]
            return parts if generator.random() < 0.5 else {str(n): part for n, part in enumerate(parts)}
        return generator.choice(kinds)

    for _ in range(100):
        content = {"content": value(0)}
        write_json(tmp_path / "a.json", content)
        assert read_json(tmp_path / "a.json", dict, "") == content == json.loads((tmp_path / "a.json").read_text())
